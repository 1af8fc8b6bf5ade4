"""Outputs of wide networks as a Gaussian process: theory, finite networks, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.concepts.kernels.claims import nngp as module
from whynet.concepts.kernels.theory.infinite_width import relu_fourth_moment


def test_fourth_moment_of_a_narrow_network_is_that_of_a_direct_simulation() -> None:
    generator = np.random.default_rng(0)
    variance = np.ones(400_000)
    for _ in range(2):
        hidden = np.maximum(generator.normal(size=(400_000, 8)), 0)
        variance *= 2 * (hidden**2).mean(1)
    assert (variance**2).mean() == pytest.approx(relu_fourth_moment(8, 2), rel=0.03)
    assert variance.mean() == pytest.approx(1, rel=0.01)


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run("nngp")


def test_outputs_are_gaussian_and_those_of_the_controls_are_not(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_outputs_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    scaled = measured.assign(
        second=1.44 * measured["second"],
        fourth=1.44**2 * measured["fourth"],
        joint=1.44**2 * measured["joint"],
    )
    assert module.judge(scaled, predicted).state == "refuted"
    shuffled = measured.assign(second=measured["second"].roll(second_0=1, second_1=1))
    assert module.judge(shuffled, predicted).state != "supported"


def made(generator: np.random.Generator, spread: float) -> Tables:
    """Moments of Gaussians of 3 outputs whose first has a variance of `spread`."""
    dims = ["activation", "depth", "width", "bias_scale", "seed"]
    coords = {"activation": ["erf"], "depth": [1], "width": [64], "bias_scale": [0.0],
              "seed": range(20)}  # fmt: skip
    values = generator.normal(size=(20, 400, 3)) * np.sqrt([spread, 1, 1])
    pairs = np.einsum("sbi,sbj->sbij", values, values)
    joint = np.einsum("sbij,sbkl->sijkl", pairs, pairs) / 400
    lead = (1, 1, 1, 1, 20)
    measured = xr.Dataset(
        {
            "second": ([*dims, "second_0", "second_1"], pairs.mean(1).reshape(*lead, 3, 3)),
            "fourth": (dims, (values[..., 0] ** 4).mean(1).reshape(lead)),
            "joint": ([*dims, *(f"joint_{i}" for i in range(4))], joint.reshape(*lead, *[3] * 4)),
        },
        coords,
    )
    predicted = xr.Dataset(
        {
            "covariance": (
                [*dims, "covariance_0", "covariance_1"],
                np.broadcast_to(np.eye(3), (*lead, 3, 3)),
            ),
            "fourth": (dims, np.full(lead, np.nan)),
        },
        coords,
    )
    return measured, predicted


MADE_UP = (
    at_null("one variance 10 % too large, the band's edge", lambda g: made(g, 1.1)),
    holds("Gaussian of the stated covariance", lambda g: made(g, 1.0)),
    fails("one variance 40 % too large", lambda g: made(g, 1.4)),
)
