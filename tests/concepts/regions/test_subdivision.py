"""`whynet.regions.subdivide` against closed forms, the network itself, and bad input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import whynet
from whynet.concepts.regions.planes import Plane
from whynet.concepts.regions.subdivision import PlaneRegions
from whynet.core.outcome import NotApplicable
from whynet.models import piecewise_linear_planes
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_operations import Value
from whynet.models.piecewise_linear_source import graph_from
from whynet.numerics.convex_polygons import convex_polygon

GOOD = Plane.box(-1, 1)


class Wedge(nn.Module):
    """|x| + |y| of the first two inputs, with every unit twice."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].repeat(1, 2).abs().sum(1, keepdim=True) / 2


def cut(model: nn.Module, plane: Plane, **limits: int) -> PlaneRegions:
    found = whynet.regions.subdivide(model, plane, **limits)
    assert isinstance(found, PlaneRegions), found
    return found


def random_points(polygon: np.ndarray, count: int) -> np.ndarray:
    weight = np.random.default_rng(0).dirichlet(np.full(len(polygon), 0.7), count)
    return np.asarray(weight @ polygon)


def test_a_square_of_a_wedge() -> None:
    found = cut(Wedge(), Plane.box(-1, 1))
    assert (found.count, found.linear_regions) == (4, 4)
    assert found.areas.tolist() == pytest.approx([1] * 4)
    assert len(found.neighbors) == 4
    assert found.wall_length == pytest.approx(4)
    assert found.lipschitz_constant == pytest.approx(math.sqrt(2))
    assert found.integrals.tolist() == pytest.approx([4])
    assert found.gradient_norm_integrals.tolist() == pytest.approx([4 * math.sqrt(2)])
    assert found.extrema.largest.tolist() == pytest.approx([2])
    assert found.level_set(0.5).length == pytest.approx(2 * math.sqrt(2))
    assert found.evaluate([[0.25, -0.5]]).tolist() == [[pytest.approx(0.75)]]
    assert sorted(set(found.depths())) == [-1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_lengths_and_areas_are_those_of_the_input_space(dtype: torch.dtype) -> None:
    # The parallelogram of (2, 0, 0) and (1, 3, 0) around the origin, given in other coordinates.
    axes = torch.tensor([[2, 0, 0], [1, 3, 0]], dtype=dtype)
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    plane = Plane(torch.zeros(3, dtype=dtype), axes, corners, corners[:1])
    found = cut(Wedge(), plane)
    assert found.areas.sum() == pytest.approx(6)
    assert found.lipschitz_constant == pytest.approx(math.sqrt(2))
    assert plane.inputs(plane.marks).tolist() == [pytest.approx([-1.5, -1.5, 0])]
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2).double(), atol=1e-15)


def test_a_plane_through_three_images_of_a_convolutional_network() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(12, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3),
    )  # fmt: skip
    net.train()(torch.randn(20, 1, 6, 6))
    points = 2 * torch.randn(3, 1, 6, 6)
    plane = Plane.through(*points)
    torch.testing.assert_close(plane.inputs(plane.marks), points.double(), rtol=0, atol=1e-12)
    found = cut(net, plane)
    assert net.training
    assert found.count > 100
    where = random_points(plane.polygon, 1000)
    with torch.no_grad():
        exact = net.double().eval()(plane.inputs(where))
    torch.testing.assert_close(found.evaluate(where), exact, rtol=0, atol=1e-9)
    width, height = np.ptp(plane.polygon, axis=0)
    assert found.areas.sum() == pytest.approx(width * height, rel=1e-9)
    # Euler: vertices - edges + cells = 1, edges inside once and on the border once.
    cells = found.cells
    border = int((cells.neighbors < 0).sum())
    used = len(np.unique(cells.corners))
    assert used - (len(found.neighbors) + border) + found.count == 1
    # What each class holds, against the share of uniform points of the rectangle.
    low, high = plane.polygon.min(0), plane.polygon.max(0)
    uniform = np.random.default_rng(1).uniform(low, high, (20_000, 2))
    with torch.no_grad():
        share = torch.bincount(net(plane.inputs(uniform)).argmax(1), minlength=3) / 20_000
    held = found.class_parts.class_areas(3)
    assert held.sum() == pytest.approx(width * height, rel=1e-9)
    assert np.abs(held / held.sum() - share.numpy()).max() < 4 * 0.5 / math.sqrt(20_000)


def test_three_classes_of_a_hexagon_hold_a_third_each() -> None:
    angles = torch.arange(3) * 2 * math.pi / 3
    layer = nn.Linear(2, 3, bias=False).double()
    layer.weight = nn.Parameter(torch.stack([angles.cos(), angles.sin()], 1).double())
    corners = [[math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)] for k in range(6)]
    found = cut(layer, Plane(torch.zeros(2), torch.eye(2), np.array(corners)))
    assert found.class_parts.class_areas(3).tolist() == pytest.approx([math.sqrt(3) / 2] * 3)
    assert found.decision_boundary.length == pytest.approx(3)


def test_equal_outputs_leave_their_area_to_the_first() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x[:, :1], x[:, :1], 0 * x[:, :1]], 1)

    found = cut(Twice(), Plane.box(-1, 1))
    assert found.class_parts.class_areas(3).tolist() == pytest.approx([2, 0, 2])


def test_a_stop_keeps_a_lower_bound_and_refuses_what_needs_all() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 1))
    whole = cut(net, Plane.box(-3, 3))
    part = cut(net, Plane.box(-3, 3), max_cells=20)
    assert whole.complete and not part.complete
    assert 20 <= part.count < whole.count
    assert part.areas.sum() == pytest.approx(36)
    with pytest.raises(whynet.InputError, match=r"stopped at \d+ cells, a lower bound"):
        _ = part.integrals


def test_an_interruption_keeps_a_lower_bound() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 1))
    graph = graph_from(net, torch.zeros(2))
    assert isinstance(graph, PiecewiseLinearGraph)
    calls = []
    inner = graph.steps[2].operation

    def once(values: Sequence[Value]) -> Value:
        calls.append(1)
        if len(calls) == 2:  # the first is that of the probes
            raise KeyboardInterrupt
        return inner.apply(values)

    steps = list(graph.steps)
    steps[2] = replace(steps[2], operation=replace(inner, apply=once))
    cells = piecewise_linear_planes.subdivide(
        replace(graph, steps=tuple(steps)), torch.zeros(2), torch.eye(2), 3 * GOOD.polygon
    )
    assert not cells.complete
    assert cells.interrupted
    assert 31 < len(cells.offsets) < 500  # the first layer is done


def test_memory_is_a_bound_as_well() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 200), nn.ReLU(), nn.Linear(200, 20), nn.ReLU())
    whole = cut(net, GOOD)
    part = cut(net, GOOD, memory=500_000)
    assert whole.complete
    assert not part.complete and not part.interrupted
    assert 100 < part.count < whole.count


@pytest.mark.parametrize(
    ("model", "plane", "words"),
    [
        (nn.Linear(3, 1), GOOD, r"plane: found points of shape \[2\], on which the network raises"),
        ("model", GOOD, "a str; wanted an nn.Module"),
        (Wedge(), torch.zeros(3, 2), "plane: found a Tensor; wanted a whynet.regions.Plane"),
    ],
)
def test_bad_input_gets_one_sentence(model: nn.Module, plane: Plane, words: str) -> None:
    with pytest.raises(whynet.InputError, match=words):
        whynet.regions.subdivide(model, plane)


def test_weights_that_are_not_finite_and_smooth_activations() -> None:
    broken = nn.Linear(2, 1)
    nn.init.constant_(broken.bias, torch.nan)
    with pytest.raises(whynet.InputError, match="'bias' that are not finite"):
        whynet.regions.subdivide(broken, GOOD)
    with pytest.raises(whynet.InputError, match="max_cells: found 0"):
        whynet.regions.subdivide(Wedge(), GOOD, max_cells=0)
    with pytest.raises(whynet.InputError, match="memory: found 0"):
        whynet.regions.subdivide(Wedge(), GOOD, memory=0)
    answer = whynet.regions.subdivide(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), GOOD)
    assert isinstance(answer, NotApplicable)
    assert "`1` is a Tanh, which is curved" in answer.reason
    with pytest.raises(whynet.InputError, match="outside the polygon"):
        cut(Wedge(), GOOD).evaluate([[2.0, 0.0]])
    with pytest.raises(whynet.InputError, match="output: found 1"):
        cut(Wedge(), GOOD).level_set(0.0, 1)


E2 = torch.eye(2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Plane(torch.zeros(2), E2[[0, 0]], GOOD.polygon), "depend on each other"),
        (lambda: Plane(torch.zeros(2), 0 * E2, GOOD.polygon), "depend on each other"),
        (lambda: Plane(torch.zeros(3), E2, GOOD.polygon), r"axes: .*shape \[2, 2\]"),
        (lambda: Plane(torch.zeros(2), E2, GOOD.polygon[:2]), "polygon: "),
        (lambda: Plane(torch.full((2,), torch.nan), E2, GOOD.polygon), "origin: .*not finite"),
        (lambda: Plane.through([0, 0], [1, 1], [3, 3]), "three points that lie on a line"),
        (lambda: Plane.through([0, 0], [0, 0], [3, 3]), "three points that lie on a line"),
        (lambda: Plane.through([0, 0], [0, 1, 1], [3, 3]), r"of the shapes \[2\], \[3\], \[2\]"),
        (lambda: Plane.through([0, 0], [0, 1], [3, 3], margin=-1), "margin"),
        (lambda: Plane.box(1, -1), "ascending order"),
        (lambda: Plane.read("nowhere.npz"), "no file 'nowhere.npz'"),
    ],
)
def test_a_bad_plane_gets_one_sentence(make: object, words: str) -> None:
    with pytest.raises(whynet.InputError, match=words):
        make()  # type: ignore[operator]


def test_planes_from_files(tmp_path: Path) -> None:
    points = np.array([[0.0, 0, 0], [3, 0, 0], [0, 4, 0]])
    np.savez(tmp_path / "points.npz", points=points)
    three = Plane.read(tmp_path / "points.npz")
    assert three.marks.tolist() == [[0, 0], [3, 0], [0, 4]]
    assert np.array_equal(three.polygon, convex_polygon(three.polygon))
    np.savez(tmp_path / "whole.npz", origin=three.origin, axes=three.axes, polygon=three.polygon)
    assert np.array_equal(Plane.read(tmp_path / "whole.npz").polygon, three.polygon)
    np.savez(tmp_path / "other.npz", x=points)
    np.savez(tmp_path / "pickled.npz", points=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("hello")
    for name, words in (("other", "with x"), ("pickled", "cannot be read"), ("text", "cannot be")):
        with pytest.raises(whynet.InputError, match=words):
            Plane.read(tmp_path / f"{name}.npz")
