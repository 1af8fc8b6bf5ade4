"""Drift, scale, alignment and the linearized network: closed forms, coverage, conformance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import Tensor, nn
from torch.func import jacrev

from whynet.concepts.kernels.instruments import lazy_or_rich as instrument
from whynet.concepts.kernels.linearized import Scored
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject
from whynet.testing import kernel_forms
from whynet.testing.conformance import coverage


def measured(held: Subject, rounds: int = 1, seed: int = 0) -> Measurement:
    found = measure("lazy-or-rich", held, rounds=rounds, seed=seed)
    assert isinstance(found, Measurement), found
    return found


def refused(held: Subject) -> str:
    found = measure("lazy-or-rich", held)
    assert isinstance(found, NotApplicable)
    return found.reason


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def halves(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = gaussian(rows, 4, seed=seed)
    return x, (x[:, 0] + 0.3 * gaussian(rows, seed=seed + 50) > 0.4).long()


def mlp(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def subject(rows: int = 300, **options: Any) -> Subject:
    options = {"test": halves(60, 1), "initial": mlp(0), **options}
    return Subject(mlp(1), train=halves(rows), **options)


def test_a_linear_network_is_its_own_linearization() -> None:
    form = kernel_forms.linear_network()
    draws = 50
    found = coverage(instrument, "lazy-or-rich", form, torch.float64, range(draws))
    assert {"accuracy network", "accuracy regularized", "agreement", "lead_over_linearized"} < set(
        found
    )
    for name in ("agreement_beyond_seed", "agreement_regularized_beyond_seed"):
        assert found[name].kind == "interval"
        assert found[name].hits < draws, "an interval that always covers is too wide"
    assert "accuracy other seed" in found
    for name, result in found.items():
        if result.kind == "exact":
            assert result.hits == draws, name
        else:
            assert result.hits >= 0.95 * draws - 3 * math.sqrt(0.95 * 0.05 * draws), name
    assert found["shape_drift"].kind == found["trace_ratio"].kind == "exact"
    assert found["lead_over_linearized"].kind == "interval"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_outputs_are_those_of_ridge_regression(dtype: torch.dtype) -> None:
    x, y = gaussian(50, 4).to(dtype), gaussian(50, 1, seed=1).to(dtype)
    new = gaussian(40, 4, seed=2).to(dtype), gaussian(40, 1, seed=3).to(dtype)
    start = nn.Linear(4, 1, bias=False)
    held = Subject(
        nn.Linear(4, 1, bias=False), train=(x, y), test=new, loss="mse", initial=start, dtype=dtype
    )
    state = instrument.advance(_started(held))
    assert state.fit is not None
    wide, first = x.double().numpy(), start.weight.detach().double().numpy().T
    left = y.double().numpy() - wide @ first
    weight = first + kernel_forms.ridge_regression(wide, left, 1e-6)
    np.testing.assert_allclose(state.fit.least, new[0].double().numpy() @ weight, atol=1e-8)
    best = kernel_forms.best_ridge(wide, left)
    assert state.fit.ridge == pytest.approx(best)


def _started(held: Subject) -> instrument.State:
    state = instrument.start(held, 0)
    assert isinstance(state, instrument.State)
    return state


def test_the_full_kernel_is_that_of_the_linearized_parameters() -> None:
    """Ridge regression on the gradients themselves, outputs together, gives the same outputs."""
    held = subject(rows=40, dtype=torch.float64)
    state = instrument.advance(_started(held))
    assert state.fit is not None
    assert state.fit.full
    before = held.initial
    assert before is not None

    def rows(split: Any) -> tuple[np.ndarray, np.ndarray]:
        inputs, _ = held.examples(split).take(range(held.examples(split).count))
        assert isinstance(inputs, Tensor)
        inputs = inputs.double()
        found = jacrev(lambda p: before.forward(p, inputs))(before.parameters)
        flat = torch.cat([part.flatten(2) for part in found.values()], dim=2).detach()
        outputs = before.outputs(split)[0].reshape(-1)
        return flat.flatten(0, 1).numpy(), outputs.numpy()

    (x, f), (new, g) = rows("train"), rows("test")
    targets = np.eye(2)[held.outputs("train")[1].numpy()] - 0.5
    weight = kernel_forms.ridge_regression(x, targets.reshape(-1) - f, 1e-6)
    np.testing.assert_allclose(state.fit.least.reshape(-1), g + new @ weight, atol=1e-6)


def test_few_rows_are_taken_all_and_many_drawn() -> None:
    few, many = measured(subject(rows=200)), measured(subject(rows=300))
    assert few.estimate("shape_drift").kind == "exact"
    assert few.estimate("shuffled_alignment", weights="now").kind == "interval"
    drawn = many.estimate("shape_drift")
    assert drawn.kind == "interval"
    assert drawn.over == "draws of 256 training rows"
    assert drawn.low < drawn.value < drawn.high
    more = measured(subject(rows=300), rounds=4).estimate("shape_drift")
    assert more.width < 0.7 * drawn.width
    assert few.estimate("lead_over_linearized").over == "test examples"


def test_kernels_that_are_too_large_are_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(subject(rows=400))
    monkeypatch.setattr(instrument, "MOST_ROWS", 300)
    apart = measured(subject(rows=400))
    assert apart.estimate("fitted_share").value == 0.75
    assert any("fewer" in note for note in apart.notes)
    for name in ("shape_drift", "trace_ratio"):
        one, two = whole.estimate(name), apart.estimate(name)
        assert two.kind == "indicative"
        assert two.low <= one.high
        assert one.low <= two.high
    many = measured(subject(rows=400), rounds=6).estimate("shape_drift")
    assert many.kind == "interval"
    monkeypatch.setattr(instrument, "MOST", 1.0)
    monkeypatch.setattr(instrument, "CHEAP", 1.0)
    assert "too many for the kernels of 256 rows" in refused(subject(rows=400))


def test_draws_keep_the_shares_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [10, 290, 700])
    train = Scored("train", np.arange(1000), np.eye(3)[labels], labels)
    places = instrument.stratified(train, 256, np.random.default_rng(0))
    assert len(set(places.tolist())) == 256
    assert np.bincount(labels[places]).tolist() == [3, 74, 179]


def test_the_scale_of_a_network_moves_the_trace_and_not_the_shape() -> None:
    start = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    grown = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    grown.load_state_dict({name: 3 * value for name, value in start.state_dict().items()})
    held = Subject(grown, train=halves(200), test=halves(60, 1), initial=start, dtype=torch.float64)
    found = measured(held)
    assert found.estimate("shape_drift").value == pytest.approx(0, abs=1e-12)
    assert found.estimate("trace_ratio").value == pytest.approx(9)


def test_what_cannot_be_measured_is_refused_in_a_sentence() -> None:
    x, labels = halves(300)
    assert "initial weights are not known" in refused(subject(initial=None))
    one_class = (x, torch.zeros_like(labels))
    start: dict[str, Any] = {"initial": mlp(0), "test": halves(60, 1)}
    assert "targets of the training data are equal" in refused(
        Subject(mlp(1), train=one_class, **start)
    )
    few = (x[:8], labels[:8])
    assert "fewer than 10 rows" in refused(Subject(mlp(1), train=few, **start))


def test_a_kernel_that_is_constant_has_no_drift() -> None:
    start = mlp(0)
    for parameter in start.parameters():
        nn.init.zeros_(parameter)
    found = measured(subject(initial=start))
    assert np.isnan(found.estimate("shape_drift").value)
    assert found.estimate("alignment", weights="initialization").value == 0
    assert "constant" in found.dataset["shape_drift"].attrs["missing"]


def test_batch_normalization_is_recalibrated_before_training() -> None:
    case = CASES["batch-norm"]
    held = case.subject(initial=case.initial())
    assert any("batch normalization before training" in note for note in held.notes)
    # Without recalibration the outputs before training would be others.
    stored = case.subject(dtype=torch.float64).replaced(case.initial())
    assert held.initial is not None
    assert not torch.allclose(held.initial.outputs("test")[0], stored.outputs("test")[0].float())
    assert measured(held).estimate("trace_ratio").value > 0


@pytest.mark.parametrize("name", CASES)
def test_every_network_with_known_initial_weights_is_measured(name: str) -> None:
    found = measure("lazy-or-rich", CASES[name].subject(initial=CASES[name].initial()))
    assert isinstance(found, Measurement) == (name != "sequence")
