"""Maxima in planes, against linear programs, the same functions built of ReLUs, and the network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from tests.models.piecewise import graph_of
from tests.models.test_piecewise_linear_planes import SQUARE, count, cut, holds
from torch import Tensor, nn

from whynet.models.piecewise_linear_planes import subdivide
from whynet.numerics.plane_measures import areas_and_centroids, evaluate_maps


class Maxout(nn.Module):
    """Units that are each the largest of some affine functions."""

    def __init__(self, *widths: int, count: int, seed: int = 0, sign: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.affine = nn.ModuleList(
            nn.Linear(before, width * count) for before, width in itertools.pairwise((2, *widths))
        )
        for layer in self.affine:
            nn.init.normal_(layer.bias, std=0.3)
        self.last = nn.Linear(widths[-1], 2)
        self.count, self.sign = count, sign

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.affine:
            parts = layer(x).unflatten(1, (-1, self.count))
            x = parts.amax(2) if self.sign > 0 else parts.amin(2)
        return self.last(x)


class Paired(nn.Module):
    """Maxout of two as a ReLU network: max(a, b) = b + relu(a - b)."""

    def __init__(self, other: Maxout) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.other.affine:
            parts = layer(x).unflatten(1, (-1, 2))
            x = parts[..., 1] + torch.relu(parts[..., 0] - parts[..., 1])
        return self.other.last(x)


def feasible_winners(net: Maxout) -> int:
    """Count by linear programs which choices of a winner for each unit have a point inside."""
    weight = net.affine[0].weight.detach().double().numpy().reshape(-1, net.count, 2)
    bias = net.affine[0].bias.detach().double().numpy().reshape(-1, net.count)
    found = 0
    for choice in itertools.product(range(net.count), repeat=len(weight)):
        rows, bounds = [], []
        for unit, winner in enumerate(choice):
            for rival in set(range(net.count)) - {winner}:
                slope = weight[unit, rival] - weight[unit, winner]
                rows.append([*slope, np.linalg.norm(slope)])
                bounds.append(bias[unit, winner] - bias[unit, rival])
        for axis, sign in itertools.product((0, 1), (1, -1)):
            row = [0.0, 0.0, 1.0]
            row[axis] = sign
            rows.append(row)
            bounds.append(1.0)
        radius = linprog([0, 0, -1], rows, bounds, bounds=[(None, None)] * 2 + [(0, None)])
        found += radius.status == 0 and -radius.fun > 1e-9
    return found


@pytest.mark.parametrize(("width", "competitors"), [(1, 3), (1, 9), (2, 5), (3, 3), (4, 3), (6, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_one_layer_has_as_many_cells_as_winners_are_feasible(
    width: int, competitors: int, seed: int
) -> None:
    net = Maxout(width, count=competitors, seed=seed)
    cells = cut(net)
    assert count(cells) == feasible_winners(net)
    holds(cells, net)


@pytest.mark.parametrize("widths", [(5,), (6, 6), (8, 8, 8)])
def test_the_largest_of_two_is_a_relu_network(widths: tuple[int, ...]) -> None:
    net = Maxout(*widths, count=2, seed=len(widths))
    cells, same = cut(net), cut(Paired(net))
    assert count(cells) == count(same)
    areas, other = (np.sort(areas_and_centroids(found)[0]) for found in (cells, same))
    np.testing.assert_allclose(areas, other, atol=1e-12)
    assert len(cells.vertices) == len(same.vertices)


@pytest.mark.parametrize("sign", [1, -1])
def test_deep_maxima_and_minima_carry_the_network(sign: int) -> None:
    net = Maxout(6, 6, 6, count=4, sign=sign)
    cells = cut(net)
    assert count(cells) > 50
    holds(cells, net)


def test_a_pyramid_of_four_sides_has_four_cells_and_five_walls_more_than_its_border() -> None:
    """max(x, -x, y, -y): the diagonals, although the tournament also meets the axes."""

    class Pyramid(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0], -x[:, 0], x[:, 1], -x[:, 1]], 1).amax(1, keepdim=True)

    cells = cut(Pyramid())
    assert count(cells) == 4
    assert len(cells.vertices) == 5
    areas, _ = areas_and_centroids(cells)
    assert areas.tolist() == pytest.approx([1.0] * 4)
    assert sorted(map(tuple, cells.maps[:, :2, 0].tolist())) == [(-1, 0), (0, -1), (0, 1), (1, 0)]


def pooled() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(4, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip


def test_a_convolutional_network_with_max_pooling_is_rebuilt_from_its_cells() -> None:
    net = pooled().double()
    generator = torch.Generator().manual_seed(1)
    origin = torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    axes = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    cells = subdivide(graph_of(net, (1, 8, 8)), origin, axes, SQUARE)
    areas, centers = areas_and_centroids(cells)
    assert count(cells) > 300
    assert areas.sum() == pytest.approx(4, rel=1e-9)
    assert areas.min() > 0
    outer = int((cells.neighbors < 0).sum())
    assert len(cells.vertices) - (len(cells.corners) + outer) // 2 + count(cells) == 1
    with torch.no_grad():
        where = torch.as_tensor(centers)
        true = net(origin + torch.tensordot(where, axes, 1))
    np.testing.assert_allclose(evaluate_maps(cells.maps, centers), true.numpy(), atol=1e-9)


def test_of_too_many_cells_a_lower_bound_is_kept() -> None:
    net = Maxout(12, 12, count=3)
    whole = cut(net)
    assert whole.complete
    for most in (1, 7, 60, count(whole) - 1):
        part = cut(net, max_cells=most)
        assert not part.complete
        assert most < count(part) <= count(whole)
        areas, _ = areas_and_centroids(part)
        assert areas.sum() == pytest.approx(4, rel=1e-9)
    assert cut(net, max_cells=count(whole)).complete


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-2, 2), min_size=24, max_size=24),
    st.lists(st.integers(-2, 2), min_size=12, max_size=12),
    st.sampled_from([2, 3, 4]),
)
def test_degenerate_weights_tile_the_square(
    weights: list[int], biases: list[int], competitors: int
) -> None:
    """Ties, parallel and coincident walls, equal competitors."""
    net = Maxout(12 // competitors, count=competitors)
    with torch.no_grad():
        net.affine[0].weight.copy_(torch.tensor(weights).reshape(12, 2) / 2)
        net.affine[0].bias.copy_(torch.tensor(biases) / 4)
    holds(cut(net), net)
