"""The report in a terminal: the findings, then one row per question."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from whynet.core.estimate import format_interval
from whynet.core.question import Finding
from whynet.examination.report import Answer, Report
from whynet.pages.words import counted, duration, plain

_STYLES = {
    "answered": "green",
    "not applicable": "dim",
    "not reached": "yellow",
    "failed": "bold red",
}
_ASCII = str.maketrans(
    {"→": "->", "−": "-", "–": "-", "—": "-", "…": "...", "’": "'", "×": "x", "∞": "inf"}
)


def print_summary(report: Report, console: Console | None = None) -> None:
    """Print a report's findings and the state of its questions.

    Where the console is no terminal, every item is one plain line, without color or borders.
    Foreign text loses escape sequences, control and bidirectional characters, and its markup
    is not read.

    Args:
        report: what the examination ended with.
        console: where to print; standard output by default.

    """
    out = console if console is not None else Console(highlight=False)
    _line(out, _facts(report), "bold" if out.is_terminal else "")
    if report.interrupted:
        _line(
            out, "Interrupted: stopped before its end; what follows was finished before.", "yellow"
        )
    if not report.findings:
        _line(out, "No finding: nothing that was measured leaves the band of its references.")
    for number, finding in enumerate(report.findings, start=1):
        _finding(out, number, finding)
    _line(out, "")
    if out.is_terminal:
        out.print(_table(out, report))
    else:
        for answer in report.answers:
            _line(
                out, " | ".join((answer.state, plain(answer.question.title, 200), _detail(answer)))
            )
    for name in report.failed:
        _line(out, f"failed: {plain(name, 200)}", "bold red")


def _facts(report: Report) -> str:
    facts = report.facts
    line = f"{plain(facts.name, 120)}, examined: {plain(facts.architecture, 160)}"
    line += f", {counted(facts.parameters, 'parameter', 'parameters')}"
    if facts.train_examples:
        line += f", {counted(facts.train_examples, 'training example', 'training examples')}"
    if facts.test_examples:
        line += f", {counted(facts.test_examples, 'unseen example', 'unseen examples')}"
    return f"{line}; {duration(report.seconds)}"


def _finding(out: Console, number: int, finding: Finding) -> None:
    value = plain(f"{finding.label} {format_interval(finding.estimate)}", 200)
    if not out.is_terminal:
        said = f"{number}. {plain(finding.headline, 300)} ({value}) → {plain(finding.advice, 1200)}"
        _line(out, said)
        return
    _line(out, "")
    _line(out, f"{number}. {plain(finding.headline, 300)}", "bold")
    _line(out, f"   {plain(finding.numbers, 1200)}", hang=3)
    _line(out, f"   {value}", "cyan", hang=3)
    _line(out, f"   → {plain(finding.advice, 1200)}", hang=5)


def _table(out: Console, report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    table.add_column("question", ratio=3, overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("what came of it", ratio=4, overflow="fold")
    for answer in report.answers:
        table.add_row(
            Text(_fit(out, plain(answer.question.title, 200))),
            Text(answer.state, style=_STYLES[answer.state]),
            Text(_fit(out, _detail(answer))),
        )
    return table


def _detail(answer: Answer) -> str:
    if answer.panel is None:
        return plain(answer.why, 400)
    found = counted(len(answer.panel.findings), "finding", "findings")
    return f"{found}, {duration(sum(receipt.seconds for receipt in answer.receipts))}"


def _line(out: Console, text: str, style: str = "", hang: int = 0) -> None:
    shown = Text(_fit(out, text), style=style)
    if not out.is_terminal:
        out.print(shown, soft_wrap=True, style=None)
        return
    lines = shown.wrap(out, max(out.width - hang, 20)) if hang else [shown]
    for place, line in enumerate(lines):
        out.print(Text(" " * hang if place else "") + line)


def _fit(out: Console, text: str) -> str:
    """Write a text in the characters that the console's encoding has."""
    try:
        text.encode(out.encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return text
