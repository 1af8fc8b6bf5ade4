"""The effective dimension of small networks against dense Gauss-Newton matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import Tensor

from whynet.concepts.curvature.instruments import effective_dimension as instrument
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.derivatives import gauss_newton_kernel as kernels
from whynet.models.subject import Subject
from whynet.testing.conformance import CHECKS

NAME = "effective-dimension"
PLAIN = ("relu-mlp", "tanh-mlp", "regression", "binary", "linear", "convolution")


def taken(subject: Subject, rounds: int = 1, seed: int = 0) -> Measurement:
    found = measure(NAME, subject, rounds=rounds, seed=seed)
    assert isinstance(found, Measurement), found
    return found


def dense(case: str) -> np.ndarray:
    """Eigenvalues of J' H J / n by `jacrev` and second derivatives written out by hand."""
    subject = CASES[case].subject(dtype=torch.float64)
    inputs, _ = subject.examples("train").take(range(subject.facts.train_examples))
    assert isinstance(inputs, Tensor)
    module, parameters = subject.module, dict(subject.parameters)

    def outputs(held: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(module, held, (inputs.double(),))

    jacobian = torch.cat(
        [part.flatten(2) for part in torch.func.jacrev(outputs)(parameters).values()], dim=2
    ).detach()
    scores = outputs(parameters).detach()
    if subject.loss.name == "mse":
        middle = 2 * torch.ones(len(inputs), 1, 1, dtype=torch.float64)
    elif subject.loss.name == "bce":
        chance = scores.sigmoid()
        middle = (chance * (1 - chance))[:, :, None]
    else:
        chance = scores.softmax(1)
        middle = torch.diag_embed(chance) - chance[:, :, None] * chance[:, None]
    matrix = torch.einsum("nkp,nkl,nlq->pq", jacobian, middle, jacobian) / len(inputs)
    return np.linalg.eigvalsh(matrix.numpy())


def holds(found: Measurement, values: np.ndarray, slack: float) -> None:
    """The true dimensions lie in the intervals, up to round-off."""
    for name, axis, labels, scale in (
        ("relative", "share", instrument.SHARES, values[-1]),
        ("effective_dimension", "decay", instrument.DECAYS, 1.0),
    ):
        for label in labels:
            true = (values / (values + label * scale)).sum()
            estimate = found.estimate(name, **{axis: label})
            room = slack + 0.5 * estimate.width  # one seed: coverage is tested on the closed form
            assert estimate.low - room <= true <= estimate.high + room, (name, label)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize("side", ["weights", "outputs", "probes"])
def test_all_three_ways_agree_with_the_dense_matrix(
    case: str, dtype: torch.dtype, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if side != "weights":
        monkeypatch.setattr(instrument, "EXACT", 0)
    if side == "probes":
        monkeypatch.setattr(kernels, "MOST_OUTPUTS", 0)
    found = taken(CASES[case].subject(dtype=dtype))
    kind = found.dataset["effective_dimension"].attrs["kind"]
    assert kind == ("interval" if side == "probes" else "exact")
    holds(found, np.maximum(dense(case), 0.0), 0.01 if dtype == torch.float32 else 1e-4)
    shares = found.values("relative")
    assert (np.diff(shares) > 0).all(), "a smaller ridge leaves more directions"


def test_rounds_shorten_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "EXACT", 0)
    monkeypatch.setattr(kernels, "MOST_OUTPUTS", 0)
    subject = CASES["tanh-mlp"].subject(dtype=torch.float64)
    one, nine = (
        taken(subject, rounds=rounds).estimate("effective_dimension", decay=0.01)
        for rounds in (1, 9)
    )
    assert nine.width < 0.5 * one.width


def test_scaling_the_loss_moves_the_absolute_and_not_the_relative_dimension() -> None:
    """Logits of a linear network times three: another loss surface, with eigenvalues of its own."""
    case = CASES["regression"]
    (x, y), start = case.train, case.build()
    plain = taken(Subject(start, train=(x, y), loss="mse", dtype=torch.float64))
    scaled = torch.nn.Sequential(case.build(), torch.nn.Linear(1, 1, bias=False))
    scaled[1].weight.data.fill_(3.0)
    scaled[1].weight.requires_grad_(False)
    larger = taken(Subject(scaled, train=(x, y), loss="mse", dtype=torch.float64))
    np.testing.assert_allclose(larger.values("relative"), plain.values("relative"), rtol=1e-6)
    assert (larger.values("effective_dimension") > plain.values("effective_dimension")).all()


def test_it_never_exceeds_parameters_or_outputs() -> None:
    found = taken(CASES["binary"].subject(dtype=torch.float64))
    assert found.values("effective_dimension").max() <= 48
    assert found.estimate("parameters").value == sum(
        p.numel() for p in CASES["binary"].build().parameters()
    )


def test_a_ridge_within_round_off_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "EXACT", 0)
    monkeypatch.setattr(kernels, "MOST_OUTPUTS", 0)
    (x, y), module = CASES["regression"].train, CASES["regression"].build()
    found = taken(Subject(module, train=(100 * x, y), loss="mse"))
    assert np.isnan(found.estimate("effective_dimension", decay=0.0001).value)
    assert np.isfinite(found.values("relative")).all()


def test_a_loss_that_may_not_be_convex_is_refused() -> None:
    case = CASES["regression"]
    held = Subject(
        case.build(), train=case.train, loss=lambda f, y: torch.tanh((f - y) ** 2).mean()
    )
    found = measure(NAME, held)
    assert isinstance(found, NotApplicable)
    assert "convex" in found.reason


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", ["relu-mlp", "sequence"])
def test_conformance_of_the_probes(case: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases are small, so that only here they are measured by probes."""
    monkeypatch.setattr(instrument, "EXACT", 0)
    monkeypatch.setattr(kernels, "MOST_OUTPUTS", 0)

    def make(dtype: torch.dtype, batch_size: int = 512) -> Subject:
        return CASES[case].subject(dtype=dtype, batch_size=batch_size)

    CHECKS[check](instrument, make, torch.float32)
