"""`whynet.regions.cells_in_box` against arrangements, folds, planes, and a walk over neighbors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.piecewise import Forward, dense
from torch import Tensor, nn

import whynet
from whynet.concepts.approximation.theory.sawtooth_networks import sawtooth
from whynet.concepts.regions.boxes import BoxRegions
from whynet.concepts.regions.subdivision import PlaneRegions
from whynet.core.outcome import NotApplicable
from whynet.models import piecewise_linear_box_walls, piecewise_linear_boxes
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_operations import Value
from whynet.models.piecewise_linear_source import graph_from
from whynet.numerics import face_cutting

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Linear(before, width), nn.ReLU()]
        nn.init.normal_(layers[-2].weight, std=1.5 / math.sqrt(before))
        nn.init.normal_(layers[-2].bias, std=0.4)
    return nn.Sequential(*layers[:-1])


def cells_of(model: nn.Module, dims: int, half: float = 1.0, **limits: Any) -> BoxRegions:
    ends = -half * torch.ones(dims), half * torch.ones(dims)
    found = whynet.regions.cells_in_box(model, *ends, **limits)
    assert isinstance(found, BoxRegions), found
    return found


def holds(regions: BoxRegions, net: nn.Module) -> None:
    """Check that the cells tile the box, fit together, and carry the network."""
    cells, net = regions.cells, net.double()
    low, high = regions.low.flatten().numpy(), regions.high.flatten().numpy()
    whole = float(np.prod(high - low))
    assert regions.volumes.min() > 0
    assert abs(regions.volumes.sum() - whole) <= 1e-9 * whole
    # Half-spaces: every vertex is inside all of its cell's, and on at least D of them.
    assert cells.corners is not None
    owner = np.repeat(np.arange(regions.count), np.diff(cells.corners.offsets))
    vertices = cells.corners.vertices[cells.corners.corners]
    first = cells.offsets[owner]
    most = int(np.diff(cells.offsets).max())
    touched = np.zeros(len(owner), dtype=int)
    for k in range(most):
        row = np.minimum(first + k, cells.offsets[owner + 1] - 1)
        gap = (cells.normals[row] * vertices).sum(1) - cells.limits[row]
        assert gap.max() <= 1e-9
        touched += (np.abs(gap) <= 1e-9) & (first + k < cells.offsets[owner + 1])
    assert touched.min() >= len(low)
    # Balls: inside every half-space.
    rows = np.repeat(np.arange(regions.count), np.diff(cells.offsets))
    room = cells.limits - (cells.normals * cells.centers[rows]).sum(1)
    assert (room >= cells.radii[rows] - 1e-12).all()
    assert cells.radii.min() > 0
    # Neighbors know each other, across the same wall.
    inner = cells.neighbors >= 0
    assert np.array_equal(inner, cells.walls[:, 0] >= 0)
    pairs = np.column_stack([rows, cells.neighbors, cells.walls])[inner]
    back = pairs[:, [1, 0, 2, 3, 4]]
    assert np.array_equal(np.unique(pairs, axis=0), np.unique(back, axis=0))
    # The function, at random points and at the centers.
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(500, len(low), generator=generator, dtype=torch.float64)
    points = torch.cat(
        [torch.as_tensor(low + (high - low) * random.numpy()), torch.as_tensor(cells.centers)[:500]]
    ).reshape(-1, *regions.low.shape)
    with torch.no_grad():
        exact = net(points)
    scale = max(1.0, float(exact.abs().max()))
    torch.testing.assert_close(regions.evaluate(points), exact, rtol=0, atol=1e-9 * scale)


@DTYPES
@pytest.mark.parametrize(("dims", "planes"), [(2, 12), (3, 10), (4, 8), (5, 7)])
def test_hyperplanes_in_general_position(dims: int, planes: int, dtype: torch.dtype) -> None:
    """Zaslavsky 1975: sum over k <= D of C(n, k) cells, all of which meet a large box."""
    random = np.random.default_rng(planes)
    rows = random.standard_normal((planes, dims))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    shifts = random.uniform(-0.5, 0.5, planes)
    net = nn.Sequential(dense(rows.tolist(), shifts.tolist()), nn.ReLU(), nn.Linear(planes, 1))
    held, bias = (part.detach().double().numpy() for part in net[0].parameters())
    corners = np.stack(
        [
            np.linalg.solve(held[list(some)], -bias[list(some)])
            for some in itertools.combinations(range(planes), dims)
        ]
    )
    half = 2 * float(np.abs(corners).max())
    found = cells_of(net.to(dtype), dims, half, max_cells=10**5)
    assert found.count == sum(math.comb(planes, k) for k in range(dims + 1))
    holds(found, net)
    assert found.cells.corners is not None
    vertices = found.cells.corners.vertices
    assert len(corners) < len(vertices)
    for corner in corners:
        assert np.abs(vertices - corner).max(1).min() <= 1e-12 * half


@pytest.mark.parametrize(("dims", "k"), [(2, 4), (3, 3), (4, 2)])
def test_sawteeth_along_every_coordinate(dims: int, k: int) -> None:
    teeth = sawtooth(k)

    def each(module: nn.Module, x: Tensor) -> Tensor:
        return torch.cat([module.teeth(x[:, i : i + 1]) for i in range(dims)], 1)  # type: ignore[operator]

    net = Forward(each, teeth=teeth)
    found = whynet.regions.cells_in_box(net, torch.zeros(dims), torch.ones(dims))
    assert isinstance(found, BoxRegions)
    assert found.count == found.linear_regions == 2 ** (k * dims)
    assert found.volumes == pytest.approx(np.full(found.count, 2.0 ** (-k * dims)))
    assert found.slopes == pytest.approx(np.full(found.count, 2.0**k))
    holds(found, net)


def test_folds_share_walls_exactly() -> None:
    def folded(_: nn.Module, x: Tensor) -> Tensor:
        for i in range(3):
            x = x.abs() - 0.5**i / 2
        return x.sum(1, keepdim=True)

    found = cells_of(Forward(folded), 3)
    assert found.count == 512
    assert found.volumes == pytest.approx(np.full(512, 8 / 512))
    assert len(found.neighbors) == 3 * 7 * 64
    holds(found, Forward(folded))
    low, high = found.extrema
    assert (low.tolist(), high.tolist()) == ([-3 / 8], [3 / 8])


@pytest.mark.parametrize("widths", [(2, 12, 12, 3), (2, 6, 6, 6, 6, 1)])
def test_a_plane_gives_the_same(widths: tuple[int, ...]) -> None:
    net = network(*widths)
    box, plane = cells_of(net, 2), whynet.regions.subdivide(net, whynet.regions.Plane.box(-1, 1))
    assert isinstance(plane, PlaneRegions)
    assert box.count == plane.count > 30
    assert np.sort(box.volumes) == pytest.approx(np.sort(plane.areas), rel=1e-9, abs=1e-12)
    assert box.lipschitz_constant == pytest.approx(plane.lipschitz_constant, rel=1e-12)
    assert len(box.neighbors) == len(plane.neighbors)
    assert box.linear_regions == plane.linear_regions
    assert box.extrema[1] == pytest.approx(plane.extrema.largest)
    holds(box, net)


def test_a_cell_by_its_number_is_the_one_of_its_center() -> None:
    net = network(3, 8, 8, 2)
    found = cells_of(net, 3)
    for number in range(0, found.count, max(1, found.count // 12)):
        cell = found.cell(number)
        rows = slice(found.cells.offsets[number], found.cells.offsets[number + 1])
        # The facets that linear programs find are those that the vertices have.
        normals = np.column_stack([found.cells.normals[rows], found.cells.limits[rows]])
        others = np.column_stack([cell.normals[cell.facets], cell.limits[cell.facets]])
        assert len(normals) == len(others)
        assert np.abs(normals[:, None] - others[None]).max(2).min(1).max() < 1e-9
        assert cell.inradius >= found.cells.radii[number] * (1 - 1e-9)
        assert cell.lipschitz_constant == pytest.approx(found.slopes[number], rel=1e-12)
        here = {int(n) for n in found.cells.neighbors[rows] if n >= 0}
        assert len(cell.neighbors) == len(here)


def test_a_wrong_half_space_map_or_neighbor_is_noticed() -> None:
    net = network(3, 8, 8, 1)
    found = cells_of(net, 3)
    holds(found, net)
    cells = found.cells
    limits, maps, neighbors = cells.limits.copy(), cells.maps.copy(), cells.neighbors.copy()
    limits[7] -= 1e-6
    maps[:, 0] += 1e-8
    inner = np.flatnonzero(neighbors >= 0)[0]
    neighbors[inner] = (neighbors[inner] + 1) % found.count
    assert cells.corners is not None
    missing = replace(cells.corners, volumes=cells.corners.volumes[:-1])
    for wrong in (
        replace(cells, limits=limits),
        replace(cells, normals=-cells.normals),
        replace(cells, maps=maps),
        replace(cells, neighbors=neighbors),
        replace(cells, corners=missing),
    ):
        with pytest.raises(AssertionError):
            holds(replace(found, cells=wrong), net)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 4), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 10**6)
)
def test_degenerate_weights(dims: int, widths: list[int], seed: int) -> None:
    """Small whole numbers: dead, equal and opposite units, walls through one point."""
    net = network(dims, *widths, 2).double()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=random).double())
    found = cells_of(net, dims, 2.0)
    holds(found, net)
    patterns = {found.cell(i).pattern.tobytes() for i in range(found.count)}
    assert len(patterns) == found.count
    points = 4 * torch.rand(2000, dims, generator=random, dtype=torch.float64) - 2
    rows, value = [], points
    for layer in net:
        if isinstance(layer, nn.ReLU):
            rows.append(value > 1e-12)  # a unit that cancels to zero is off, whatever its round-off
        value = layer(value)
    seen = torch.cat(rows, 1).unique(dim=0)
    assert len(seen) <= found.count
    assert {row.numpy().astype(np.int64).tobytes() for row in seen} <= patterns


@DTYPES
def test_levels_residual_sums_and_maxima_of_two(dtype: torch.dtype) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = x + nn.functional.relu6(4 * self.one(x))
            pairs = self.two(x).reshape(-1, 3, 2)
            return torch.cat([pairs.amax(2), torch.maximum(x, -x / 2)], 1)

    torch.manual_seed(1)
    net = Mixed().to(dtype)
    found = cells_of(net, 3)
    assert found.count > 30
    holds(found, net)
    assert set(found.cells.walls[:, 2].tolist()) == {0, 1}


def test_an_image_of_four_pixels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 2, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)
    )
    net.train()(torch.randn(9, 1, 2, 2))
    found = whynet.regions.cells_in_box(net, torch.zeros(1, 2, 2), 1)
    assert isinstance(found, BoxRegions)
    assert net.training
    holds(found, net.eval())
    assert found.cell(0).center.shape == (1, 2, 2)


def test_a_subject_knows_the_shape_of_its_inputs() -> None:
    net = network(3, 6, 2)
    subject = whynet.Subject(net, test=(torch.randn(9, 3), torch.arange(9) % 2))
    found = whynet.regions.cells_in_box(subject, -1, 1)
    assert isinstance(found, BoxRegions)
    assert found.count == cells_of(net, 3).count
    cell = whynet.regions.cell_at(subject, torch.zeros(3))
    assert cell.pattern.shape == (6,)  # type: ignore[union-attr]
    distance = whynet.regions.distance_to_boundary(subject, torch.zeros(3))
    assert distance.exact  # type: ignore[union-attr]


def test_more_than_six_dimensions_go_by_linear_programs() -> None:
    net = network(7, 5, 4, 2)
    found = cells_of(net, 7)
    assert found.complete
    points = torch.rand(300, 7, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        exact = net.double()(points)
    torch.testing.assert_close(found.evaluate(points), exact, rtol=0, atol=1e-12)
    assert found.lipschitz_constant == max(found.slopes)
    assert len(found.cell(0).facets) <= found.cells.offsets[1]
    for name in ("volumes", "neighbors", "linear_regions", "extrema"):
        with pytest.raises(whynet.InputError, match=f"{name}: found cells of 7 dimensions"):
            getattr(found, name)


def test_bounds_leave_lower_bounds() -> None:
    net = network(3, 12, 12, 1)
    whole = cells_of(net, 3)
    for limits in ({"max_cells": 50}, {"seconds": 1e-9}):
        part = cells_of(net, 3, **limits)
        assert not part.complete
        assert 1 <= part.count < whole.count
        assert part.volumes.sum() == pytest.approx(8)
        with pytest.raises(whynet.InputError, match=r"stopped at [\d,]+ cells, a lower bound"):
            part.evaluate([[0.0, 0, 0]])
    assert cells_of(net, 3, max_cells=whole.count).complete


def test_an_interruption_keeps_a_lower_bound() -> None:
    graph = graph_from(network(3, 12, 12, 1), torch.zeros(3))
    assert isinstance(graph, PiecewiseLinearGraph)
    inner, calls = graph.steps[2].operation, []

    def once(values: Sequence[Value]) -> Value:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return inner.apply(values)

    steps = list(graph.steps)
    steps[2] = replace(steps[2], operation=replace(inner, apply=once))
    limits = piecewise_linear_boxes.Limits(10**5)
    ends = -np.ones(3), np.ones(3)
    found = piecewise_linear_boxes.cells_by_vertices(
        replace(graph, steps=tuple(steps)), *ends, limits, 0.0
    )
    assert not isinstance(found, NotApplicable)
    assert not found.complete
    assert 12 < len(found.centers) < 400  # the first layer is done


def test_cells_thinner_than_round_off_are_not_counted() -> None:
    net = nn.Sequential(dense([[1.0, 0], [1, 0]], [0, 0]), nn.ReLU(), nn.Linear(2, 1)).double()
    for gap, count in ((1e-11, 2), (1e-7, 3)):
        with torch.no_grad():
            net[0].bias[1] = gap
        found = cells_of(net, 2)
        assert found.count == count
        assert found.volumes.sum() == pytest.approx(4)


@pytest.mark.parametrize(
    ("low", "high", "limits", "words"),
    [
        (-1, 1, {}, "low: found a number; wanted one end of the box"),
        ([-1.0, -1], 1, {}, r"low: found points of shape \[2\], on which the network raises"),
        ([-1.0] * 3, [1.0] * 2, {}, r"high: found an array of shape \[2\]"),
        ([-1.0] * 3, [1.0, -1, 1], {}, "high: found a box without inside"),
        ([-1.0] * 3, torch.nan, {}, "high: found values that are not finite"),
        ([-1.0] * 3, 1, {"max_cells": 0}, "max_cells: found 0"),
        ([-1.0] * 3, 1, {"seconds": -1}, "seconds: found -1"),
        ([-1.0] * 3, 1, {"workers": 0}, "workers: found 0"),
        ([-1.0] * 99, 1, {}, "model: found a network of 99 inputs; wanted at most"),
    ],
)
def test_bad_input_gets_one_sentence(low: Any, high: Any, limits: Any, words: str) -> None:
    with pytest.raises(whynet.InputError, match=words):
        whynet.regions.cells_in_box(network(3, 4, 1), low, high, **limits)


def test_what_does_not_apply_is_named() -> None:
    wide = nn.Sequential(nn.Linear(3, 5001), nn.ReLU(), nn.Linear(5001, 1))
    with pytest.raises(whynet.InputError, match="of 3 inputs and 5,001 units; wanted at most"):
        whynet.regions.cells_in_box(wide, -torch.ones(3), 1)
    smooth = whynet.regions.cells_in_box(nn.Tanh(), -torch.ones(3), 1)
    assert isinstance(smooth, NotApplicable)
    with pytest.raises(whynet.InputError, match="number: found 1; wanted a number from 0 to 0"):
        cells_of(nn.Linear(3, 1), 3).cell(1)


@pytest.mark.parametrize("dims", [3, 5])
def test_threads_find_the_same_bits(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of a few cells, so that threads have something to share.
    monkeypatch.setattr(piecewise_linear_box_walls, "_AT_ONCE", 500)
    net = network(dims, 10, 8, 2, seed=3)
    one, three = cells_of(net, dims), cells_of(net, dims, workers=3)
    assert one.count == three.count > 50
    for cells, other in ((one.cells, three.cells), (one.cells.corners, three.cells.corners)):
        for name, value in vars(cells).items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, getattr(other, name)), name
    assert torch.get_num_threads() == 1
    layer = cells_of(nn.Sequential(nn.Linear(dims, 6), nn.ReLU()).double(), dims, workers=2)
    assert layer.volumes.sum() == pytest.approx(2.0**dims)


def test_what_fails_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ArithmeticError("in a thread")

    monkeypatch.setattr(face_cutting, "volumes_of", fails)
    with pytest.raises(ArithmeticError, match="in a thread"):
        cells_of(network(3, 5, 1), 3, workers=2)
    assert torch.is_grad_enabled()
