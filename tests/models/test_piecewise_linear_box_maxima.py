"""Maxima of several in boxes: against planes, linear programs, known cones and the network."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from tests.concepts.regions.test_boxes import cells_of, holds
from tests.models.piecewise import Forward, dense
from tests.models.test_piecewise_linear_programs import cells_of as by_programs
from tests.models.test_piecewise_linear_programs import holds as programs_hold
from tests.models.test_piecewise_linear_programs import patterns
from torch import Tensor, nn

import whynet


class Maxout(nn.Module):
    """Layers of units that are each the largest (or smallest) of some affine functions."""

    def __init__(self, *widths: int, count: int, seed: int = 0, sign: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        pairs = itertools.pairwise(widths)
        self.affine = nn.ModuleList(nn.Linear(before, width * count) for before, width in pairs)
        for layer in self.affine:
            nn.init.normal_(layer.bias, std=0.3)
        self.count, self.sign = count, sign

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.affine:
            parts = layer(x).unflatten(1, (-1, self.count))
            x = parts.amax(2) if self.sign > 0 else parts.amin(2)
        return x


@pytest.mark.parametrize(("count", "sign"), [(3, 1), (4, -1)])
def test_a_plane_gives_the_same(count: int, sign: int) -> None:
    net = Maxout(2, 5, 4, count=count, sign=sign)
    box, plane = cells_of(net, 2), whynet.regions.subdivide(net, whynet.regions.Plane.box(-1, 1))
    assert isinstance(plane, whynet.regions.PlaneRegions)
    assert box.count == plane.count > 4
    assert np.sort(box.volumes) == pytest.approx(np.sort(plane.areas), rel=1e-9, abs=1e-12)
    assert box.lipschitz_constant == pytest.approx(plane.lipschitz_constant, rel=1e-12)
    assert len(box.neighbors) == len(plane.neighbors)
    assert box.linear_regions == plane.linear_regions
    assert box.extrema[1] == pytest.approx(plane.extrema.largest)
    holds(box, net)


@pytest.mark.parametrize("dims", [3, 4])
def test_linear_programs_find_the_same(dims: int) -> None:
    net = Maxout(dims, 3, 2, count=3, seed=1)
    found, other = cells_of(net, dims), by_programs(net, dims)
    assert found.count == len(other.centers) > 10
    assert patterns(net, found.cells) == patterns(net, other)
    holds(found, net)
    programs_hold(other, net)


@pytest.mark.parametrize("dims", [2, 3, 4, 5])
def test_cones_over_the_sides_of_a_cube(dims: int) -> None:
    """The largest of all coordinates and their negatives has a cone over each side."""
    net = Forward(lambda _, x: torch.cat([x, -x], 1).amax(1, keepdim=True))
    if dims == 5:
        found: Any = by_programs(net, dims)
        assert len(found.centers) == 10
        programs_hold(found, net)
        return
    box = cells_of(net, dims)
    assert box.count == box.linear_regions == 2 * dims
    assert box.volumes == pytest.approx(np.full(2 * dims, 2**dims / (2 * dims)))
    corners = box.cells.corners
    assert corners is not None
    assert np.diff(corners.offsets).tolist() == [2 ** (dims - 1) + 1] * (2 * dims)
    # Each but the opposite one is a neighbor, and there is one side of the cube.
    assert np.diff(box.cells.offsets).tolist() == [2 * dims - 1] * (2 * dims)
    holds(box, net)


def test_winners_are_the_feasible_ones() -> None:
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(14, 3)), random.normal(size=14)
    layer = dense(weight.tolist(), bias.tolist())
    held, shift = (part.detach().double().numpy() for part in layer.parameters())
    winners = 0
    for k in range(14):
        others = np.arange(14) != k
        rows, room = held[others] - held[k], shift[k] - shift[others]
        norms = np.linalg.norm(rows, axis=1)
        ball = linprog([0, 0, 0, -1], np.column_stack([rows, norms]), room, bounds=[(-1, 1)] * 4)
        winners += ball.status == 0 and ball.x[3] > 1e-9
    net = Forward(lambda m, x: m.layer(x).amax(1, keepdim=True), layer=layer)
    found = cells_of(net, 3)
    assert found.count == winners > 4
    assert len(by_programs(net, 3).centers) == winners


def test_a_stopped_search_is_a_lower_bound() -> None:
    net = Maxout(3, 4, 3, count=3, seed=2)
    whole = cells_of(net, 3)
    for most in (5, 40):
        part = cells_of(net, 3, max_cells=most)
        assert not part.complete
        assert 1 < part.count <= whole.count
        fewer = by_programs(net, 3, most=most)
        assert not fewer.complete
        assert most < len(fewer.centers) <= whole.count


def test_pooling_and_levels_together() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.one, self.two = nn.Linear(3, 8), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            pooled = nn.functional.max_pool1d(self.one(x).relu()[:, None], 4)[:, 0]
            return torch.cat([self.two(pooled).relu(), x.abs()], 1)

    net = Pooled()
    found, other = cells_of(net, 3), by_programs(net, 3)
    assert patterns(net, found.cells) == patterns(net, other)
    holds(found, net)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([3, 4]))
def test_degenerate_weights_tile_the_box(seed: int, count: int) -> None:
    """Ties, parallel and coincident walls, equal competitors."""
    random = np.random.default_rng(seed)
    net = Maxout(3, 2, 2, count=count)
    with torch.no_grad():
        for layer in net.affine:
            for part in layer.parameters():
                part.copy_(torch.as_tensor(random.integers(-2, 3, part.shape) / 2))
    holds(cells_of(net, 3), net)
