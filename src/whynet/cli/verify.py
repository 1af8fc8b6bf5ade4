"""`whynet verify PATH`: every number of a report, recomputed."""

from __future__ import annotations

import argparse
import json

from whynet.cli.parser import add_output_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("path", metavar="PATH", help="folder of an examination")
    parser.add_argument(
        "target", metavar="TARGET", nargs="?", help="the network, where it is code: file.py:name"
    )
    for name in ("train", "test", "loss"):
        parser.add_argument(f"--{name}", metavar="…", help=f"{name}, where it is code or moved")
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Recompute, print what stands and what moved; returns the exit code."""
    from rich.console import Console
    from rich.table import Table

    from whynet.cli import main
    from whynet.cli.progress import bars
    from whynet.core.plain_text import printable
    from whynet.examination.verification import verify

    with bars(arguments.quiet or arguments.json) as shown:
        results = verify(
            arguments.path,
            target=arguments.target,
            train=arguments.train,
            test=arguments.test,
            loss=arguments.loss,
            announce=shown.announce,
            progress=shown.ran,
        )
    stands = all(result.stands for result in results)
    if arguments.json:
        print(json.dumps([{**vars(r), "stands": r.stands} for r in results], indent=1))
    elif not arguments.quiet:
        table = Table("instrument", "numbers", "largest move, relative", "verdict", box=None)
        for result in results:
            verdict = (
                "stands"
                if result.stands
                else result.reason or ("moved: " + ", ".join(result.moved))
            )
            table.add_row(
                result.instrument, str(result.entries), f"{result.largest:.1e}", printable(verdict)
            )
        console = Console()
        console.print(table)
        console.print("Every number stands." if stands else "Some numbers moved.")
    return main.DONE if stands else main.CONDITION
