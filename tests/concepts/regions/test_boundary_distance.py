"""Distances to the decision boundary against closed forms, planes and all cells of a box."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.piecewise import Forward, dense
from torch import Tensor, nn

import whynet
from whynet.concepts.regions import boundary_distance
from whynet.concepts.regions.boundary_distance import BoundaryDistance
from whynet.concepts.regions.boxes import BoxRegions
from whynet.concepts.regions.subdivision import PlaneRegions
from whynet.core.outcome import NotApplicable
from whynet.numerics.polytopes import nearest_point

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    """A random network whose classes are about equally frequent."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Linear(before, width), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        net[-1].bias -= net(torch.randn(500, widths[0])).mean(0)  # type: ignore[operator]
    return net


def distance(model: nn.Module, point: Any, **limits: Any) -> BoundaryDistance:
    found = whynet.regions.distance_to_boundary(model, point, **limits)
    assert isinstance(found, BoundaryDistance), found
    return found


def holds(found: BoundaryDistance, net: nn.Module, point: Tensor) -> None:
    """Check that no drawn point within the lower bound changes class, and that the upper is one."""
    net, point = net.double(), point.double()

    def scores(points: Tensor) -> Tensor:
        with torch.no_grad():
            values = net(points)
        return torch.cat([0 * values, values], 1) if values.shape[1] == 1 else values

    assert found.low <= found.high
    assert int(scores(point[None]).argmax()) == found.prediction
    generator = torch.Generator().manual_seed(0)
    ways = torch.randn(5000, len(point), generator=generator, dtype=torch.float64)
    sizes = torch.rand(5000, 1, generator=generator, dtype=torch.float64) ** (1 / len(point))
    inside = point + found.low * (1 - 1e-9) * sizes * ways / ways.norm(dim=1, keepdim=True)
    assert bool((scores(inside).argmax(1) == found.prediction).all())
    if found.nearest is not None:
        assert float((found.nearest - point).norm()) == pytest.approx(found.high, rel=1e-12)
        there = scores(found.nearest[None])[0]
        others = torch.cat([there[: found.prediction], there[found.prediction + 1 :]])
        assert float(others.max() - there[found.prediction]) >= -1e-10


@DTYPES
def test_a_linear_classifier(dtype: torch.dtype) -> None:
    net = dense([[1.0, 2], [-1, 0], [0, 3]], [0.5, 0, -4]).to(dtype)
    point = torch.tensor([1.0, 1.0], dtype=dtype)
    found = distance(net, point)
    # Scores 3.5, -1, -1: leads of 4.5 with slopes (2, 2) and (1, -1).
    assert found.exact
    assert found.high == pytest.approx(4.5 / 8**0.5)
    assert (found.prediction, found.cells) == (0, 1)
    holds(found, net, point)


@DTYPES
def test_a_diamond_from_inside_outside_and_its_corner(dtype: torch.dtype) -> None:
    net = Forward(lambda _, x: 1 - x.abs().sum(1, keepdim=True))
    for point, expected in (([0.0, 0], 0.5**0.5), ([3, 0.1], (2**2 + 0.1**2) ** 0.5), ([1, 0], 0)):
        where = torch.tensor(point, dtype=dtype)
        found = distance(net, where)
        assert found.exact
        assert found.high == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 1e-9)
        holds(found, net, where)
    boxed = distance(net, torch.zeros(2, dtype=dtype), low=[-9.0, -0.25], high=[9.0, 0.25])
    assert boxed.high == pytest.approx((0.75**2 + 0.25**2) ** 0.5)
    nowhere = distance(net, torch.zeros(2, dtype=dtype), low=-0.4, high=0.4)
    assert (nowhere.low, nowhere.high, nowhere.nearest) == (np.inf, np.inf, None)


@DTYPES
@pytest.mark.parametrize("widths", [(2, 12, 12, 3), (2, 8, 8, 8, 1)])
def test_segments_of_the_exact_boundary_in_a_plane(
    widths: tuple[int, ...], dtype: torch.dtype
) -> None:
    net = network(*widths).to(dtype)
    plane = whynet.regions.subdivide(net, whynet.regions.Plane.box(-30, 30))
    assert isinstance(plane, PlaneRegions)
    start, stop = (plane.decision_boundary.segments[:, end] for end in (0, 1))
    along = stop - start
    for point in torch.randn(5, 2, generator=torch.Generator().manual_seed(1)).to(dtype):
        found = distance(net, point)
        q = point.double().numpy()
        t = np.clip(((q - start) * along).sum(1) / (along**2).sum(1), 0, 1)[:, None]
        assert found.exact
        assert found.high == pytest.approx(np.linalg.norm(start + t * along - q, axis=1).min())
        holds(found, net, point)


def over_all_cells(net: nn.Sequential, point: Tensor, half: float) -> float:
    """The least distance to another class over every cell of a box."""
    regions = whynet.regions.cells_in_box(net, -half * torch.ones(len(point)), half)
    assert isinstance(regions, BoxRegions)
    cells, best, q = regions.cells, np.inf, point.double().numpy()
    own = int(net.double()(point.double()[None]).argmax())
    for c in range(regions.count):
        rows = slice(cells.offsets[c], cells.offsets[c + 1])
        leads = cells.maps[c][:, [own]] - np.delete(cells.maps[c], own, axis=1)
        for lead in leads.T:
            length = np.linalg.norm(lead[:-1])
            normals, limits = cells.normals[rows], cells.limits[rows]
            if length > 0:
                normals = np.vstack([normals, lead[:-1] / length])
                limits = np.append(limits, -lead[-1] / length)
            elif lead[-1] > 0:
                continue
            found = nearest_point(normals, limits, q)
            best = best if found is None else min(best, found[1])
    return best


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_cell_of_a_box_knows_no_nearer_point(seed: int) -> None:
    net = network(3, 9, 9, 3, seed=seed)
    point = torch.randn(3)
    found = distance(net, point)
    assert found.exact
    assert found.high == pytest.approx(over_all_cells(net, point, 6.0), rel=1e-9)
    holds(found, net, point)


def test_a_search_that_misses_facets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, point = network(3, 9, 9, 3, seed=1), torch.tensor([0.6, 0.2, -1.1])
    true = distance(net, point).high
    monkeypatch.setattr(boundary_distance, "across", lambda *_: None)
    monkeypatch.setattr(boundary_distance, "_attack", lambda _: None)
    assert distance(net, point).high > 1.01 * true


def test_a_stopped_search_has_bounds_on_both_sides() -> None:
    net, point = network(3, 16, 16, 3), torch.tensor([0.6, 0.2, -1.1])
    whole = distance(net, point)
    assert whole.exact
    before = 0.0
    for most in (1, 4, 16):
        part = distance(net, point, max_cells=most)
        assert before <= part.low <= whole.high <= part.high
        assert part.cells == most or part.exact
        holds(part, net, point)
        before = part.low
    assert before > 0
    late = distance(net, point, seconds=1e-9)
    assert late.cells == 1
    assert late.low <= whole.high <= late.high < np.inf


def test_an_interruption_keeps_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    net, point = network(3, 16, 16, 3), torch.tensor([0.6, 0.2, -1.1])
    whole, calls, inner = distance(net, point), [], boundary_distance.across

    def stopping(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(*given)

    monkeypatch.setattr(boundary_distance, "across", stopping)
    part = distance(net, point)
    assert not part.exact
    assert 0 < part.low <= whole.high <= part.high < np.inf


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=2), st.integers(0, 10**6))
def test_degenerate_weights(widths: list[int], seed: int) -> None:
    """Small whole numbers: dead and equal units, ties, points on walls; some have one class."""
    net = network(2, *widths, 2).double()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=random).double())
    point = torch.randint(-2, 3, (2,), generator=random).double() / 2
    found = distance(net, point, low=-3, high=3)
    assert found.exact
    tops = np.inf
    grid = torch.cartesian_prod(*[torch.linspace(-3, 3, 241, dtype=torch.float64)] * 2)
    with torch.no_grad():
        values = net(grid)
    own = found.prediction
    other = values[:, 1 - own] >= values[:, own]
    if bool(other.any()):
        tops = float((grid[other] - point).norm(dim=1).min())
    assert found.high <= tops + 1e-9
    if found.nearest is not None:
        with torch.no_grad():
            there = net(found.nearest[None])[0]
        assert float(there[1 - own] - there[own]) >= -1e-9


def test_bad_input_gets_one_sentence() -> None:
    net = network(2, 4, 2)
    for given_, words in (
        ({"point": [torch.nan, 0]}, "point: found values that are not finite"),
        ({"point": [0.0, 0, 0]}, r"point: found points of shape \[3\]"),
        ({"point": [0.0, 0], "max_cells": 0}, "max_cells: found 0"),
        ({"point": [0.0, 0], "seconds": 0}, "seconds: found 0"),
        ({"point": [0.0, 5], "low": -1, "high": 1}, "point: found a point outside the box"),
    ):
        with pytest.raises(whynet.InputError, match=words):
            whynet.regions.distance_to_boundary(net, **given_)  # type: ignore[arg-type]
    image = Forward(lambda _, x: x[:, None] + 0 * x[:, :, None])
    with pytest.raises(whynet.InputError, match=r"model: found a network with outputs of shape"):
        whynet.regions.distance_to_boundary(image, torch.zeros(2))
    smooth = whynet.regions.distance_to_boundary(nn.Sigmoid(), torch.zeros(2))
    assert isinstance(smooth, NotApplicable)
