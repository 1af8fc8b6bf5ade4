"""`whynet verify PATH`: every number of a report or of the atlas, recomputed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from whynet.cli.parser import add_output_options

if TYPE_CHECKING:
    from whynet.core.recomputed import Recomputed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="folder of an examination, a comparison or the atlas, or a certificate",
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="the network, where it is code: file.py:name; or the claim, my_claim.py:CLAIM",
    )
    for name in ("train", "test", "loss"):
        parser.add_argument(f"--{name}", metavar="…", help=f"{name}, where it is code or moved")
    parser.add_argument(
        "--train-with",
        dest="train_with",
        metavar="…",
        help="the training function, where the examination was given one",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Recompute, print what stands and what moved; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.output import print_json, print_line, print_table
    from whynet.cli.progress import bars
    from whynet.examination.verification import verify

    with bars(arguments.quiet or arguments.json) as shown:
        results = verify(
            arguments.path,
            target=arguments.target,
            train=arguments.train,
            test=arguments.test,
            loss=arguments.loss,
            train_with=arguments.train_with,
            announce=shown.announce,
            progress=shown.ran,
        )
    stands = all(result.stands for result in results)
    if arguments.json:
        print_json([{**vars(result), "stands": result.stands} for result in results])
    elif not arguments.quiet:
        print_table(
            ("what", "numbers", "largest move, relative", "verdict"),
            (
                (result.name, str(result.entries), f"{result.largest:.1e}", _verdict(result))
                for result in results
            ),
        )
        print_line("Every number stands." if stands else "Not every number stands.")
    return main.DONE if stands else main.CONDITION


def _verdict(result: Recomputed) -> str:
    if result.stands:
        return "stands"
    return result.reason or f"moved: {', '.join(result.moved)}"
