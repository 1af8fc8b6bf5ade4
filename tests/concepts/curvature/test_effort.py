"""How rows and products of a round follow from the cost of a forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from whynet.concepts.curvature import effort, spectrum_rounds
from whynet.concepts.curvature.effort import FEW, FULL, MOST_WORK, PASSES, effort_for
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.derivatives.subject_objective import objective_from
from whynet.models.subject import Subject
from whynet.models.threads import forward_work


def subject(rows: int = 300) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    inputs = torch.randn(rows, 6)
    return Subject(module, train=(inputs, (inputs[:, 0] > 0).long()))


def test_the_work_of_a_pass_is_twice_its_multiplications() -> None:
    assert forward_work(subject()) == 2 * (6 * 8 + 8 * 2)


@pytest.mark.parametrize("factor", [1.0, 2.0, 5.0, 30.0, 1000.0, 1e6])
def test_a_round_stays_within_its_work(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    held = subject()
    work = factor * MOST_WORK / (PASSES * FULL.products * 300)
    monkeypatch.setattr(effort, "forward_work", lambda _: work)
    found = effort_for(held)
    spent = work * PASSES * found.products * min(found.rows, 300)
    assert spent <= MOST_WORK * 1.001 or found == FEW
    assert (found == FULL) == (factor <= 1)
    assert (found.note == "") == (factor <= 1)
    assert found.rows >= (256 if found.quadrature_steps == FULL.quadrature_steps else FEW.rows)


def test_a_network_that_cannot_be_counted_is_measured_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(effort, "forward_work", lambda _: None)
    assert effort_for(subject()) == FULL


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dear_network_has_intervals_that_hold_its_curvature_on_the_rows_it_names(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    held = subject().in_precision(dtype)
    monkeypatch.setattr(effort, "forward_work", lambda _: 1e12)
    exact = spectrum_rounds.hessian(objective_from(held, "train", FEW.rows), _plan(held))
    dense = exact.matmat(torch.eye(exact.size, dtype=dtype)).double()  # type: ignore[union-attr]
    values = torch.linalg.eigvalsh((dense + dense.T) / 2)
    found = measure("hessian-spectrum", held)
    assert isinstance(found, Measurement)
    for name, true in (("largest", values[-1]), ("smallest", values[0]), ("trace", values.sum())):
        estimate = found.estimate(name)
        slack = 1e-5 * float(values[-1])
        assert estimate.low - slack <= float(true) <= estimate.high + slack, name
    assert found.estimate("trace").kind == "interval"
    assert any("averaged over 32 of 300" in note for note in found.notes)
    assert any("20 Lanczos steps" in note for note in found.notes)
    dimension = measure("effective-dimension", held)
    assert isinstance(dimension, Measurement)
    assert dimension.estimate("largest").value > 0


def _plan(held: Subject) -> Any:
    from whynet.derivatives.subject_objective import plan_for

    return plan_for(held)
