"""A polygon cut in parts is cut as it is whole: the same cells, walls and vertices."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.piecewise import Forward, dense, graph_of
from tests.models.test_piecewise_linear_maxima import Maxout
from tests.models.test_piecewise_linear_planes import SQUARE, count, holds, network
from torch import Tensor, nn

from whynet.models import piecewise_linear_plane_search
from whynet.models.piecewise_linear_planes import subdivide
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_joining import SHARED, Part, SharedEdges, join_parts
from whynet.numerics.plane_measures import areas_and_centroids


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise_linear_plane_search, "_LEAST", 24)


def cut(module: nn.Module, part_bytes: int, most: int = 10**6, workers: int = 1) -> PlaneCells:
    graph = graph_of(module, (2,))
    limits = {"max_cells": most, "part_bytes": part_bytes, "workers": workers}
    return subdivide(graph, torch.zeros(2), torch.eye(2), SQUARE, **limits)


def by_center(cells: PlaneCells) -> tuple[np.ndarray, ...]:
    """Return areas, corners, neighbors and walls of the cells, in an order of their centers."""
    areas, centers = areas_and_centroids(cells)
    order = np.lexsort(np.round(centers, 8).T)
    sizes = np.diff(cells.offsets)
    owner = np.repeat(np.arange(count(cells)), sizes)
    number = np.empty(count(cells) + 1, int)
    number[order], number[-1] = np.arange(count(cells)), -1
    walls = np.stack([number[owner], number[cells.neighbors], cells.origins], 1)
    walls = walls[np.lexsort(walls.T)]
    return areas[order], centers[order], sizes[order], walls, cells.maps[order]


def same(one: PlaneCells, other: PlaneCells) -> None:
    assert count(one) == count(other)
    assert len(one.vertices) == len(other.vertices)
    for first, second in zip(by_center(one), by_center(other), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-9)


def residual() -> nn.Module:
    body = network(16, 16, seed=5)
    return Forward(lambda m, x: nn.functional.hardtanh(m.body(x)) + x, body=body)


@pytest.mark.parametrize(
    "module",
    [network(24, 24, 24, seed=1), Maxout(12, 12, count=3), residual()],
    ids=["relu", "maxout", "two levels"],
)
def test_parts_change_nothing(module: nn.Module) -> None:
    whole = cut(module, 2**30)
    assert count(whole) > 100
    for part_bytes in (1, 2**17):
        parts = cut(module, part_bytes)
        assert parts.complete
        same(whole, parts)
        holds(parts, module)


def test_parts_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No layer is ever met by more vertices than the memory allows."""
    met: list[int] = []
    true = piecewise_linear_plane_search.applied

    def applied(operation: object, values: list[Tensor]) -> Tensor:
        met.append(len(values[0]))
        return true(operation, values)

    monkeypatch.setattr(piecewise_linear_plane_search, "applied", applied)
    whole = cut(network(40, 40, seed=2), 1)
    assert count(whole) > 1000
    # Two times the vertices of the least part, some room, and those of one more line.
    assert max(met) < 160


def test_threads_find_the_same_bits() -> None:
    module = network(24, 24, 24, seed=1)
    one, two = cut(module, 1), cut(module, 1, workers=3)
    for field in ("vertices", "offsets", "corners", "neighbors", "origins", "maps"):
        assert np.array_equal(getattr(one, field), getattr(two, field)), field
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_what_stops_one_thread_stops_all(
    failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption reaches the first thread; what fails in another one is raised."""
    true, met = piecewise_linear_plane_search.applied, []

    def applied(operation: object, values: list[Tensor]) -> Tensor:
        main = threading.current_thread() is threading.main_thread()
        if main == (failure is KeyboardInterrupt):
            met.append(1)
            if len(met) == 9:
                raise failure
        return true(operation, values)

    monkeypatch.setattr(piecewise_linear_plane_search, "applied", applied)
    module = network(24, 24, 24, seed=1)
    if failure is ValueError:
        with pytest.raises(ValueError):
            cut(module, 1, workers=2)
        return
    part = cut(module, 1, workers=2)
    assert part.interrupted and not part.complete
    areas, _ = areas_and_centroids(part)
    assert areas.min() > 0 and areas.sum() == pytest.approx(4, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(2, 8), min_size=2, max_size=3),
    st.sampled_from(["small integers", "copies"]),
    st.integers(0, 2**31),
)
def test_degenerate_networks_are_joined_whole(widths: list[int], kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise((2, *widths)):
        drawn = random.integers(-2, 3, (width, before + 1)).astype(float)
        if kind == "copies":
            drawn = np.repeat(random.normal(size=(-(-width // 2), before + 1)), 2, 0)[:width]
        layers += [dense(drawn[:, :-1].tolist(), drawn[:, -1].tolist()), nn.ReLU()]
    module = nn.Sequential(*layers)
    parts = cut(module, 1)
    holds(parts, module)
    same(cut(module, 2**30), parts)


@pytest.mark.parametrize("most", [10, 100, 500])
def test_parts_that_wait_are_joined_as_they_are(most: int) -> None:
    """Finished parts meet coarse ones: vertices of one side become corners on the other."""
    module = network(24, 24, 24, seed=1)
    coarse = cut(module, 1, most)
    assert not coarse.complete
    assert most < count(coarse) <= 2 * most
    areas, _ = areas_and_centroids(coarse)
    assert areas.min() > 0 and areas.sum() == pytest.approx(4, rel=1e-12)
    outer = int((coarse.neighbors < 0).sum())
    assert np.array_equal(coarse.neighbors < 0, coarse.origins < 0)
    assert len(coarse.vertices) - (len(coarse.corners) + outer) // 2 + count(coarse) == 1


@pytest.mark.parametrize("across", [[0.25, 0.75], [0.75], [0.25], [0.1, 0.75, 0.9], []])
def test_sides_that_differ_are_merged(across: list[float]) -> None:
    """Two halves of a rectangle, the wall between them with other vertices on each side."""
    here = [0.25, 0.75]
    left = np.array([[-1.0, 1], [-1, 0], [0, 0], *[[0, y] for y in here], [0, 1]])
    right = np.array([[1.0, 0], [1, 1], [0, 1], *[[0, y] for y in across[::-1]], [0, 0]])
    mark = SHARED
    parts = []
    for corners, names in (
        (left, [0, 1, 2, 10, 11, 3]),
        (right, [4, 5, 3, *range(20, 20 + len(across)), 2]),
    ):
        size = len(corners)
        origins = np.full(size, -1)
        origins[2 : size - 1] = mark
        parts.append(
            Part(corners, np.array(names), np.array([0, size]), np.arange(size), origins,
                 np.zeros((1, 3, 1)))
        )  # fmt: skip
    shared = SharedEdges(np.array([7]), np.array([[2, 3]]), np.array([[[0.0, 0], [0, 1]]]))
    vertices, offsets, corners, neighbors, origins, _ = join_parts(parts, shared, 1e-9)
    wall = sorted({0.0, 1.0, *here, *across})
    assert len(vertices) == 4 + len(wall)
    assert np.diff(offsets).tolist() == [2 + len(wall)] * 2
    for cell, step in ((0, 1), (1, -1)):
        ring = vertices[corners[offsets[cell] : offsets[cell + 1]]]
        assert ring[ring[:, 0] == 0][:, 1].tolist() == wall[::step]
    assert (origins == 7).sum() == 2 * (len(wall) - 1)
    assert (origins == -1).sum() == 6
    owner = np.repeat([0, 1], np.diff(offsets))
    assert neighbors.tolist() == np.where(origins == 7, 1 - owner, -1).tolist()
