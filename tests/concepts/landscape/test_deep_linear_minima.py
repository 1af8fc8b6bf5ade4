"""The least loss of deep linear networks, and the claim that descent always ends there."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.judging import CLAIM, Verdict
from whynet.concepts.landscape.claims import deep_linear_minima as module
from whynet.concepts.landscape.theory.deep_linear_minima import least_loss


@cache
def smoke() -> tuple[Verdict, dict[str, Tables]]:
    return run("deep-linear-minima")


def test_the_least_loss_is_that_of_the_truncated_decomposition_and_no_matrix_is_nearer() -> None:
    generator = np.random.default_rng(0)
    target = generator.standard_normal((5, 7))
    left, values, right = np.linalg.svd(target, full_matrices=False)
    for rank in range(1, 6):
        inner, outer = left[:, :rank] * values[:rank], right[:rank]
        least = least_loss(target, rank)
        assert least == pytest.approx(0.5 * np.sum((inner @ outer - target) ** 2), abs=1e-12)
        for _ in range(20):
            moved = inner + 0.1 * generator.standard_normal(inner.shape)
            other = moved @ (outer + 0.1 * generator.standard_normal(outer.shape))
            assert 0.5 * np.sum((other - target) ** 2) >= least - 1e-12


def test_it_is_supported_and_each_control_is_refuted() -> None:
    verdict, tables = smoke()
    assert verdict.state == "supported", verdict.sentence
    for name in ("relu", "uneven"):
        judged = module.judge(*tables[name])
        assert judged.state == "refuted", (name, judged.sentence)


def test_a_wrong_measurement_flips_the_verdict() -> None:
    measured, predicted = (table[["loss"]] for table in smoke()[1][CLAIM])
    assert module.judge(measured * 1.01, predicted).state == "refuted"
    stuck = measured.copy(deep=True)
    stuck["loss"][{"seed": 0}] *= 1.5
    assert module.judge(stuck, predicted).state != "supported"
    assert module.judge(measured * np.nan, predicted).state == "inconclusive"


def made(generator: np.random.Generator, excess: float) -> Tables:
    """Tables of 20 seeds whose losses lie above the predicted one by a share, on average."""
    coordinates = {"size": [6], "depth": [2, 3], "width": [2], "seed": range(20)}
    shape = tuple(len(values) for values in coordinates.values())
    predicted = xr.Dataset({"loss": (tuple(coordinates), np.ones(shape))}, coordinates)
    moved = 1e-5 * generator.standard_normal(shape)
    moved[:, 0] += excess
    return predicted + moved, predicted


MADE_UP = (
    at_null("the loss of one depth 0.001 too large, the band's edge", lambda g: made(g, 1e-3)),
    at_null("0.001 too small", lambda g: made(g, -1e-3)),
    holds("the predicted losses", lambda g: made(g, 0.0)),
    fails("0.002 too large", lambda g: made(g, 2e-3)),
)


def test_the_saddle_that_keeps_one_mode_has_the_curvature_of_theory() -> None:
    """Two matrices at the balanced point of the first mode: eigenvalues ± s for the others."""
    sizes = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        one, two = flat.reshape(2, 3, 3)
        return 0.5 * (two @ one - torch.diag(sizes)).square().sum()

    point = torch.zeros(2, 3, 3, dtype=torch.float64)
    point[:, 0, 0] = 3**0.5
    matrix = torch.autograd.functional.hessian(loss, point.reshape(-1))
    values = torch.linalg.eigvalsh(matrix).numpy()
    np.testing.assert_allclose(values[:4], [-2, -2, -1, -1], atol=1e-12)


def test_the_figure_draws() -> None:
    figure = Figure()
    module.draw(figure, *smoke()[1][CLAIM])
    assert figure.axes
