"""The report in a terminal: short, plain where it must be, and safe from what names may hold."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from tests.examination.payloads import PAYLOADS as THIRTY
from tests.examination.sample import make_report
from tests.examination.test_page import PAYLOADS, poisoned

from whynet.cli.output import print_json, print_line, print_table, say, show_traceback
from whynet.examination.terminal import print_summary

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def shown(report: object, terminal: bool, width: int = 100, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    console = Console(file=stream, force_terminal=terminal, width=width, legacy_windows=False)
    print_summary(report, console)  # type: ignore[arg-type]
    stream.seek(0)
    return stream.read()


def test_a_pipe_gets_one_plain_line_for_every_item() -> None:
    lines = shown(make_report(), terminal=False, width=40).splitlines()
    assert lines[0] == (
        "digits-mlp, examined: 64–128–10 ReLU network, 9,610 parameters, "
        "1,437 training examples, 360 unseen examples; 58 s"
    )
    assert lines[1].startswith(
        "1. It generalizes, and it is overconfident. (this network 97.8 % [96.0, 98.9]) → Set the"
    )
    assert len(lines) == 1 + 6 + 1 + 7 + 2
    assert lines[8].split(" | ") == [
        "answered",
        "Does it generalize, and is it honest about it?",
        "1 finding, 0.4 s",
    ]
    assert lines[13].startswith("not applicable | Is it a scattering")
    assert lines[14].endswith("element 0 of tensors does not require grad")
    assert lines[15:] == ["failed: polygons", "failed: regions"]
    assert not HIDDEN.search("".join(lines))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_gets_the_same_content_within_its_width(width: int) -> None:
    text = ESCAPES.sub("", shown(make_report(), terminal=True, width=width))
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    flat = " ".join(text.split())
    for words in (
        "It is fragile.",
        "48 of 128 hidden neurons",
        "accuracy under attack 54.0 % [12.0, 59.1]",
        "→ Try four times the step size",
        "not applicable",
        "failed: polygons",
    ):
        assert words in flat, words
    assert "**" not in text and "`" not in text


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "payload", [*PAYLOADS, "\x1b]8;;http://evil\x07x", "[red]x[/red] [/]", "\x9b2J"]
)
def test_foreign_text_cannot_command_the_terminal(payload: str, terminal: bool) -> None:
    text = ESCAPES.sub("", shown(poisoned(make_report(), payload), terminal))
    assert not HIDDEN.search(text)
    assert "\x1b" not in text
    if payload.startswith("[red]"):
        assert "[red]x[/red]" in text


def test_an_old_encoding_is_no_error() -> None:
    text = shown(make_report(), terminal=False, encoding="ascii")
    assert "-> Set the temperature" in text
    assert "64-128-10 ReLU" in text


def test_an_interruption_and_an_empty_report_are_said() -> None:
    report = make_report()
    assert "Interrupted" in shown(replace(report, interrupted=True), terminal=False)
    assert "No finding" in shown(replace(report, answers=(), outcomes={}), terminal=True)


def test_long_names_are_cut() -> None:
    text = shown(poisoned(make_report(), "n" * 5_000_000), terminal=False)
    assert len(text) < 60_000


@pytest.mark.parametrize("name", THIRTY)
def test_no_payload_reaches_the_terminal_raw(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    payload = THIRTY[name]
    report = poisoned(make_report(), payload)
    for terminal in (False, True):
        text = ESCAPES.sub("", shown(report, terminal=terminal, width=80))
        assert not HIDDEN.search(text)
        assert len(text) < 200_000
    print_line(payload)
    say(payload)
    show_traceback(f"  {payload}\n{payload}")
    print_table(("name",), [(payload,)])
    print_json({payload[:1000]: payload[:1000]})
    told = capsys.readouterr()
    assert not HIDDEN.search(told.out + told.err)
    assert len(told.out + told.err) < 200_000
