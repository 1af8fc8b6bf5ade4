"""`whynet measure INSTRUMENT TARGET`: one instrument alone."""

from __future__ import annotations

import argparse
import json
import sys

from whynet.cli.parser import add_output_options, add_subject_options
from whynet.core.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--list", action=_List, nargs=0, help="list all instruments and leave")
    parser.add_argument("instrument", metavar="INSTRUMENT", help="see --list")
    add_subject_options(parser)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=int,
        default=argparse.SUPPRESS,
        help="more rounds, shorter bars (default: 1)",
    )
    add_output_options(parser)


class _List(argparse.Action):
    """Prints the instruments from their files' metadata; imports none of them."""

    def __call__(self, parser, namespace, values, option_string=None):  # type: ignore[no-untyped-def]
        from rich.console import Console
        from rich.table import Table

        from whynet.concepts.registry import instruments

        table = Table("instrument", "measures", box=None, padding=(0, 2, 0, 0))
        for entry in instruments().values():
            about = entry.metadata
            table.add_row(
                entry.id, f"{about.title}\n[dim]{entry.concept}; {about.unit}; {about.cost}[/dim]"
            )
        Console().print(table)
        parser.exit(0)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.progress import bars
    from whynet.cli.request import request_from
    from whynet.concepts.measuring import check_rounds, measure
    from whynet.concepts.registry import load_instrument
    from whynet.core.outcome import NotApplicable
    from whynet.examination.source import load_subject

    module = load_instrument(arguments.instrument, "INSTRUMENT")
    request = request_from(arguments)
    rounds = request.rounds.get(arguments.instrument, 1)
    try:
        check_rounds(module, rounds)
    except InputError as error:
        raise InputError("--rounds", error.found, error.wanted) from error
    with bars(arguments.quiet or arguments.json) as shown:
        loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
        outcome = measure(arguments.instrument, loaded.subject, rounds=rounds, seed=request.seed)
    if isinstance(outcome, NotApplicable):
        if arguments.json:
            print(json.dumps({"not applicable": outcome.reason}, ensure_ascii=False))
        else:
            print(outcome.reason)
        return main.DONE
    _print(outcome, arguments)
    return main.DONE


def _print(outcome, arguments: argparse.Namespace) -> None:  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.table import Table

    from whynet.core.estimate import format_interval
    from whynet.core.plain_text import printable
    from whynet.examination.summary import as_json, entries

    rows = list(entries(outcome))
    if arguments.json:
        content = {
            ".".join([name, *map(str, labels.values())]): as_json(estimate)
            for name, labels, estimate in rows
        }
        json.dump(content, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        print()
        return
    table = Table("quantity", "at", "value [interval]", "unit", "kind", "over", box=None)
    for name, labels, estimate in rows:
        where = ", ".join(f"{axis} {label}" for axis, label in labels.items())
        table.add_row(
            name,
            printable(where),
            format_interval(estimate),
            estimate.unit,
            estimate.kind,
            estimate.over,
        )
    console = Console()
    console.print(table)
    left = [name for name in outcome.names if name not in {row[0] for row in rows}]
    if left:
        console.print(f"curves and matrices, in `whynet examine`'s results: {', '.join(left)}")
    for note in outcome.notes:
        console.print(printable(note), markup=False)
