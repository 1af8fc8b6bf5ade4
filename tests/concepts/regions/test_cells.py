"""`whynet.regions.cell_at` against closed forms, independent programs and the network itself."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from tests.models.piecewise import Forward, dense
from torch import Tensor, nn

import whynet
from whynet.concepts.regions.cells import BORDER, Cell
from whynet.core.outcome import NotApplicable

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def cell_of(model: nn.Module, point: Any, **box: Any) -> Cell:
    found = whynet.regions.cell_at(model, point, **box)
    assert isinstance(found, Cell), found
    return found


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Linear(before, width), nn.ReLU()]
        nn.init.normal_(layers[-2].bias, std=0.4)
    return nn.Sequential(*layers[:-1])


def signs(net: nn.Sequential, points: Tensor, level: float = 0.0) -> Tensor:
    """The activation patterns of a chain of ReLUs, read from its layers."""
    rows, value = [], points
    for layer in net:
        if isinstance(layer, nn.ReLU):
            rows.append(value > level)
        value = layer(value)
    return torch.cat(rows, 1)


def holds(cell: Cell, net: nn.Sequential) -> None:
    """Check half-spaces, map and pattern on points inside and outside the cell."""
    net = net.double()
    generator = torch.Generator().manual_seed(0)
    flat = cell.point.flatten()
    size = cell.inradius if np.isfinite(cell.inradius) else 1.0
    spread = 2 * size * torch.randn(3000, len(flat), generator=generator, dtype=torch.float64)
    points = torch.cat([cell.center.flatten() + spread, flat[None]])
    with torch.no_grad():
        same = (signs(net, points) == torch.as_tensor(cell.pattern == 1)).all(1).numpy()
        exact = net(points)
    assert 10 < same.sum() < 3000
    walls = cell.origins[:, 0] != BORDER
    bare = replace(cell, normals=cell.normals[walls], limits=cell.limits[walls])
    assert np.array_equal(bare.contains(points, 0), same)
    torch.testing.assert_close(cell.evaluate(points)[same], exact[same], rtol=0, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("widths", [(2, 9, 3), (3, 12, 12, 1), (6, 10, 10, 10, 2)])
def test_a_cell_is_where_the_pattern_holds(widths: tuple[int, ...], dtype: torch.dtype) -> None:
    net = network(*widths).to(dtype)
    point = torch.linspace(-0.5, 0.7, widths[0], dtype=dtype)
    cell = cell_of(net, point, low=-2, high=2)
    holds(cell, net)
    # Chebyshev center and facets by programs that know nothing of scales or redundancy.
    rows = np.column_stack([cell.normals, np.ones(len(cell.limits))])
    cost = -np.eye(widths[0] + 1)[-1]
    ball = linprog(cost, A_ub=rows, b_ub=cell.limits, bounds=(None, None), method="highs-ds")
    assert cell.inradius == pytest.approx(-ball.fun, rel=1e-7)
    needed = []
    for row in range(len(cell.limits)):
        others = np.arange(len(cell.limits)) != row
        far = linprog(
            -cell.normals[row], A_ub=cell.normals[others], b_ub=cell.limits[others],
            bounds=(None, None), method="highs-ds",
        )  # fmt: skip
        if -far.fun > cell.limits[row] + 1e-7:
            needed.append(row)
    assert cell.facets.tolist() == needed
    gains = torch.linalg.matrix_norm(torch.as_tensor(cell.jacobian), 2)
    assert cell.lipschitz_constant == pytest.approx(float(gains))


def test_a_wrong_half_space_or_map_is_noticed() -> None:
    net = network(3, 12, 12, 1)
    cell = cell_of(net, torch.tensor([0.3, -0.1, 0.2]), low=-2, high=2)
    holds(cell, net)
    row = int(cell.facets[0])
    moved, turned = cell.limits.copy(), cell.normals.copy()
    moved[row] += 0.3 * cell.inradius
    turned[row] = -turned[row]
    for wrong in (
        replace(cell, limits=moved),
        replace(cell, normals=turned),
        replace(cell, constant=cell.constant + 1e-9),
        replace(cell, pattern=1 - cell.pattern),
    ):
        with pytest.raises(AssertionError):
            holds(wrong, net)


def test_the_nearest_wall_is_where_the_pattern_first_changes() -> None:
    net = network(4, 16, 16, 2).double()
    point = torch.tensor([0.2, -0.3, 0.1, 0.4], dtype=torch.float64)
    cell = cell_of(net, point)
    generator = torch.Generator().manual_seed(1)
    ways = torch.randn(4000, 4, generator=generator, dtype=torch.float64)
    ways /= ways.norm(dim=1, keepdim=True)
    here = signs(net, point[None])
    inside = signs(net, point + (1 - 1e-9) * cell.wall_distance * ways)
    assert bool((inside == here).all())
    row = cell.nearest_wall
    assert row is not None
    foot = point + (1 + 1e-9) * cell.wall_distance * torch.as_tensor(cell.normals[row])
    assert int((signs(net, foot[None]) != here).sum()) == 1
    # Closer than a quarter more, some drawn direction has met it: the distance is not too small.
    beyond = signs(net, point + 1.25 * cell.wall_distance * ways)
    assert bool((beyond != here).any())


def test_neighbors_differ_in_the_unit_of_the_facet_and_know_each_other() -> None:
    net = network(3, 10, 10, 1)
    cell = cell_of(net, torch.zeros(3), low=-2, high=2)
    assert len(cell.neighbors) == (cell.origins[cell.facets, 0] != BORDER).sum() > 3
    offsets = {1: 0, 3: 10}
    for neighbor in cell.neighbors:
        step, unit = cell.origins[neighbor.facet]
        assert neighbor.flipped.tolist() == [offsets[int(step)] + unit]
        other = cell_of(net, neighbor.point, low=-9, high=9)
        assert np.array_equal(other.pattern, neighbor.pattern)
        back = [n for n in other.neighbors if np.array_equal(n.pattern, cell.pattern)]
        assert len(back) == 1
        wall = other.normals[back[0].facet]
        assert np.allclose(wall, -cell.normals[neighbor.facet], atol=1e-9)


@DTYPES
def test_absolute_values(dtype: torch.dtype) -> None:
    cell = cell_of(Forward(lambda _, x: x.abs()), torch.tensor([0.5, -0.25, 3.0], dtype=dtype))
    assert cell.pattern.tolist() == [1, 0, 1]
    assert cell.wall_distance == 0.25
    assert np.array_equal(cell.jacobian, np.diag([1.0, -1, 1]))
    assert cell.inradius == np.inf
    assert cell.facets.tolist() == [0, 1, 2]
    boxed = cell_of(Forward(lambda _, x: x.abs()), [0.5, -0.25, 3.0], low=-4, high=[1, 4, 5])
    assert boxed.inradius == pytest.approx(0.5)
    assert len(boxed.facets) == 6
    assert sorted(n.flipped.tolist() for n in boxed.neighbors) == [[0], [1], [2]]


def test_levels_and_maxima() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            top = x.amax(1, keepdim=True)
            return torch.cat([nn.functional.hardtanh(x[:, :1]), top, -torch.min(x, 2 * x)], 1)

    point = torch.tensor([0.25, -2.0, 1.0])
    cell = cell_of(Both(), point)
    assert cell.pattern.tolist() == [2, 1, 0, 1, 0]  # in the order of the forward
    expected = [[1, 0, 0], [0, 0, 1], [-1, 0, 0], [0, -2, 0], [0, 0, -1]]
    assert cell.jacobian.tolist() == expected
    assert cell.constant.tolist() == [0] * 5
    # -1 < x0 < 1, x2 above x0 and x1, and the signs of all three, where x and 2 x part.
    assert cell.wall_distance == pytest.approx(0.25)
    others = [[0.9, -1, 0.95], [0.9, -1, 0.85], [-0.1, -1, 1], [1.1, -1, 2]]
    assert cell.contains(others).tolist() == [True, False, False, False]
    constant = cell_of(nn.Linear(3, 2), point)
    assert (constant.wall_distance, constant.nearest_wall) == (np.inf, None)
    assert (len(constant.facets), constant.inradius, constant.neighbors) == (0, np.inf, ())


def test_an_image_and_a_convolutional_network_with_pooling() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 4), nn.LeakyReLU(), nn.Linear(4, 3),
    )  # fmt: skip
    net.train()(torch.randn(9, 1, 6, 6))
    point = torch.randn(1, 6, 6)
    cell = cell_of(net, point)
    assert net.training
    assert cell.pattern.shape == (2 * 16 + 8 + 4,)
    net = net.double().eval()
    assert cell.normals.shape == (len(cell.limits), 36)
    with torch.no_grad():
        here = cell.evaluate(point)
        torch.testing.assert_close(here, net(point[None].double()), rtol=0, atol=1e-12)
    jacobian = torch.func.jacrev(net)(point[None].double()).reshape(3, 36)
    torch.testing.assert_close(torch.as_tensor(cell.jacobian), jacobian, rtol=0, atol=1e-12)
    neighbor = cell.neighbors[0]
    assert neighbor.point.shape == (1, 6, 6)
    other = cell_of(net, neighbor.point)
    assert np.array_equal(other.pattern, neighbor.pattern)
    # The walls are known by both: the networks agree on the facet between.
    where = torch.as_tensor(cell.point).flatten()
    foot = where + cell.wall_distance * torch.as_tensor(cell.normals[cell.nearest_wall])
    assert cell.contains(foot, 1e-9).all()


@DTYPES
@pytest.mark.parametrize("copies", [1, 3])
def test_a_point_on_walls_gets_a_cell_with_points_inside(dtype: torch.dtype, copies: int) -> None:
    rows = [[1.0, 0], [-1, 0], [1, 1], [-1, -1], [0, 0], [1, -2]] * copies
    net = nn.Sequential(dense(rows, [0.0] * len(rows)), nn.ReLU(), nn.Linear(len(rows), 1))
    cell = cell_of(net.to(dtype), torch.zeros(2, dtype=dtype), low=-1, high=1)
    assert cell.inradius > 0.05
    assert cell.wall_distance == 0
    assert cell.contains(torch.zeros(1, 2)).all()
    there = cell_of(net, cell.center, low=-1, high=1)
    assert np.array_equal(there.pattern, cell.pattern)
    assert np.array_equal(there.jacobian, cell.jacobian)
    walls = cell.facets[cell.origins[cell.facets, 0] != BORDER]
    assert len(walls) == 2
    flips = {len(n.flipped) for n in cell.neighbors}
    assert flips <= {copies, 2 * copies}  # a wall alone, or two opposite ones


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(2, 6), min_size=1, max_size=3),
    st.integers(0, 10**6),
    st.integers(1, 2),
)
def test_degenerate_weights(widths: list[int], seed: int, scale: int) -> None:
    """Small whole numbers: zero, equal, opposite rows and points on many walls at once."""
    net = network(3, *widths, 2).double()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            whole = torch.randint(-scale, scale + 1, parameter.shape, generator=random)
            parameter.copy_(whole.double())
    point = torch.randint(-2, 3, (3,), generator=random).double() / 2
    cell = cell_of(net, point, low=-2, high=2)
    assert cell.inradius > 1e-6
    assert cell.contains(point[None]).all()
    active = torch.as_tensor(cell.pattern == 1)
    # A unit that cancels to zero is off, whatever its round-off.
    assert bool((signs(net, cell.center[None], 1e-12)[0] == active).all())
    with torch.no_grad():
        inside = torch.stack([cell.center, point])
        torch.testing.assert_close(cell.evaluate(inside), net(inside), rtol=1e-12, atol=1e-9)
    for neighbor in cell.neighbors:
        assert len(neighbor.flipped)
        found = signs(net, neighbor.point[None], 1e-12)[0].numpy()
        assert np.array_equal(found, neighbor.pattern == 1)


@pytest.mark.parametrize(
    ("point", "box", "words"),
    [
        ([1.0, torch.nan], {}, "point: found values that are not finite"),
        ([1.0, 2, 3], {}, r"point: found points of shape \[3\], on which the network raises"),
        ([1.0, 2], {"low": 0, "high": 1.5}, "point: found a point outside the box"),
        ([1.0, 2], {"low": 0}, "high: found no value; wanted both ends"),
        ([1.0, 2], {"low": 0, "high": [1.0, 2, 3]}, r"high: found an array of shape \[3\]"),
        ([1.0, 2], {"low": 3, "high": 3}, "high: found a box without inside"),
        ([1.0, 2], {"low": 0, "high": torch.inf}, "high: found values that are not finite"),
    ],
)
def test_bad_input_gets_one_sentence(point: Any, box: dict[str, Any], words: str) -> None:
    with pytest.raises(whynet.InputError, match=words):
        whynet.regions.cell_at(network(2, 3, 1), torch.tensor(point), **box)


def test_what_is_curved_is_named() -> None:
    answer = whynet.regions.cell_at(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.zeros(2))
    assert isinstance(answer, NotApplicable)
    assert "`1` is a Tanh, which is curved" in answer.reason
