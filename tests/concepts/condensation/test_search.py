"""What is tried is bounded, said, and never above the tolerance; quick solutions are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from whynet import Subject, condense
from whynet.concepts.condensation import approximate, refitting, search
from whynet.concepts.condensation.refitting import Moments, solve


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A two-layer network that reduces, a little at every level."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3)
    ).double()
    with torch.no_grad():
        for layer in (module[0], module[2]):
            layer.weight[8:] = layer.weight[torch.arange(16) % 8]
            layer.weight += 0.003 * torch.randn_like(layer.weight)
            layer.bias[8:] = layer.bias[torch.arange(16) % 8]
    inputs = torch.randn(400, 6, dtype=torch.float64)
    with torch.no_grad():
        return Subject(module, train=(inputs, module(inputs)), loss="mse")


def test_less_effort_tries_less_and_says_so(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "MOST_PARAMETERS", 0)  # for time
    whole = condense(subject, tolerance=0.02)
    monkeypatch.setattr(search, "EFFORT", 1e6)
    some = condense(subject, tolerance=0.02)
    monkeypatch.setattr(search, "EFFORT", 1.0)
    least = condense(subject, tolerance=0.02)
    assert whole.limited == ""
    for found in (some, least):
        assert "operations, nearest to the tolerance first;" in found.limited
        assert found.chosen.largest <= 0.02
        assert found.chosen.parameters >= whole.chosen.parameters
    assert whole.reduced
    tried = [int(found.limited.split("first; ")[1].split()[0]) for found in (some, least)]
    assert 0 < tried[0] < tried[1]
    # However little may be spent, one size is tried: the tolerance's own.
    assert len(least.curve) == 2


def test_a_wanted_number_of_units_is_reached_whatever_the_effort(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "EFFORT", 1.0)
    found = condense(subject, tolerance=0.5, units=14)
    assert sum(layer.after for layer in found.layers[:2]) <= 14


@pytest.mark.parametrize("copies", [0, 5])
def test_layers_are_solved_alike_with_and_without_eigenvalues(
    copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Cholesky factorization is taken where it is sure that no direction is to be left out."""
    rows = torch.randn(90, 20, dtype=torch.float64) * torch.logspace(-3, 2, 20).double()
    if copies:
        rows[:, :copies] = rows[:, copies : 2 * copies]
    moments = Moments()
    moments.add(rows, rows @ torch.randn(20, 4, dtype=torch.float64) + 1)
    weight, bias = solve(moments, biased=True)
    monkeypatch.setattr(refitting, "_MANY", 1)
    if not copies:
        monkeypatch.setattr(refitting.linalg, "pinvh", None)
    again, other = solve(moments, biased=True)
    assert bias is not None and other is not None
    assert np.allclose(weight, again, rtol=1e-9, atol=1e-9 * float(weight.abs().max()))
    assert torch.allclose(bias, other)
