"""Cells by linear programs against cells by vertices, arrangements, folds and the network."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.piecewise import Forward, dense, graph_of
from torch import Tensor, nn

from whynet.models import piecewise_linear_program_parts, piecewise_linear_programs
from whynet.models.piecewise_linear_boxes import Limits, cells_by_vertices
from whynet.models.piecewise_linear_local import local_maps
from whynet.models.piecewise_linear_programs import cells_by_programs
from whynet.numerics.polytope_cells import PolytopeCells, locate

THINNEST = 1e-9


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Linear(before, width), nn.ReLU()]
        nn.init.normal_(layers[-2].bias, std=0.3)
    return nn.Sequential(*layers[:-1])


def cells_of(net: nn.Module, dims: int, half: float = 1.0, most: int = 10**5) -> PolytopeCells:
    ends = -half * np.ones(dims), half * np.ones(dims)
    found = cells_by_programs(graph_of(net, (dims,)), *ends, Limits(most), THINNEST)
    assert isinstance(found, PolytopeCells), found
    return found


def patterns(net: nn.Module, cells: PolytopeCells) -> set[bytes]:
    found = local_maps(graph_of(net, cells.centers.shape[1:]), torch.as_tensor(cells.centers))
    rows = torch.cat([bend.pattern for bend in found.bends], 1).numpy()
    return {row.tobytes() for row in rows}


def holds(cells: PolytopeCells, net: nn.Module, half: float = 1.0) -> None:
    """Check that no two cells are one, balls are inside, and random points are where they say."""
    count, dims = cells.centers.shape
    assert len(patterns(net, cells)) == count
    owner = np.repeat(np.arange(count), np.diff(cells.offsets))
    room = cells.limits - (cells.normals * cells.centers[owner]).sum(1)
    assert (room - cells.radii[owner]).min() >= -1e-9
    assert cells.radii.min() >= THINNEST
    points = np.random.default_rng(0).uniform(-half, half, (2000, dims))
    place = locate(cells, points)
    beyond = [
        (cells.normals[rows] @ point - cells.limits[rows]).max()
        for point, rows in (
            (point, slice(cells.offsets[c], cells.offsets[c + 1]))
            for point, c in zip(points, place, strict=True)
        )
    ]
    assert max(beyond) <= 1e-9
    rows = np.column_stack([points, np.ones(len(points))])
    values = np.einsum("nd,ndo->no", rows, cells.maps[place])
    with torch.no_grad():
        exact = net.double()(torch.as_tensor(points)).numpy()
    assert np.abs(values - exact).max() <= 1e-9 * max(1, np.abs(exact).max())


@pytest.mark.parametrize("widths", [(2, 7, 7, 2), (3, 8, 8, 1), (4, 6, 6, 1)])
def test_vertices_give_the_same(widths: tuple[int, ...]) -> None:
    net, dims = network(*widths), widths[0]
    found = cells_of(net, dims)
    ends = -np.ones(dims), np.ones(dims)
    other = cells_by_vertices(graph_of(net, (dims,)), *ends, Limits(10**5), THINNEST)
    assert isinstance(other, PolytopeCells)
    assert len(found.centers) == len(other.centers) > 15
    assert patterns(net, found) == patterns(net, other)
    holds(found, net)
    # The half-spaces that bound a cell are among those that were found.
    here, there = (locate(cells, other.centers[:40]) for cells in (found, other))
    for one, two in zip(here, there, strict=True):
        mine = slice(found.offsets[one], found.offsets[one + 1])
        rows = slice(other.offsets[two], other.offsets[two + 1])
        gaps = np.abs(other.normals[rows, None] - found.normals[None, mine]).max(2)
        gaps += np.abs(other.limits[rows, None] - found.limits[None, mine])
        assert gaps.min(1).max() < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize(("dims", "planes"), [(2, 8), (3, 7), (7, 8)])
def test_hyperplanes_in_general_position(dims: int, planes: int, dtype: torch.dtype) -> None:
    """Zaslavsky 1975: the sum over k <= D of C(n, k)."""
    random = np.random.default_rng(planes)
    rows = random.standard_normal((planes, dims))
    shifts = random.uniform(-0.5, 0.5, planes)
    net = nn.Sequential(dense(rows.tolist(), shifts.tolist()), nn.ReLU(), nn.Linear(planes, 1))
    held, bias = (part.detach().double().numpy() for part in net[0].parameters())
    corners = [
        np.linalg.solve(held[list(some)], -bias[list(some)])
        for some in itertools.combinations(range(planes), dims)
    ]
    half = 2 * float(np.abs(corners).max())
    found = cells_of(net.to(dtype), dims, half)
    assert len(found.centers) == sum(math.comb(planes, k) for k in range(dims + 1))
    holds(found, net, half)


def test_folds_in_seven_dimensions() -> None:
    def folded(_: nn.Module, x: Tensor) -> Tensor:
        once = x.abs() - 0.5
        return torch.cat([once[:, :2].abs(), once[:, 2:]], 1)

    found = cells_of(Forward(folded), 7)
    assert len(found.centers) == 4**2 * 2**5
    assert found.radii.max() == pytest.approx(0.25)
    holds(found, Forward(folded))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 10**6))
def test_degenerate_weights(widths: list[int], seed: int) -> None:
    net = network(3, *widths, 2).double()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=random).double())
    found = cells_of(net, 3, 2.0)
    other = cells_by_vertices(
        graph_of(net, (3,)), -2 * np.ones(3), 2 * np.ones(3), Limits(10**5), THINNEST
    )
    assert isinstance(other, PolytopeCells)
    assert patterns(net, found) == patterns(net, other)
    holds(found, net, 2.0)


def test_a_wrong_cell_is_noticed() -> None:
    net = network(3, 6, 6, 1)
    found = cells_of(net, 3)
    holds(found, net)
    turned = found.normals.copy()
    inner = np.flatnonzero(found.walls[:, 0] >= 0)
    turned[inner[::3]] *= -1
    for wrong in (
        replace(found, normals=turned),
        replace(found, maps=found.maps + 1e-8),
        replace(found, radii=found.radii * 1.5),
        replace(found, centers=np.roll(found.centers, 1, 0)),
        replace(found, centers=np.tile(found.centers[:1], (len(found.centers), 1))),
    ):
        with pytest.raises(AssertionError):
            holds(wrong, net)


def test_bounds_and_interruptions_leave_lower_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(7, 6, 6, 1)
    whole = cells_of(net, 7)
    assert whole.complete
    part = cells_of(net, 7, most=20)
    assert not part.complete
    assert 20 < len(part.centers) <= 40
    assert cells_of(net, 7, most=len(whole.centers)).complete
    ends = -np.ones(7), np.ones(7)
    late = cells_by_programs(graph_of(net, (7,)), *ends, Limits(10**5, 0.0), THINNEST)
    assert isinstance(late, PolytopeCells)
    assert (late.complete, len(late.centers)) == (False, 1)
    calls, inner = [], piecewise_linear_program_parts.inscribed_ball

    def stopping(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return inner(*given)

    monkeypatch.setattr(piecewise_linear_program_parts, "inscribed_ball", stopping)
    kept = cells_of(net, 7)
    assert not kept.complete
    assert 2 < len(kept.centers) < len(whole.centers)


def test_levels_and_maxima_of_two() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            pairs = nn.functional.relu6(4 * self.one(x)).reshape(-1, 2, 2)
            return torch.cat([pairs.amax(2), torch.maximum(x, -x / 2)], 1)

    torch.manual_seed(1)
    net = Mixed()
    found = cells_of(net, 3)
    other = cells_by_vertices(graph_of(net, (3,)), -np.ones(3), np.ones(3), Limits(10**5), THINNEST)
    assert isinstance(other, PolytopeCells)
    assert patterns(net, found) == patterns(net, other)
    holds(found, net)


class Backward:
    """Stands for a pool: jobs are done in another order, results come in theirs."""

    def map(self, function: Any, jobs: Any, chunksize: int) -> Any:
        return iter([function(job) for job in reversed(list(jobs))][::-1])

    def shutdown(self, **how: bool) -> None:
        self.closed = how


def same(one: PolytopeCells, other: PolytopeCells) -> None:
    for name in ("offsets", "normals", "limits", "walls", "centers", "radii", "maps"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_shared_work_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, pool = network(7, 6, 5, 1), Backward()
    alone = cells_of(net, 7)
    monkeypatch.setattr(piecewise_linear_programs, "_WORTH_SHARING", 2)
    monkeypatch.setattr(piecewise_linear_programs, "_pool", lambda workers: pool)
    same(alone, cells_of(net, 7))
    assert pool.closed == {"cancel_futures": True}
    part = cells_of(net, 7, most=20)
    assert not part.complete and len(part.centers) > 20


@pytest.mark.endurance
def test_processes_give_the_same() -> None:
    net = network(7, 8, 7, 1)
    ends = -np.ones(7), np.ones(7)
    shared = cells_by_programs(graph_of(net, (7,)), *ends, Limits(10**5), THINNEST, workers=2)
    assert len(shared.centers) > 2 * piecewise_linear_programs._WORTH_SHARING
    same(cells_of(net, 7), shared)
