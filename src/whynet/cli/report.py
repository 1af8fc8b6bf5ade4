"""How a command that writes a report ends: the summary on the terminal, and the exit code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whynet.examination.conditions import Condition
    from whynet.examination.report import Report


def show(report: Report, arguments: argparse.Namespace) -> None:
    """Print the summary, or the numbers as JSON, or nothing, as was asked."""
    from whynet.cli.output import print_json, print_line, show_traceback
    from whynet.examination.folder import REPORT
    from whynet.examination.summary import to_json
    from whynet.examination.terminal import print_summary

    if arguments.debug:
        for outcome in report.outcomes.values():
            show_traceback(getattr(outcome, "traceback", ""))
    if arguments.json:
        print_json(json.loads(to_json(report)))
    elif not arguments.quiet:
        print_summary(report)
        print_line(f"report: {Path(arguments.out) / REPORT}")


def exit_code(report: Report, conditions: tuple[Condition, ...]) -> int:
    """Judge the conditions, say what failed, and return the exit code."""
    from whynet.cli import main
    from whynet.cli.output import say
    from whynet.examination.conditions import judge
    from whynet.examination.summary import numbers

    sentences = judge(conditions, numbers(report), outcomes=report.outcomes)
    for sentence in sentences:
        say(sentence)
    if sentences:
        return main.CONDITION
    if report.failed:
        say(f"failed: {'; '.join(_reasons(report))}")
    return main.PARTLY if report.failed else main.DONE


def _reasons(report: Report) -> list[str]:
    """Say of every instrument that failed why, and of every question that failed by itself."""
    from whynet.core.outcome import Failed

    failed = {n: out.error for n, out in report.outcomes.items() if isinstance(out, Failed)}
    for answer in report.answers:
        if answer.state == "failed" and not failed.keys() & set(answer.question.uses):
            failed[answer.id] = answer.reason
    return [f"{name} ({reason})" for name, reason in failed.items()]
