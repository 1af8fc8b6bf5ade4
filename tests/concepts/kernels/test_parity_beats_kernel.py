"""Networks beside their kernels on hidden targets: the bound, kernels, training, verdicts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from tests.concepts.kernels.hidden_tables import cases
from tests.concepts.running_claims import run

from whynet.concepts.kernels import hidden_targets as module
from whynet.concepts.kernels.claims import parity_beats_kernel as parity
from whynet.concepts.kernels.claims import single_index_beats_kernel as single
from whynet.concepts.kernels.theory.dimension_bound import harmonics, least_error, parities
from whynet.core.claim import Cell

MADE_UP = cases()

CLAIMS = ("parity-beats-kernel", "single-index-beats-kernel")


def cell(**changes: float | str) -> Cell:
    parameters = {"dimension": 6, "ratio": 2, "width": 8, "steps": 3, "scaling": "mean-field",
                  "target": "parity", "start": "isotropic"}  # fmt: skip
    return Cell("parity-beats-kernel", 1, {**parameters, **changes}, 0)


def test_parities_share_the_dimensions_of_any_span() -> None:
    """All 15 products of two of six signs on the whole cube, against a random span of seven."""
    cube = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    pairs = np.array([cube[:, i] * cube[:, j] for i, j in itertools.combinations(range(6), 2)])
    assert len(pairs) == parities(6, 2)
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 7)))
    left = 1 - ((pairs @ basis) ** 2).sum(1) / 64
    assert left.mean() >= least_error(7, 15)
    inside, _ = np.linalg.qr(pairs.T @ np.random.default_rng(1).standard_normal((15, 7)))
    best = 1 - ((pairs @ inside) ** 2).sum(1) / 64
    assert best.mean() == pytest.approx(least_error(7, 15)), "the bound is reached"
    assert [harmonics(3, k) for k in (1, 2, 3)] == [3, 5, 7]
    assert harmonics(24, 2) == 24 * 25 // 2 - 1


@pytest.mark.parametrize("claim", [parity, single])
def test_targets_have_mean_zero_and_variance_one(claim: Any) -> None:
    generator = np.random.default_rng(3)
    draw, ask = (parity.signs, parity.product) if claim is parity else (single.sphere, single.bent)
    inputs = draw(generator, 40_000, 20)
    assert np.allclose((inputs**2).sum(1), 20)
    values = ask(inputs)
    assert abs(values.mean()) < 0.02
    assert abs(values.var() - 1) < 0.03
    assert np.abs(values @ inputs / len(inputs)).max() < 0.03, "no linear part"


@pytest.mark.parametrize("scaling", ["mean-field", "lazy"])
def test_kernels_and_training_are_those_of_automatic_differentiation(scaling: str) -> None:
    problem = module.Hidden(parity.signs, parity.product, 2)
    own = cell(scaling=scaling)
    inputs, targets, unseen, wanted, start = module._drawn([own], problem)
    alpha = module.LAZY if scaling == "lazy" else 1.0

    def forward(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return alpha * (torch.relu(x @ p["w"].T) @ p["a"] / 8 + p["b"] / 8**0.5)

    now = {name: value[0].clone() for name, value in start.items()}
    assert float(forward(now, inputs[0]).abs().max()) < 1e-12 * alpha
    rows = torch.func.jacrev(lambda p: forward(p, inputs[0]))(now)
    flat = torch.cat([rows[n].reshape(len(inputs[0]), -1) for n in sorted(rows)], 1)
    torch.testing.assert_close(module._kernel(now, inputs[0], inputs[0], alpha), flat @ flat.T)
    for _ in range(3):
        gradient = torch.func.grad(
            lambda p: 0.5 * (forward(p, inputs[0]) - targets[0]).square().mean()
        )(now)
        rate = module.PACE * 8 / alpha**2
        now = {name: value - rate * gradient[name] for name, value in now.items()}
    error = float((forward(now, unseen[0]) - wanted[0]).square().mean())
    assert module.errors([own], problem)[0]["network"] == pytest.approx(error, rel=1e-9)


@pytest.fixture(scope="module", params=CLAIMS)
def smoke(request: pytest.FixtureRequest) -> tuple[Any, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run(request.param)


def test_networks_find_what_kernels_do_not_and_controls_fail(smoke: Any) -> None:
    verdict, tables = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}
    measured = tables[""][0]
    assert float(measured["kernel"].mean()) > 3 * float(measured["network"].mean())


def test_wrong_measurements_flip_the_verdict(smoke: Any) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    exchanged = measured.assign(network=measured["kernel"], kernel=measured["network"])
    assert module.judge_hidden(exchanged, predicted).state == "refuted"
    learned = measured.assign(kernel=measured["network"])
    assert module.judge_hidden(learned, predicted).state == "refuted"
    one = measured.isel(dimension=[0])
    assert module.judge_hidden(one, predicted).state == "not applicable"
