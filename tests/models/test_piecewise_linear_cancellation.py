"""Units that are zero because others cancel make no walls, whatever their round-off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.models.piecewise import graph_of
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.models import piecewise_linear_boxes, piecewise_linear_plane_search
from whynet.models.piecewise_linear_boxes import Limits, cells_by_vertices
from whynet.models.piecewise_linear_local import local_maps
from whynet.models.piecewise_linear_planes import subdivide
from whynet.models.piecewise_linear_programs import cells_by_programs

SQUARE = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


class Canceling(nn.Module):
    """Of nine units of the second layer four are at `level` on the whole box, on paper."""

    def __init__(self, dims: int, level: float, cancels: bool = True) -> None:
        super().__init__()
        torch.manual_seed(dims)
        self.one, self.two = nn.Linear(dims, 12).double(), nn.Linear(12, 9).double()
        self.level = level
        with torch.no_grad():
            # Three units that are active everywhere, one of them the sum of the others.
            self.one.weight[4] = self.one.weight[0] + self.one.weight[1]
            self.one.bias[[0, 1, 4]] = torch.tensor([3.3, 4.1, 7.7], dtype=torch.float64)
            self.two.weight[:4], self.two.bias[:4] = 0, level
            for unit, factor in enumerate((0.37, -1.7, 11 / 3, -0.1) if cancels else ()):
                self.two.weight[unit, [0, 1, 4]] = factor * torch.tensor(
                    [1.0, 1, -1], dtype=torch.float64
                )
                self.two.bias[unit] = factor * (7.7 - 3.3 - 4.1) + level

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.two(torch.relu(self.one(x))), min=self.level)


def by_plane(net: nn.Module, dims: int) -> int:
    found = subdivide(graph_of(net, (2,)), torch.zeros(2), torch.eye(2), SQUARE)
    assert not isinstance(found, NotApplicable)
    return len(found.offsets) - 1


def by_vertices(net: nn.Module, dims: int) -> int:
    ends = -np.ones(dims), np.ones(dims)
    found = cells_by_vertices(graph_of(net, (dims,)), *ends, Limits(10**5), 1e-9)
    assert not isinstance(found, NotApplicable)
    assert found.corners is not None
    assert found.corners.volumes.sum() == pytest.approx(2.0**dims)
    return len(found.centers)


def by_programs(net: nn.Module, dims: int) -> int:
    ends = -np.ones(dims), np.ones(dims)
    found = cells_by_programs(graph_of(net, (dims,)), *ends, Limits(10**5), 1e-9)
    assert not isinstance(found, NotApplicable)
    return len(found.centers)


@pytest.mark.parametrize("level", [0.0, 6.0])
@pytest.mark.parametrize(
    ("count", "dims"),
    [(by_plane, 2), (by_vertices, 2), (by_vertices, 3), (by_vertices, 4), (by_programs, 3)],
)
def test_cells_are_those_without_the_units(
    count: Callable[[nn.Module, int], int], dims: int, level: float
) -> None:
    exact = count(Canceling(dims, level, cancels=False), dims)
    assert exact > 10
    assert count(Canceling(dims, level), dims) == exact


@pytest.mark.parametrize(
    ("count", "module"),
    [(by_plane, piecewise_linear_plane_search), (by_vertices, piecewise_linear_boxes)],
)
def test_round_off_that_is_not_cleared_is_noticed(
    count: Callable[[nn.Module, int], int], module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = count(Canceling(2, 0.0, cancels=False), 2)
    monkeypatch.setattr(module, "applied", lambda operation, values: operation.apply(values))
    try:
        found = count(Canceling(2, 0.0), 2)
    except ArithmeticError as error:
        assert "contradict" in str(error)
    else:
        assert found != exact


def test_slopes_that_cancel_are_zero() -> None:
    graph = graph_of(Canceling(3, 0.0), (3,))
    found = local_maps(graph, torch.rand(20, 3, dtype=torch.float64))
    last = found.bends[-1]
    assert bool((last.gradients[:, :, :4] == 0).all())
    assert bool((last.gradients[:, :, 4:].abs().amax(1) > 1e-3).all())
    assert bool((last.pattern[:, :4] == 0).all())


def test_contradicting_signs_raise_the_tolerance() -> None:
    """Round-off of opposite signs around a square is on the wall once the tolerance is wider."""
    vertices, begin, size, pool, count, sides = piecewise_linear_boxes.face_cutting.box_faces(
        -np.ones(2), np.ones(2)
    )
    walls = np.column_stack([np.full(4, -1), sides])
    faces = piecewise_linear_boxes._Faces(vertices, begin, size, pool, count, walls)
    state = piecewise_linear_boxes._State(faces, {})
    tiny = 1e-10 * np.prod(vertices, axis=1)[:, None]
    names, scale = np.zeros((1, 3), dtype=int), np.zeros(1)
    slanted = np.where(np.arange(4) == 0, 1.0, tiny[:, 0])[:, None]
    kept, whole = piecewise_linear_boxes._cut(state, slanted, scale, names, 9)
    assert whole
    assert kept.faces.count.tolist() == count.tolist()
    with pytest.raises(ArithmeticError, match="contradict"):
        piecewise_linear_boxes._cut(state, 1e10 * tiny, scale, names, 9)
