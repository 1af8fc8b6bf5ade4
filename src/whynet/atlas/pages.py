"""The folder of an atlas: stores of claims side by side, their pages, and the index."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from whynet.atlas.journal import Identity, Journal
from whynet.atlas.judging import CLAIM, verdict_of
from whynet.atlas.page import Row, drawn_figures, render_claim, render_index
from whynet.atlas.registry import ClaimEntry, claims, load_claim
from whynet.atlas.run import Record, tables_of
from whynet.core.claim import Grid, Value
from whynet.core.errors import InputError, StoreError

RUN, PAGE, INDEX, FIGURES = "run.json", "page.html", "index.html", "figures"
"""Beside a journal: what was asked and found; its page; its figures as SVG and PDF; and above them
the index."""

SCHEMA_VERSION = "1.0"

MOST_BYTES = 2**24
"""Of a `run.json`: it may come from anyone."""

STATES = ("supported", "refuted", "inconclusive", "not applicable")


def keep(record: Record, folder: Path) -> None:
    """Write what a run was asked and found, its page and its figures, beside its journal."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "claim": record.entry.id,
        "concept": record.entry.concept,
        "title": record.entry.metadata.title,
        "answers": list(record.entry.metadata.answers),
        "version": record.entry.metadata.version,
        "source": record.entry.source,
        "state": record.verdict.state,
        "sentence": record.verdict.sentence,
        "controls": {n: [j.state, j.sentence] for n, j in record.verdict.controls.items()},
        "grids": {
            name: {
                "axes": {n: list(v) for n, v in grid.axes.items()},
                "seeds": grid.seeds,
                "first_seed": grid.first_seed,
            }
            for name, grid in record.grids.items()
        },
    }
    _replace(folder / RUN, json.dumps(content, indent=1, allow_nan=False) + "\n")
    drawn = drawn_figures(record)
    _replace(folder / PAGE, render_claim(record, drawn))
    (folder / FIGURES).mkdir(exist_ok=True)
    for one in drawn:
        for kind, data in one.files.items():
            _replace(folder / FIGURES / f"{one.figure.name}.{kind}", data)


def _replace(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_bytes(content.encode() if isinstance(content, str) else content)
    fresh.replace(path)


def write_pages(folder: Path, written: Collection[Path] = ()) -> Path:
    """Judge the stores of a folder again, and write their pages and the index.

    Claims of the catalogue are judged anew from their journals. A claim of a user's own file is
    listed as it was judged when it ran: no code runs because a folder names it. So is one of
    another version of the catalogue, whose journal answers to another experiment.

    Args:
        folder: holds a folder for each claim, as `whynet atlas run` writes them.
        written: those of them that were just judged, and whose pages stand.

    Returns:
        Path of the index.

    Raises:
        InputError: no such folder, or no store in it.
        StoreError: a store is damaged, or of a newer version.

    """
    if not folder.is_dir():
        raise InputError("DIR", f"no folder {str(folder)!r}", "the --out of `whynet atlas run`")
    stores = sorted(path.parent for path in folder.glob(f"*/{RUN}"))
    if not stores:
        raise InputError("DIR", f"no store in {str(folder)!r}", "the --out of `whynet atlas run`")
    rows = [_row(store, folder, again=store not in written) for store in stores]
    _replace(folder / INDEX, render_index(rows))
    return folder / INDEX


def _row(store: Path, folder: Path, *, again: bool) -> Row:
    content = read_run(store / RUN)
    entry = claims().get(content["claim"])
    entry = entry if content["source"] is None else None
    now = entry and entry.metadata.version
    if again and entry is not None and content["version"] == now:
        grids = grids_in(content, entry)
        with Journal.open(
            store, Identity(entry.id, entry.metadata.version, None), driver=False
        ) as journal:
            tables = tables_of(journal, grids)
            failed = journal.failed()
        verdict = verdict_of(load_claim(entry.reference), entry.metadata, tables)
        record = Record(entry, grids, tables, verdict, failed, store)
        keep(record, store)
        content = read_run(store / RUN)
    sentence = content["sentence"]
    if now is not None and content["version"] != now:
        old = content["version"]
        sentence += f" This is of version {old} of the claim; {now} runs in another folder."
    return Row(
        content["claim"],
        content["title"],
        content["concept"],
        tuple(content["answers"]),
        content["state"],
        sentence,
        (store / PAGE).relative_to(folder).as_posix(),
    )


def grids_in(content: Mapping[str, Any], entry: ClaimEntry) -> dict[str, Grid]:
    """Return the grids of a `run.json`: variant (`""` for the claim) to grid."""
    return {
        name: Grid(
            entry.id,
            entry.metadata.version,
            _axes(grid["axes"]),
            int(grid["seeds"]),
            int(grid.get("first_seed", 0)),
        )
        for name, grid in content["grids"].items()
    }


def _axes(axes: dict[str, list[Value]]) -> dict[str, tuple[Value, ...]]:
    return {name: tuple(values) for name, values in axes.items()}


def read_run(path: Path, argument: str = "DIR") -> dict[str, Any]:
    """Read a `run.json` that may come from anyone.

    Raises:
        StoreError: it is damaged, or of a newer version; the sentence calls it `argument`.

    """
    wanted = "the file as `whynet atlas run` wrote it"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StoreError(argument, f"a {RUN} of more than 16 MiB", wanted)
        content = json.loads(path.read_text(encoding="utf-8"))
        if int(str(content["schema_version"]).split(".")[0]) > 1:
            raise StoreError(
                argument, f"{RUN} of version {content['schema_version']}", "at most 1.x"
            )
        texts = [content[name] for name in ("claim", "concept", "title", "state", "sentence")]
        grids = content["grids"]
        sound = all(isinstance(t, str) for t in texts) and content["state"] in STATES
        sound = sound and isinstance(content["answers"], list) and CLAIM in grids
        sound = sound and all(
            isinstance(grid["axes"], dict)
            and all(isinstance(n, int) for n in (grid["seeds"], grid.get("first_seed", 0)))
            for grid in grids.values()
        )
        if not sound:
            raise ValueError("entries of other types")
    except StoreError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        found = f"{path.parent.name}/{RUN} that cannot be read ({type(error).__name__})"
        raise StoreError(argument, found, wanted) from error
    return dict(content)
