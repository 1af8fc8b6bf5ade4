"""`whynet examine TARGET`: the whole examination, and its report."""

from __future__ import annotations

import argparse
import sys

from whynet.cli.parser import add_output_options, add_subject_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_subject_options(parser)
    what = parser.add_argument_group("what to ask")
    absent = argparse.SUPPRESS
    what.add_argument(
        "--only", metavar="NAME", nargs="+", default=absent, help="these questions or instruments"
    )
    what.add_argument("--skip", metavar="NAME", nargs="+", default=absent, help="all but these")
    what.add_argument(
        "--budget",
        metavar="TIME",
        default=absent,
        help="such as 90s or 2m: one round of everything is the minimum, the rest of the time "
        "buys shorter error bars (default: one round)",
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
    from whynet.cli.progress import bars
    from whynet.cli.request import request_from
    from whynet.core.budget import parse_bytes, parse_seconds
    from whynet.examination.conditions import judge, parse_condition
    from whynet.examination.folder import check_out, save
    from whynet.examination.manifest import examine_command
    from whynet.examination.summary import numbers

    request = request_from(arguments)
    conditions = tuple(parse_condition(text) for text in arguments.fail_on)
    if request.budget is not None:
        parse_seconds(request.budget)
    if request.memory is not None:
        parse_bytes(request.memory)
    folder = check_out(arguments.out)
    with bars(arguments.quiet or arguments.json) as shown:
        examination, request = _examine(request, arguments, shown)
        report = save(examination, folder, request=request)
    _print(examination, str(report), arguments)
    if examination.report.interrupted:
        again = examine_command(request, arguments.out)
        print(
            f"whynet: interrupted; the report holds what was finished. Again: {again}",
            file=sys.stderr,
        )
        return main.INTERRUPTED
    failed = judge(conditions, numbers(examination.report))
    for sentence in failed:
        print(f"whynet: {sentence}", file=sys.stderr)
    if failed:
        return main.CONDITION
    return main.PARTLY if examination.report.failed else main.DONE


def _examine(request, arguments, shown):  # type: ignore[no-untyped-def]
    from whynet.core.budget import parse_seconds
    from whynet.examination.examine import examine
    from whynet.examination.folder import WEIGHTS
    from whynet.examination.manifest import measure_command
    from whynet.examination.source import load_subject

    loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
    weights = f"{arguments.out.rstrip('/')}/{WEIGHTS}"
    examination = examine(
        loaded.subject,
        only=request.only,
        skip=request.skip,
        budget=None if request.budget is None else parse_seconds(request.budget),
        rounds=request.rounds,
        seed=request.seed,
        progress=shown.ran,
        command=lambda name, rounds: measure_command(loaded.request, name, rounds, weights),
    )
    return examination, loaded.request


def _print(examination, report: str, arguments: argparse.Namespace) -> None:  # type: ignore[no-untyped-def]
    from rich.console import Console

    from whynet.examination.summary import to_json
    from whynet.examination.terminal import print_summary

    if arguments.debug:
        for outcome in examination.report.outcomes.values():
            if getattr(outcome, "traceback", ""):
                print(outcome.traceback, file=sys.stderr)
    if arguments.json:
        sys.stdout.write(to_json(examination.report))
    elif not arguments.quiet:
        console = Console()
        print_summary(examination.report, console)
        console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)
