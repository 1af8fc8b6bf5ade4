"""`whynet examine TARGET`: the whole examination, and its report."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from whynet.cli.parser import add_output_options, add_subject_options

if TYPE_CHECKING:
    from whynet.cli.progress import Bars
    from whynet.examination.examine import Examination
    from whynet.examination.manifest import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_subject_options(parser)
    what = parser.add_argument_group("what to ask")
    absent = argparse.SUPPRESS
    what.add_argument(
        "--only", metavar="NAME", nargs="+", action="extend", default=absent,
        help="these questions or instruments",
    )  # fmt: skip
    what.add_argument(
        "--skip", metavar="NAME", nargs="+", action="extend", default=absent, help="all but these"
    )
    what.add_argument(
        "--budget",
        metavar="TIME",
        default=absent,
        help="such as 90s or 2m: one round of everything is the minimum, the rest of the time "
        "buys shorter error bars (default: one round)",
    )
    what.add_argument(
        "--seeds",
        metavar="K",
        type=int,
        default=absent,
        help="other seeds to train for reference, beside a network with shuffled labels, where a "
        "training function is known (default: 3, as far as a minute or the budget goes; 0 trains "
        "nothing again)",
    )
    what.add_argument(
        "--fail-on",
        dest="fail_on",
        metavar="CONDITION",
        action="append",
        default=[],
        help="exit 1 unless the interval's safe end excludes it: 'test_accuracy < 0.9'",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="out/examination",
        help="folder of the report (default: out/examination)",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Examine, write the folder, print the summary; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.output import say
    from whynet.cli.progress import bars
    from whynet.cli.report import exit_code, show
    from whynet.cli.request import named_as_options, request_from
    from whynet.examination.conditions import check_keys, parse_condition

    # All that can be known to be wrong is found before anything is loaded or computed, and
    # what needs no torch before torch is imported.
    request = request_from(arguments)
    conditions = tuple(parse_condition(text) for text in arguments.fail_on)
    from whynet.examination.examine import choose
    from whynet.examination.folder import check_out, save
    from whynet.examination.manifest import examine_command

    with named_as_options():
        check_keys(conditions, choose(request.only, request.skip, request.rounds)[1])
    folder = check_out(arguments.out)
    with bars(arguments.quiet or arguments.json) as shown:
        examination, request = _examine(request, arguments.out, shown)
        save(examination, folder, request=request)
    show(examination.report, arguments)
    if examination.report.interrupted:
        again = examine_command(request, arguments.out)
        say(f"interrupted; the report holds what was finished. Again: {again}")
        return main.INTERRUPTED
    return exit_code(examination.report, conditions)


def _examine(request: Request, out: str, shown: Bars) -> tuple[Examination, Request]:
    from whynet.core.budget import parse_seconds
    from whynet.examination.examine import SEEDS_ASKED, examine
    from whynet.examination.folder import WEIGHTS
    from whynet.examination.manifest import measure_command
    from whynet.examination.source import load_subject

    loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
    weights = f"{out.rstrip('/')}/{WEIGHTS}"
    with loaded.computing():
        examination = examine(
            loaded.subject,
            only=request.only,
            skip=request.skip,
            budget=None if request.budget is None else parse_seconds(request.budget),
            rounds=request.rounds,
            seed=request.seed,
            seeds=SEEDS_ASKED if request.seeds is None else request.seeds,
            reached=request.reached or None,
            progress=shown.ran,
            command=lambda name, rounds: measure_command(loaded.request, name, rounds, weights),
        )
    return examination, loaded.request
