"""`whynet measure weight-change` with widths and starts of choice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.own import OWN, Shell

CODE = """
import torch
from torch import nn

def build(width_factor=1.0):
    width = round(8 * width_factor)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

def fixed():
    return build()

def train(model, inputs, targets):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
"""
AGAIN = ("--train-with", "own.py:train")


@pytest.fixture
def own(shell: Shell) -> Shell:
    """The subject with a function that trains it at any width."""
    Path("own.py").write_text(CODE, encoding="utf-8")
    return shell


def test_widths_and_starts_of_choice(own: Shell) -> None:
    words = ("measure", "weight-change", "own.py:build", *OWN[1:], *AGAIN)
    found = json.loads(own.good(*words, "--widths", "2", "--scales", "0.5,1", "--json"))
    assert found["furthest_slope.0.5"]["kind"] == "interval"
    assert {"change.0.1.0.2.0", "directions.0.0.5.1.0", "score_change.0.5"} <= {*found}
    assert "furthest_slope.4.0" not in found
    assert not any(name.startswith("units_kept") for name in found)
    said = own.good(*words[:2], "own.py:fixed", *words[3:], "--widths", "1,2", "--rounds", "2")
    assert "takes no argument 'width_factor'" in said


def test_units_that_are_left_of_every_copy(own: Shell) -> None:
    words = ("measure", "weight-change", "own.py:build", *OWN[1:], *AGAIN, "--scales", "1")
    found = [
        json.loads(own.good(*words, "--widths", "2", "--condense", tolerance, "--json"))
        for tolerance in ("0.001", "0.5")
    ]
    for width, units in (("1.0", 8), ("2.0", 16)):
        strict, loose = (one[f"units_kept.1.0.{width}"] for one in found)
        assert 1 <= loose["value"] < strict["value"] <= units
        assert strict["low"] <= strict["value"] <= strict["high"]


def test_factors_that_are_none_are_refused_before_anything_is_trained(own: Shell) -> None:
    for words, sentence in (
        (("--widths", "1,wide"), "--widths: found '1,wide'; wanted factors above 0, separated by"),
        (("--scales", "0,1"), "--scales: found '0,1'; wanted factors above 0, separated by"),
        (("--scales", "nan"), "--scales: found 'nan'; wanted factors above 0, separated by"),
        (("--condense", "much"), "--condense: found 'much'; wanted a tolerance between 0 and 1"),
        (("--condense", "1"), "--condense: found '1'; wanted a tolerance between 0 and 1"),
        (("--scales=",), "--scales: found ''; wanted factors above 0, separated by"),
    ):
        assert own("measure", "weight-change", "own.py:build", *OWN[1:], *AGAIN, *words) == 2
        assert sentence in own.err
    assert own("measure", "fit", *OWN, "--widths", "1,2") == 2
    assert "--widths: found it beside fit; wanted it beside weight-change" in own.err


def test_without_a_training_function_it_says_what_is_missing(own: Shell) -> None:
    missing = "--train-with file.py:train"
    assert missing in own.good("measure", "weight-change", *OWN)
    own.good("examine", *OWN, "--only", "starting-scale", "--out", "out")
    assert missing in Path("out/report.html").read_text(encoding="utf-8")
