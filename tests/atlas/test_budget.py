"""`whynet atlas run --budget`: it stops between groups, says so, and the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.atlas.runs import CLAIM, digest, finished

from whynet.cli.main import main

WORDS = [
    "atlas", "run", CLAIM, "--size", "50", "--shift", "1.0", "--pause", "0.05", "--seeds", "8",
]  # fmt: skip


def test_a_spent_budget_keeps_what_is_done_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spent, whole = tmp_path / "spent", tmp_path / "whole"
    assert main([*WORDS, "--budget", "0.1s", "--out", str(spent), "--json"]) == 3
    shown = capsys.readouterr()
    assert "my-claim was not run to the end (the budget was spent); the same command goes on" in (
        shown.err
    )
    (row,) = json.loads(shown.out)
    assert row["stopped"] == "the budget was spent" and row["state"] == "inconclusive"
    # Groups of four: one ran, since the budget ended while it did, and no other.
    assert finished(spent / "my-claim") == 4
    page = (spent / "my-claim" / "page.html").read_text(encoding="utf-8")
    assert "inconclusive" in page
    assert main([*WORDS, "--out", str(spent), "--quiet"]) == 0
    assert main([*WORDS, "--out", str(whole), "--quiet"]) == 0
    assert digest(spent / "my-claim") == digest(whole / "my-claim")


def test_one_budget_is_for_all_claims_and_what_a_store_holds_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["min-norm-interpolation"]
    grid = ["--scale", "smoke", "--steps", "50", "--seeds", "1", "--out", str(tmp_path), "--quiet"]
    assert main(["atlas", "run", *names, *grid]) == 0
    # Nothing is left to run, so that there is nothing a budget could stop.
    assert main(["atlas", "run", *names, *grid, "--budget", "0.001s"]) == 0
    more = [word if word != "1" else "2" for word in grid]
    capsys.readouterr()
    assert main(["atlas", "run", *names, *more, "--budget", "0.001s"]) == 3
    assert "was not run to the end" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["soon", "0", "-5m", "1e400", ""])
def test_what_is_no_budget_gets_one_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, f"--budget={text}", "--out", str(tmp_path / "out")]) == 2
    assert f"whynet: --budget: found {text!r}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
