"""`whynet compare TARGET`: two checkpoints or seeds of one network, side by side."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from whynet.cli.parser import add_output_options, add_subject_options

if TYPE_CHECKING:
    from whynet.cli.progress import Bars
    from whynet.examination.comparison import Comparison
    from whynet.examination.manifest import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_subject_options(parser)
    what = parser.add_argument_group("what to compare")
    what.add_argument(
        "--other-weights",
        dest="other_weights",
        metavar="…",
        help="weights of the second network, B; A has --weights (a built-in subject needs "
        "neither: it is compared with another seed)",
    )
    what.add_argument(
        "--readings",
        metavar="NAME",
        nargs="+",
        action="extend",
        help="instruments to read both with (default: fit calibration)",
    )
    what.add_argument(
        "--fail-on",
        dest="fail_on",
        metavar="CONDITION",
        action="append",
        default=[],
        help="exit 1 unless the interval's safe end excludes it: 'comparison.churn > 0.05'",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="out/comparison",
        help="folder of the report (default: out/comparison)",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the folder, print the summary; returns the exit code."""
    from whynet.cli.progress import bars
    from whynet.cli.report import exit_code, show
    from whynet.cli.request import request_from
    from whynet.examination.conditions import parse_condition

    request = request_from(arguments)
    conditions = tuple(parse_condition(text) for text in arguments.fail_on)
    from whynet.examination.comparison import READINGS, check_readings
    from whynet.examination.comparison_folder import check_place, save_comparison

    # A manifest keeps the readings where an examination keeps its choice.
    readings = check_readings(arguments.readings or request.only or READINGS, "--readings")
    folder = check_place(arguments.out)
    with bars(arguments.quiet or arguments.json) as shown:
        comparison, request = _compare(request, readings, arguments, shown)
        save_comparison(comparison, folder, request=request)
    show(comparison.report, arguments)
    return exit_code(comparison.report, conditions)


def _compare(
    request: Request, readings: tuple[str, ...], arguments: argparse.Namespace, shown: Bars
) -> tuple[Comparison, Request]:
    from whynet.examination.comparison import compare
    from whynet.examination.comparison_folder import compare_command, load_pair

    pair = load_pair(
        request, arguments.other_weights, announce=shown.announce, progress=shown.trained
    )
    with pair.computing(), pair.named_as_options():
        comparison = compare(
            pair.first.subject,
            pair.other,
            names=pair.names,
            readings=readings,
            seed=request.seed,
            progress=shown.ran,
            command=compare_command(pair.request, readings, arguments.out),
        )
    return comparison, pair.request
