"""Hidden layers as maxima, a bound on the distance over all cells, and the claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, exceptions
from torch import nn

import whynet
from whynet.concepts.approximation.claims import logarithmic_depth_representation as module
from whynet.concepts.approximation.distances import integrated_gap
from whynet.concepts.approximation.theory.maximum_networks import (
    difference_of_maxima,
    maxima_of_hidden_layer,
)
from whynet.concepts.regions.planes import Plane
from whynet.core.claim import Cell
from whynet.core.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hidden_layer_is_a_difference_of_maxima(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)

    def whole(*shape: int) -> torch.Tensor:
        return torch.randint(-5, 6, shape, generator=draw).to(dtype)

    hidden = whole(6, 3), whole(6)
    outer = torch.tensor([2, -1, 3, -2, 1, 0], dtype=dtype), torch.tensor(4, dtype=dtype)
    raised, lowered = maxima_of_hidden_layer(hidden, outer)
    assert (len(raised[0]), len(lowered[0])) == (8, 8)
    x = whole(300, 3)
    wanted = (x @ hidden[0].T + hidden[1]).relu() @ outer[0] + outer[1]
    maxima = [(x @ weight.T + bias).amax(1) for weight, bias in (raised, lowered)]
    assert torch.equal(maxima[0] - maxima[1], wanted)
    network = difference_of_maxima(raised, lowered)
    with torch.no_grad():
        assert torch.equal(network(x)[:, 0], wanted)
    assert sum(isinstance(layer, nn.ReLU) for layer in network) == 3


def test_bad_layers_are_refused() -> None:
    one = torch.ones(17, 2), torch.ones(17)
    with pytest.raises(InputError, match="at most 16"):
        maxima_of_hidden_layer(one, (torch.ones(17), torch.tensor(0.0)))
    with pytest.raises(InputError, match="outer"):
        maxima_of_hidden_layer(one, (torch.ones(3), torch.tensor(0.0)))


def function_cell(function: str, pieces: str = "all", inputs: int = 3) -> Cell:
    parameters = {
        "inputs": inputs, "terms": 7, "function": function, "form": "pairs", "pieces": pieces,
    }  # fmt: skip
    return Cell("logarithmic-depth-representation", 1, parameters, 1)


@pytest.mark.parametrize("function", ["maxima", "hidden-layer"])
def test_the_parts_are_the_function_and_the_bound_is_above_all_distances(function: str) -> None:
    cell = function_cell(function)
    own, plane = module.function_of(cell), module.plane_of(cell)
    points = np.random.default_rng(0).uniform(-module.SIDE, module.SIDE, (4000, 2))
    x = plane.inputs(points)
    values = [
        sum(sign * (x @ weight.T + bias).amax(1) for sign, (weight, bias) in parts)
        for parts in (own.parts, ((1.0, own.raised), (-1.0, own.lowered)))
    ]
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-12)
    kept = (
        torch.arange(len(own.raised[1])) != (own.raised[0] @ plane.origin + own.raised[1]).argmax()
    )
    network = difference_of_maxima((own.raised[0][kept], own.raised[1][kept]), own.lowered)
    regions = whynet.regions.subdivide(network, plane)
    assert isinstance(regions, whynet.regions.PlaneRegions)
    with torch.no_grad():
        sampled = float((network(x)[:, 0] - values[0]).abs().max())
    bound = module.distance_bound(own, regions)
    assert 0.01 < sampled <= bound < 6 * sampled


def test_the_bound_sees_a_bend_inside_a_cell() -> None:
    """|x| beside the network 1: on one cell, equal at both ends of the square."""
    flat = nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        flat.weight.zero_()
        flat.bias.fill_(1.0)
    regions = whynet.regions.subdivide(flat, Plane.box(-1, 1))
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    terms = weight, torch.zeros(2, dtype=torch.float64)
    own = module.Function(terms, terms, ((1.0, terms),))
    assert isinstance(regions, whynet.regions.PlaneRegions)
    assert module.distance_bound(own, regions) >= 1


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("logarithmic-depth-representation")


def test_networks_equal_their_functions_and_a_dropped_piece_is_seen(smoke: Any) -> None:
    verdict, tables = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}
    dropped = tables["one-dropped"][0]["distance"].values
    assert dropped.min() > 1e-3


@pytest.mark.parametrize(("name", "change"), [("distance", 1e-6), ("layers", 1.0)])
def test_one_wrong_number_flips_the_verdict(smoke: Any, name: str, change: float) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    wrong = measured[name] + xr.where(measured["seed"] == 2, change, 0.0)
    assert module.judge(measured.assign({name: wrong}), predicted).state == "refuted"
    few = measured.isel(seed=slice(4)), predicted.isel(seed=slice(4))
    assert module.judge(*few).state == "inconclusive"


def gaps(wrong: np.ndarray) -> Tables:
    """Distances of round-off, and of more where it is said."""
    ones = np.ones(len(wrong))
    known = {"distance": 0 * ones, "layers": 2 * ones, "cells": 10 * ones}
    predicted = xr.Dataset({name: ("seed", values) for name, values in known.items()})
    return predicted.assign(distance=("seed", 1e-15 + 1e-6 * wrong)), predicted


MADE_UP = exceptions(gaps)


@pytest.mark.parametrize("seed", range(8))
def test_networks_that_are_equal_have_a_gap_of_round_off(seed: int) -> None:
    """Two ways to write one function of one input; their difference is nothing but round-off."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(6, 1, generator=draw).double(), torch.randn(6, generator=draw).double()
    outer = torch.randn(6, generator=draw).double(), torch.tensor(0.5).double()
    built = difference_of_maxima(*maxima_of_hidden_layer(hidden, outer))
    drawn = nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    with torch.no_grad():
        for layer, (weight, bias) in ((drawn[0], hidden), (drawn[2], (outer[0][None], outer[1]))):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias.reshape(-1))
    assert integrated_gap(built, drawn, -3, 3) < 1e-13


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
