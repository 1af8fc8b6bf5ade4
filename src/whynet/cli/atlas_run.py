"""`whynet atlas run`: claims with their controls, into stores that resume."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from whynet.core.budget import parse_seconds
from whynet.core.errors import InputError

if TYPE_CHECKING:
    from whynet.atlas.execution import Execution
    from whynet.atlas.registry import ClaimEntry
    from whynet.atlas.run import Record
    from whynet.core.claim import Grid

MANY = 100_000
"""Cells of a grid from which on `--yes` is asked for."""


OUT = "out/atlas"
"""Where the stores go, where nothing else is said."""


def check_choice(arguments: argparse.Namespace) -> None:
    """Refuse a claim and --all together, and neither."""
    if arguments.all == (arguments.claim is not None):
        found = "neither a claim nor --all" if arguments.claim is None else "a claim and --all"
        raise InputError("ID", found, "one of the two")


def run_claims(arguments: argparse.Namespace) -> int:
    """Run one claim or all, write their pages and the index; returns the exit code."""
    from whynet.atlas.pages import write_pages
    from whynet.cli.output import print_json, print_line

    began = time.monotonic()
    plan = _plan(arguments)
    execution = _execution(arguments)
    arguments.out = arguments.out or OUT
    out = Path(arguments.out)
    records = []
    for entry, grid in plan:
        if arguments.budget is not None:  # of all claims together
            left = max(0.0, began + parse_seconds(arguments.budget) - time.monotonic())
            execution = dataclasses.replace(execution, budget=left)
        record = _run(entry, grid, out / entry.id, execution, arguments)
        records.append(record)
        if not arguments.quiet and not arguments.json:
            _show(record)
        if record.interrupted:
            break
    if arguments.json:
        print_json([_content(record) for record in records])
    index = write_pages(out, [out / record.entry.id for record in records])
    if not arguments.quiet and not arguments.json:
        print_line(f"report: {index}")
    return _code(records, arguments)


def _plan(arguments: argparse.Namespace) -> list[tuple[ClaimEntry, Grid]]:
    """Return what to run; every mistake is found before anything is."""
    from whynet.atlas.registry import claims, find_claim
    from whynet.cli.atlas import parse_axes
    from whynet.core.claim import grid_of

    rest = list(getattr(arguments, "rest", ()))
    if arguments.all and rest:
        raise InputError(rest[0], "a parameter beside --all", "one claim, or no parameters")
    entries = list(claims().values()) if arguments.all else [find_claim(arguments.claim)]
    plan = []
    for entry in entries:
        axes = parse_axes(rest, entry.metadata)
        seeds = arguments.seeds, arguments.first_seed
        grid = grid_of(entry.id, entry.metadata, arguments.scale, axes, *seeds)
        cells = len(grid) * (1 + len(entry.metadata.controls))
        if cells > MANY and not arguments.yes:
            raise InputError("--yes", f"a grid of {cells:,} cells, controls included", "--yes")
        plan.append((entry, grid))
    return plan


def _execution(arguments: argparse.Namespace) -> Execution:
    from whynet.atlas.execution import Execution

    timeout, budget = arguments.cell_timeout, arguments.budget
    return Execution(
        workers=arguments.workers,
        scheduler=arguments.scheduler,
        insecure_cluster=arguments.insecure_cluster,
        timeout=None if timeout is None else parse_seconds(timeout, "--cell-timeout"),
        retry_failed=arguments.retry_failed,
        budget=None if budget is None else parse_seconds(budget),
    )


def _run(
    entry: ClaimEntry,
    grid: Grid,
    folder: Path,
    execution: Execution,
    arguments: argparse.Namespace,
) -> Record:
    from whynet.atlas.pages import keep
    from whynet.atlas.run import grids_of, run_claim
    from whynet.cli.progress import bars

    with bars(arguments.quiet or arguments.json) as shown:
        record = run_claim(
            entry,
            grids_of(entry, grid),
            folder,
            execution=execution,
            progress=lambda done, total, what: shown.ran(f"{entry.id} {what}", done, total),
            announce=shown.announce,
        )
    keep(record, folder)
    return record


def _show(record: Record) -> None:
    from whynet.cli.output import print_line

    print_line(f"{record.entry.id}: {record.verdict.state}. {record.verdict.sentence}")
    for name, found in record.verdict.controls.items():
        print_line(f"  control {name}: {found.state}. {found.sentence}")


def _content(record: Record) -> dict[str, object]:
    return {
        "claim": record.entry.id,
        "state": record.verdict.state,
        "sentence": record.verdict.sentence,
        "controls": {name: found.state for name, found in record.verdict.controls.items()},
        "failed": len(record.failed),
        "stopped": record.stopped,
    }


def _code(records: list[Record], arguments: argparse.Namespace) -> int:
    from whynet.atlas.page import run_command
    from whynet.cli import main
    from whynet.cli.output import say

    if records and records[-1].interrupted:
        again = f"{run_command(records[-1])} --out {arguments.out}"
        say(f"interrupted; what was finished is kept. Again: {again}")
        return main.INTERRUPTED
    for record in records:
        if record.failed:
            say(f"{len(record.failed):,} cells failed in {record.entry.id}; its page says why")
    for why in dict.fromkeys(record.stopped for record in records if record.stopped):
        which = [record.entry.id for record in records if record.stopped == why]
        were = "was" if len(which) == 1 else "were"
        say(f"{', '.join(which)} {were} not run to the end ({why}); the same command goes on")
    other = [r.entry.id for r in records if arguments.expect not in (None, r.verdict.state)]
    if other:
        say(f"not {arguments.expect}: {', '.join(other)}")
        return main.CONDITION
    partly = any(record.failed or record.stopped for record in records)
    return main.PARTLY if partly else main.DONE
