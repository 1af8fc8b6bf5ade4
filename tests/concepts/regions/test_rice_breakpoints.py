"""Switches of random networks, counted, and the claim about their expected number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds
from torch import nn

from whynet.concepts.regions.claims import rice_breakpoints as module
from whynet.concepts.regions.random_networks import relu_network, switches_along
from whynet.core.errors import InputError


def test_networks_have_the_stated_scales_and_share_their_weights() -> None:
    one, other = (
        relu_network(np.random.default_rng(5), 6, [300, 300], scale) for scale in (0.5, 1.0)
    )
    assert [layer.weight.shape for layer in one[::2]] == [(300, 6), (300, 300), (1, 300)]
    for layer, twin in zip(one[::2], other[::2], strict=True):
        assert torch.equal(layer.weight, twin.weight)
        assert torch.equal(2 * layer.bias, twin.bias)
    assert float(one[2].weight.detach().var()) == pytest.approx(2 / 300, rel=0.02)
    assert float(one[2].bias.detach().std()) == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_switches_are_the_sign_changes_on_a_fine_grid(dtype: torch.dtype) -> None:
    network = relu_network(np.random.default_rng(1), 3, [7, 6, 5], 0.5).to(dtype)
    starts, ends = np.random.default_rng(2).standard_normal((2, 4, 3))
    found = switches_along(network, starts, ends)
    for start, end, count in zip(starts, ends, found, strict=True):
        values = torch.from_numpy(start + np.linspace(0, 1, 100_001)[:, None] * (end - start))
        changes = 0
        with torch.no_grad():
            for layer in network.double():
                values = layer(values)
                if isinstance(layer, nn.Linear) and layer.out_features > 1:
                    changes += int(((values[1:] > 0) != (values[:-1] > 0)).sum())
        assert changes == count
    with pytest.raises(InputError, match="Tanh"):
        switches_along(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), starts, ends)


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("rice-breakpoints")


def test_rice_counts_breakpoints_and_other_networks_have_other_counts(smoke: Any) -> None:
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_over_a_long_line_every_unit_switches_once() -> None:
    changes = {"spread": [1e4], "depth": [3], "width": [40]}
    _, tables = run("rice-breakpoints", controls=False, seeds=60, changes=changes)
    measured, predicted = (table["switches"].values.ravel() for table in tables[""])
    whole = 3 * 40 * module.SEGMENTS
    assert (predicted < whole).all()
    assert measured.mean() / predicted.mean() == pytest.approx(1, abs=0.06)
    long = [10**6 * np.ones((1, 4)), -(10**6) * np.ones((1, 4)) + 1]
    nets = [relu_network(np.random.default_rng(s), 4, [40] * 3, 1.0) for s in range(60)]
    counts = [int(switches_along(net, *long)[0]) for net in nets]
    assert np.mean(counts) == pytest.approx(120, abs=4 * np.std(counts) / 60**0.5)


@pytest.mark.parametrize("factor", [0.93, 1.08])
def test_a_wrong_count_flips_the_verdict(smoke: Any, factor: float) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    assert module.judge(measured, predicted).state == "supported"
    wrong = measured.assign(switches=factor * measured["switches"])
    assert module.judge(wrong, predicted).state != "supported"
    far = measured.assign(switches=factor**2 * measured["switches"])
    assert module.judge(far, predicted).state == "refuted"


def switches(generator: np.random.Generator, mean: float) -> Tables:
    """Numbers of switches over the expected ones, of which those of one depth are off."""
    names, shape, coords = frame("rice-breakpoints", "small")
    center = np.ones(shape)
    center[0] = mean
    counts = 200 * (center + 0.08 * generator.normal(size=shape))
    expected = xr.Dataset({"switches": (names, np.full(shape, 200.0))}, coords)
    return xr.Dataset({"switches": (names, counts)}, coords), expected


MADE_UP = (
    at_null("5 % too few at one depth, the band's edge", lambda g: switches(g, 0.95)),
    at_null("5 % too many at one depth", lambda g: switches(g, 1.05)),
    holds("the expected numbers", lambda g: switches(g, 1.0)),
    fails("15 % too many at one depth", lambda g: switches(g, 1.15)),
)


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
