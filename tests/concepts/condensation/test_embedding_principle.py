"""The block of the Hessian that splitting adds, critical points, and the claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, exceptions
from torch import Tensor

from whynet.atlas.judging import CLAIM
from whynet.concepts.condensation.claims import embedding_principle as module
from whynet.concepts.condensation.critical_points import (
    critical_point,
    curvatures,
    loss,
    slopes,
)
from whynet.concepts.condensation.theory.splitting import new_curvatures


def task(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(15, 2, generator=generator, dtype=torch.float64)
    inputs = torch.cat([points, torch.ones(15, 1, dtype=torch.float64)], 1)
    return inputs, torch.sin(5 * points).sum(1)


@pytest.mark.parametrize("share", [-0.7, 0.4])
def test_the_new_block_is_the_second_derivative_along_a_difference_of_copies(share: float) -> None:
    """At any point: w_s + (1 - α) δ and w_t - α δ, outgoing weights α a and (1 - α) a."""
    inputs, targets = task(0)
    neuron = torch.tensor([0.7, -1.1, 0.3, 1.4], dtype=torch.float64)
    step = 1e-4

    def split(delta: Tensor) -> float:
        first, second = neuron.clone(), neuron.clone()
        first[:3] += (1 - share) * delta
        second[:3] -= share * delta
        first[3] *= share
        second[3] *= 1 - share
        return float(loss(torch.stack([first, second]).reshape(-1), inputs, targets))

    unit = step * torch.eye(3, dtype=torch.float64)
    block = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            four = [split(s * unit[i] + t * unit[j]) for s in (1, -1) for t in (1, -1)]
            block[i, j] = (four[0] - four[1] - four[2] + four[3]) / (4 * step**2)
    hidden = torch.tanh(inputs @ neuron[:3])
    found = new_curvatures(
        (hidden * neuron[3] - targets).numpy(),
        (-2 * hidden * (1 - hidden**2)).numpy(),
        inputs.numpy(),
        float(neuron[3]),
        share,
    )
    np.testing.assert_allclose(found, np.linalg.eigvalsh(block), atol=1e-6)


def test_critical_points_are_critical_and_minima_are_told_from_saddles() -> None:
    inputs, targets = task(1)
    point = critical_point(inputs, targets, 1, torch.Generator().manual_seed(0))
    assert point is not None
    assert float(slopes(point.reshape(-1), inputs, targets).norm()) < 1e-13
    values = curvatures(point, inputs, targets)
    generator = torch.Generator().manual_seed(1)
    here = float(loss(point.reshape(-1), inputs, targets))
    around = point + 1e-3 * torch.randn(200, *point.shape, generator=generator).double()
    least = min(float(loss(p.reshape(-1), inputs, targets)) for p in around)
    assert (values.min() > 0) == (least > here)


@pytest.fixture(scope="module")
def smoke() -> tuple[Any, Any]:
    return run("embedding-principle")


def test_the_claim_is_supported_and_every_control_refuted(smoke: tuple[Any, Any]) -> None:
    verdict, found = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {judged.state for judged in verdict.controls.values()} == {"refuted"}
    # Both a minimum that stays one and a saddle are among the points, else signs say little.
    assert len(np.unique(found[CLAIM][1]["negative"].values)) > 1


@pytest.mark.parametrize(
    ("name", "change"), [("negative", 1.0), ("positive", -1.0), ("gradient", 1e-9)]
)
def test_a_wrong_measurement_flips_the_verdict(
    smoke: tuple[Any, Any], name: str, change: float
) -> None:
    measured, predicted = smoke[1][CLAIM]
    wrong = measured.copy(deep=True)
    wrong[name][dict.fromkeys(wrong[name].dims, 0)] += change
    assert module.judge(measured, predicted).state == "supported"
    assert module.judge(wrong, predicted).state == "refuted"


def points(wrong: np.ndarray) -> Tables:
    """Points as predicted, and one eigenvalue of another sign where it is said."""
    zero = np.zeros(len(wrong))
    known = xr.Dataset({"negative": ("seed", zero + 1), "positive": ("seed", zero + 4)})
    beside = {"gradient": ("seed", zero), "loss_change": ("seed", zero)}
    measured = known.assign({**beside, "negative": ("seed", zero + 1 + wrong)})
    return measured, known


MADE_UP = exceptions(points)
