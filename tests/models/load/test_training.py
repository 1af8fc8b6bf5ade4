"""A user's training function from a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from whynet.core.errors import InputError
from whynet.models.data.examples import Examples
from whynet.models.load.training import load_trainer
from whynet.models.retraining import Variation

MODEL = """
import torch
from torch import nn

def build():
    return nn.Linear(2, 1)

network = nn.Linear(2, 1)
"""

TRAIN = """
import torch

def train(model, inputs, targets, seed):
    from helper import STEP
    model.bias.data += torch.randn(1) + STEP

def fails(model, inputs, targets):
    raise ValueError("no luck")

number = 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "fit.py").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "helper.py").write_text("STEP = 0.5\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


DATA = Examples.from_arrays(np.zeros((4, 2), dtype=np.float32), np.zeros(4, dtype=np.float32))


def test_it_runs_beside_its_file_with_its_seed(place: Path) -> None:
    told: list[str] = []
    trainer, digest = load_trainer("model.py:build", "fit.py:train", announce=told.append)
    assert told == ["running code from fit.py"] and len(digest) == 64
    one, two = (trainer.run(Variation(seed=seed), DATA).module for seed in (1, 2))
    assert isinstance(one, torch.nn.Linear) and isinstance(two, torch.nn.Linear)
    assert not torch.equal(one.bias, two.bias) and not torch.equal(one.weight, two.weight)
    other, _ = load_trainer("model.py:build", "fit.py:train", announce=told.append)
    again = other.run(Variation(seed=1), DATA).module
    assert isinstance(again, torch.nn.Linear) and torch.equal(one.bias, again.bias)


@pytest.mark.parametrize(
    ("target", "train", "words"),
    [
        ("model.py:network", "fit.py:train", "TARGET to name a function"),
        ("model.pt2", "fit.py:train", "."),
        ("model.py:build", "fit.py:number", "a function train"),
        ("model.py:build", "fit.py:other", "no name 'other'"),
        ("model.py:build", "gone.py:train", "gone.py"),
        ("model.py:build", "helper.py:STEP", "a function train"),
    ],
)
def test_refusals(place: Path, target: str, train: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_trainer(target, train, announce=lambda message: None)


def test_a_failure_names_the_line(place: Path) -> None:
    trainer, _ = load_trainer("model.py:build", "fit.py:fails", announce=lambda message: None)
    with pytest.raises(InputError, match=r"ValueError: no luck \(line 9 of 'fit.py'\)"):
        trainer.run(Variation(), DATA)
