"""Directions of group means, and the claim that top eigenvectors are means over classes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds

from whynet.atlas.judging import CLAIM, Verdict
from whynet.concepts.landscape.claims import hessian_outliers as module
from whynet.concepts.landscape.clustered_networks import (
    mean_directions,
    overlap,
    weighted_gradients,
)


@cache
def smoke() -> tuple[Verdict, dict[str, Tables]]:
    return run("hessian-outliers")


def test_the_second_moment_of_weighted_gradients_is_the_hessian_of_a_linear_model() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (30,), generator=generator)
    flat = torch.randn(12, generator=generator, dtype=torch.float64)

    def logits(point: torch.Tensor) -> torch.Tensor:
        return inputs @ point.reshape(4, 3)

    dense = torch.autograd.functional.hessian(
        lambda point: torch.nn.functional.cross_entropy(logits(point), labels), flat
    )
    jacobian = torch.autograd.functional.jacobian(logits, flat)
    vectors = weighted_gradients(logits(flat), jacobian).flatten(0, 1)
    torch.testing.assert_close(vectors.T @ vectors / 30, dense, rtol=1e-10, atol=1e-13)


def test_directions_of_means_are_found_and_random_subspaces_overlap_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(50, 50, generator=generator, dtype=torch.float64))[0]
    groups = torch.arange(300) % 3
    means = torch.zeros(300, 3, 50, dtype=torch.float64)
    for group in range(3):  # three leading directions, hidden in noise of mean zero in each group
        means[groups == group, group] = 5 * basis[group]
    noise = torch.randn(means.shape, generator=generator, dtype=torch.float64)
    for group in range(3):
        noise[groups == group] -= noise[groups == group].mean(0)
    span = mean_directions(means + noise, groups)
    assert overlap(span, basis[:3].T) == pytest.approx(1, abs=1e-12)
    assert overlap(span, basis[3:6].T) == pytest.approx(0, abs=1e-12)
    random = [
        overlap(
            torch.linalg.qr(torch.randn(50, 3, generator=generator).double())[0].T, basis[:, :3]
        )
        for _ in range(400)
    ]
    assert np.mean(random) == pytest.approx(3 / 50, abs=4 * np.std(random) / 20)


def test_it_is_supported_and_each_control_is_refuted() -> None:
    verdict, tables = smoke()
    assert verdict.state == "supported", verdict.sentence
    for name in ("random-groups", "random-labels"):
        judged = module.judge(*tables[name])
        assert judged.state == "refuted", (name, judged.sentence)


def test_all_networks_train_to_the_same_loss() -> None:
    for measured, _ in smoke()[1].values():
        assert float(measured["loss"].max()) <= 0.1


def test_a_wrong_measurement_flips_the_verdict() -> None:
    measured, predicted = smoke()[1][CLAIM]
    wrong = measured.assign(top=measured["following"], following=measured["top"])
    assert module.judge(wrong, predicted).state == "refuted"
    assert module.judge(measured.assign(hessian=measured["random"]), predicted).state == "refuted"
    chance = predicted.assign(chance=predicted["chance"] + 0.9)
    assert module.judge(measured, chance).state == "refuted"
    unfinished = measured.assign(top=measured["top"] * np.nan)
    assert module.judge(unfinished, predicted).state == "inconclusive"


def made(generator: np.random.Generator, top: float, following: float, beyond: float) -> Tables:
    """Tables whose overlaps scatter by 0.05 around what is given, for one separation."""
    names, shape, coords = frame("hessian-outliers", "small")
    first = np.zeros(shape, dtype=bool)
    first[0, :, :, 0] = True
    centers = {
        "top": np.where(first, top, 0.98),
        "following": np.where(first, following, 0.02),
        "hessian": np.where(first, 0.5 + beyond, 0.8),
        "random": np.full(shape, 0.5),
    }
    values = {
        name: (names, center + 0.05 * generator.standard_normal(shape))
        for name, center in centers.items()
    }
    chance = xr.Dataset({"chance": (names, np.full(shape, 0.01))}, coords)
    return xr.Dataset(values, coords), chance


MADE_UP = (
    at_null("overlap of the top 0.9, the band's edge", lambda g: made(g, 0.9, 0.02, 0.3)),
    at_null("of the following 0.1", lambda g: made(g, 0.98, 0.1, 0.3)),
    at_null("the Hessian's 0.1 beyond random groups", lambda g: made(g, 0.98, 0.02, 0.1)),
    holds("overlaps 0.98 and 0.02, 0.3 beyond", lambda g: made(g, 0.98, 0.02, 0.3)),
    fails("overlap of the top 0.6, as of random groups", lambda g: made(g, 0.6, 0.02, 0.3)),
)


def test_the_figure_draws() -> None:
    figure = Figure()
    module.draw(figure, *smoke()[1][CLAIM])
    assert figure.axes
