"""The compiled subdivision against arrangements, known counts, linear programs and the network."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from tests.models.piecewise import Forward, dense, graph_of
from torch import Tensor, nn

from whynet.concepts.approximation.theory.sawtooth_networks import sawtooth
from whynet.models.piecewise_linear_planes import subdivide
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_measures import areas_and_centroids, evaluate_maps

SQUARE = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


def cut(module: nn.Module, polygon: np.ndarray = SQUARE, **limits: int) -> PlaneCells:
    return subdivide(graph_of(module, (2,)), torch.zeros(2), torch.eye(2), polygon, **limits)


def count(cells: PlaneCells) -> int:
    return len(cells.offsets) - 1


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise((2, *widths)):
        layers += [nn.Linear(before, width), nn.ReLU()]
        nn.init.normal_(layers[-2].weight, std=1.5 / math.sqrt(before))
        nn.init.normal_(layers[-2].bias, std=0.4)
    return nn.Sequential(*layers, nn.Linear(widths[-1], 2))


def holds(cells: PlaneCells, module: nn.Module, polygon: np.ndarray = SQUARE) -> None:
    """Check that the cells tile the polygon, fit together, and carry the network."""
    areas, centers = areas_and_centroids(cells)
    x, y = polygon.T
    whole = float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert areas.min() > 0
    assert abs(areas.sum() - whole) <= 1e-9 * whole
    outer = cells.neighbors < 0
    edges = (len(cells.corners) + int(outer.sum())) // 2
    assert len(cells.vertices) - edges + count(cells) == 1  # Euler, without the outer face
    assert np.array_equal(outer, cells.origins < 0)
    owner = np.repeat(np.arange(count(cells)), np.diff(cells.offsets))
    pairs = np.stack([owner, cells.neighbors], 1)[~outer]
    assert np.array_equal(np.unique(pairs, axis=0), np.unique(pairs[:, ::-1], axis=0))
    with torch.no_grad():
        true = module.double()(torch.as_tensor(centers)).numpy()
    scale = max(1.0, float(np.abs(true).max()))
    assert np.abs(evaluate_maps(cells.maps, centers) - true).max() <= 1e-9 * scale


def arrangement(lines: np.ndarray) -> nn.Module:
    """A network with one wall a line: a x + b y = c."""
    layer = dense(lines[:, :2].tolist(), (-lines[:, 2]).tolist())
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(len(lines), 1))


@pytest.mark.parametrize("n", [1, 2, 7, 33, 80])
def test_lines_in_general_position(n: int) -> None:
    """Zaslavsky: 1 + n + n (n - 1) / 2 cells; in a polygon, 1 + lines + crossings inside."""
    random = np.random.default_rng(n)
    angles, shifts = random.uniform(0, math.pi, n), random.uniform(-0.5, 0.5, n)
    lines = np.stack([np.cos(angles), np.sin(angles), shifts], 1)
    lines = lines.astype(np.float32).astype(np.float64)
    crossings = np.array(
        [
            np.linalg.solve(lines[[i, j], :2], lines[[i, j], 2])
            for i, j in itertools.combinations(range(n), 2)
        ]
    ).reshape(-1, 2)
    inside = int((np.abs(crossings) < 1).all(1).sum())
    cells = cut(arrangement(lines))
    assert count(cells) == 1 + n + inside
    everything = 2 * max(1.0, np.abs(crossings).max(initial=1.0)) * SQUARE
    wide = cut(arrangement(lines), everything)
    assert count(wide) == 1 + n + n * (n - 1) // 2
    assert len(wide.vertices) == 4 + 2 * n + n * (n - 1) // 2
    # Vertices are right to 1e-12, and as much more as their lines are near to parallel.
    for (i, j), crossing in zip(itertools.combinations(range(n), 2), crossings, strict=True):
        if np.abs(crossing).max() < 1:
            sine = abs(lines[i, 0] * lines[j, 1] - lines[i, 1] * lines[j, 0])
            assert np.linalg.norm(cells.vertices - crossing, axis=1).min() * sine < 1e-12


@pytest.mark.parametrize("k", [1, 4, 8])
def test_a_sawtooth_has_its_pieces(k: int) -> None:
    teeth = sawtooth(k)
    first = Forward(lambda m, x: m.teeth(x[:, :1]), teeth=teeth)
    unit = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    cells = cut(first, unit)
    slopes = np.unique(np.round(cells.maps[:, 0, 0], 6))
    assert slopes.tolist() == [-(2.0**k), 2.0**k]
    assert count(cells) == 2**k


@pytest.mark.parametrize("k", [1, 3, 5])
def test_folds_double_both_ways(k: int) -> None:
    def folded(_: nn.Module, x: Tensor) -> Tensor:
        for i in range(k):
            x = x.abs() - 0.5**i / 2
        return x

    cells = cut(Forward(folded))
    assert count(cells) == 4**k
    assert np.allclose(areas_and_centroids(cells)[0], 4 / 4**k, rtol=1e-12)


def halfspaces(
    module: nn.Sequential, point: np.ndarray, flipped: int = -1
) -> tuple[np.ndarray, np.ndarray, tuple[bool, ...]]:
    """Return rows, bounds and pattern of the units at a point, from the weights alone."""
    slope, shift = np.eye(2), np.zeros(2)
    rows, bounds, pattern = [], [], []
    for layer in module:
        if isinstance(layer, nn.ReLU):
            on = slope @ point + shift > 0
            for unit in range(len(on)):
                if len(pattern) == flipped:
                    on[unit] = not on[unit]
                pattern.append(bool(on[unit]))
            sign = np.where(on, -1.0, 1.0)
            rows.append(sign[:, None] * slope)
            bounds.append(-sign * shift)
            slope, shift = np.where(on[:, None], slope, 0), np.where(on, shift, 0)
        else:
            weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
            slope, shift = weight @ slope, weight @ shift + bias
    return np.concatenate(rows), np.concatenate(bounds), tuple(pattern)


def radius(rows: np.ndarray, bounds: np.ndarray) -> float:
    """Return the radius of the largest disk in the square where rows x <= bounds."""
    rows = np.concatenate([rows, [[1, 0], [-1, 0], [0, 1], [0, -1]]])
    bounds = np.concatenate([bounds, np.ones(4)])
    norms = np.linalg.norm(rows, axis=1)
    if (bounds[norms == 0] < 0).any():
        return -1.0
    found = linprog([0, 0, -1], np.column_stack([rows, norms]), bounds, bounds=[(None, None)] * 3)
    return float(found.x[2])


def test_no_cell_is_missing_and_none_is_empty() -> None:
    """By linear programs: every pattern found is feasible, and no neighbor of one was missed."""
    module = network(7, 6, seed=3)
    cells = cut(module)
    centers = areas_and_centroids(cells)[1]
    patterns = {halfspaces(module, center)[2]: center for center in centers}
    assert len(patterns) == count(cells) > 30
    for center in patterns.values():
        assert radius(*halfspaces(module, center)[:2]) > 0
    tried: set[tuple[bool, ...]] = set(patterns)
    for center in patterns.values():
        for unit in range(13):
            rows, bounds, pattern = halfspaces(module, center, unit)
            if pattern not in tried:
                tried.add(pattern)
                assert radius(rows, bounds) < 1e-9, pattern


def test_a_grid_finds_no_pattern_that_is_not_a_cell() -> None:
    module = network(24, 24, seed=1)
    cells = cut(module)
    centers = torch.as_tensor(areas_and_centroids(cells)[1])
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 400, dtype=torch.float64)] * 2)

    def patterns(points: Tensor) -> set[bytes]:
        first = module.double()[:2](points)
        both = torch.cat([first > 0, module[2:4](first) > 0], 1)
        return {row.tobytes() for row in np.packbits(both.numpy(), axis=1)}

    found = patterns(centers)
    assert len(found) == count(cells)
    assert patterns(grid) <= found
    holds(cells, module)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.sampled_from(["small integers", "zeros and ones", "copies", "normal"]),
    st.integers(0, 2**31),
    st.sampled_from(["relu", "leaky", "hardtanh", "residual"]),
)
def test_any_network_is_cut_whole(widths: list[int], kind: str, seed: int, form: str) -> None:
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> Tensor:
        if kind == "small integers":
            values = random.integers(-2, 3, shape)
        elif kind == "zeros and ones":
            values = random.integers(0, 2, shape)
        elif kind == "copies":
            values = np.broadcast_to(random.normal(size=shape[1:]), shape)
        else:
            values = random.normal(size=shape)
        return torch.tensor(values.copy(), dtype=torch.float32)

    bend = {"leaky": nn.LeakyReLU(0.25), "hardtanh": nn.Hardtanh(-1, 2)}.get(form, nn.ReLU())
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise((2, *widths)):
        layer = nn.Linear(before, width)
        layer.weight.data, layer.bias.data = drawn(width, before), drawn(width)
        layers += [layer, bend]
    module: nn.Module = nn.Sequential(*layers)
    if form == "residual":
        module = Forward(lambda m, x: m.body(x).sum(1, keepdim=True) + x, body=module)
    polygon = SQUARE if seed % 2 else np.array([[-1.0, -1], [2, -1], [2, 1], [0, 2], [-1, 1]])
    holds(cut(module, polygon), module, polygon)


def test_where_it_stops_a_coarser_subdivision_stands() -> None:
    module = network(24, 24, seed=1)
    whole = cut(module)
    assert whole.complete
    for most in (1, 40, 300, count(whole) - 1):
        coarse = cut(module, max_cells=most)
        assert not coarse.complete
        assert most < count(coarse) <= min(2 * most, count(whole))
        areas, _ = areas_and_centroids(coarse)
        assert areas.min() > 0 and areas.sum() == pytest.approx(4, rel=1e-12)
        assert coarse.maps.shape == (count(coarse), 3, 2)


def test_many_corners_and_wide_layers_outgrow_no_buffer() -> None:
    turn = np.linspace(0, 2 * math.pi, 701)[:-1]
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    holds(cut(network(100, seed=2), circle), network(100, seed=2), circle)
