"""Measures of a subdivision against closed forms, quadrature and sampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.models.piecewise import Forward, graph_of
from torch import Tensor, nn

from whynet.models.piecewise_linear_planes import subdivide
from whynet.numerics import plane_measures as measures
from whynet.numerics.plane_boundaries import decision_boundary, level_set
from whynet.numerics.plane_cells import PlaneCells

SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)
HEXAGON = np.array([[math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)] for k in range(6)])


def cells_of(module: nn.Module, polygon: np.ndarray = SQUARE) -> PlaneCells:
    graph = graph_of(module, (2,))
    return subdivide(graph, torch.zeros(2), torch.eye(2), polygon)


def function(f: Callable[[Tensor], Tensor]) -> nn.Module:
    return Forward(lambda _, x: f(x))


DIAMOND = function(lambda x: x.abs().sum(1, keepdim=True))


def test_an_affine_function_on_a_hexagon() -> None:
    cells = cells_of(function(lambda x: 3 * x[:, :1] + 4 * x[:, 1:] + 1), HEXAGON)
    area = 1.5 * math.sqrt(3)
    assert measures.areas_and_centroids(cells)[0].tolist() == pytest.approx([area])
    assert measures.integrals(cells).tolist() == pytest.approx([area])
    assert measures.gradient_norm_integrals(cells).tolist() == pytest.approx([5 * area])
    assert measures.lipschitz_constant(cells) == pytest.approx(5)
    found = measures.extrema(cells)
    assert found.largest.tolist() == pytest.approx([1 + 1.5 + 2 * math.sqrt(3)])
    assert found.smallest_at.tolist() == [pytest.approx([-0.5, -math.sqrt(3) / 2])]
    assert measures.wall_length(cells) == 0


def test_the_sum_of_absolute_values() -> None:
    cells = cells_of(DIAMOND)
    assert measures.areas_and_centroids(cells)[0].tolist() == pytest.approx([1] * 4)
    assert measures.integrals(cells).tolist() == pytest.approx([4])
    assert measures.gradient_norm_integrals(cells).tolist() == pytest.approx([4 * math.sqrt(2)])
    assert measures.lipschitz_constant(cells) == pytest.approx(math.sqrt(2))
    assert measures.wall_length(cells) == pytest.approx(4)
    found = measures.extrema(cells)
    assert (found.smallest.item(), found.largest.item()) == pytest.approx((0, 2))
    assert found.smallest_at.tolist() == [[0, 0]]
    assert measures.linear_regions(cells).max() == 3
    level = level_set(cells, 0, 0.5)
    assert level.length == pytest.approx(2 * math.sqrt(2))
    assert level.components == len(level.lines) == 1
    (line,) = level.lines
    assert len(line) == 5 and np.array_equal(line[0], line[-1])
    corners = level_set(cells, 0, 1.5)
    assert corners.components == len(corners.lines) == 4
    assert corners.length == pytest.approx(4 * math.sqrt(0.5))


def test_a_unit_that_nothing_reads_makes_no_linear_region() -> None:
    cells = cells_of(function(lambda x: x[:, :1].abs() + 0 * x[:, 1:].abs()))
    assert len(cells.offsets) - 1 == 4
    assert measures.linear_regions(cells).max() == 1


def test_a_level_that_is_taken_on_a_whole_cell_has_its_edge_as_its_boundary() -> None:
    cells = cells_of(function(lambda x: x[:, :1].relu() + 0 * x[:, 1:].abs()))
    found = level_set(cells, 0, 0.0)
    assert found.length == pytest.approx(2)
    assert found.components == len(found.lines) == 1
    assert np.abs(found.segments[:, :, 0]).max() == 0


def test_three_classes_meet_in_a_point() -> None:
    angles = torch.tensor([0.0, 2 * math.pi / 3, 4 * math.pi / 3]).double()
    columns = torch.stack([angles.cos(), angles.sin()])
    found = decision_boundary(cells_of(function(lambda x: x @ columns), HEXAGON))
    # Three rays from the center, to corners of the hexagon.
    assert found.components == 1
    assert len(found.lines) == 3
    assert found.length == pytest.approx(3)
    # Cut into pieces by walls that no class sees, they are the same.
    walls = function(lambda x: x @ columns + 0 * (x[:, :1] - 0.1).abs() + 0 * x[:, 1:].abs())
    cut = decision_boundary(cells_of(walls, HEXAGON))
    assert (cut.components, len(cut.lines)) == (1, 3)
    assert cut.length == pytest.approx(3)
    assert len(cut.segments) > 3


def test_a_class_that_is_largest_at_no_corner_is_found() -> None:
    cells = cells_of(
        function(lambda x: torch.cat([x[:, :1] - 0.5, 0 * x[:, :1], -x[:, :1] - 0.5], 1))
    )
    found = decision_boundary(cells)
    assert found.components == len(found.lines) == 2
    assert sorted({round(float(x), 9) for x in found.segments[:, :, 0].flatten()}) == [-0.5, 0.5]
    assert {tuple(pair) for pair in found.pairs.tolist()} == {(0, 1), (1, 2)}


def test_equal_outputs_have_one_boundary_with_a_third() -> None:
    found = decision_boundary(
        cells_of(function(lambda x: torch.cat([x[:, :1], x[:, :1], -x[:, :1]], 1)))
    )
    assert found.length == pytest.approx(2)
    assert found.components == len(found.lines) == 1


def test_a_tie_of_all_on_one_side_makes_no_boundary_with_the_class_it_counts_as() -> None:
    # Left of 0 all are 0, and the first counts as the largest; right of it the first leads.
    found = decision_boundary(
        cells_of(function(lambda x: torch.cat([x[:, :1], 0 * x[:, :1], -x[:, :1]], 1).relu() * 1.0))
    )
    assert found.length == pytest.approx(2)  # 0 and 2 meet in the middle, and nothing else does
    assert {tuple(pair) for pair in found.pairs.tolist()} == {(0, 2)}
    rising = function(lambda x: torch.cat([x[:, :1].relu(), -x[:, :1].relu(), -x[:, :1].relu()], 1))
    assert decision_boundary(cells_of(rising)).length == 0


def test_a_level_taken_at_the_border_alone_bounds_nothing() -> None:
    assert level_set(cells_of(function(lambda x: x[:, :1])), 0, 1.0).length == 0
    assert level_set(cells_of(function(lambda x: x[:, :1])), 0, -1.0).length == 0


def test_no_boundary_is_an_empty_one() -> None:
    found = level_set(cells_of(DIAMOND), 0, 3.0)
    assert (found.length, found.components, found.lines) == (0, 0, ())
    assert found.segments.shape == (0, 2, 2)


def random_network(outputs: int) -> nn.Sequential:
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, outputs)
    )
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=2 / math.sqrt(layer.in_features))
            nn.init.normal_(layer.bias, std=0.5)
    return net


def test_a_random_network_against_quadrature_and_its_own_boundary() -> None:
    net = random_network(3)
    cells = cells_of(net, HEXAGON)
    twin = net.double()
    with torch.no_grad():
        twin[4].bias -= twin(torch.zeros(1, 2).double())[0]  # so that classes meet inside
    cells = cells_of(twin, HEXAGON)
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (40_000, 2))
    inside = (np.abs(points[:, 1]) < math.sqrt(3) / 2) & (
        np.abs(points[:, 0]) + np.abs(points[:, 1]) / math.sqrt(3) < 1
    )
    held = torch.tensor(points[inside], requires_grad=True)
    out = twin(held)
    area = 1.5 * math.sqrt(3)
    assert measures.areas_and_centroids(cells)[0].sum() == pytest.approx(area, rel=1e-12)
    for output in range(3):
        (slope,) = torch.autograd.grad(out[:, output].sum(), held, retain_graph=True)
        for exact, sampled in (
            (measures.integrals(cells)[output], out[:, output].detach()),
            (measures.gradient_norm_integrals(cells)[output], slope.norm(dim=1)),
        ):
            error = float(sampled.std()) * area / math.sqrt(len(sampled))
            assert abs(exact - area * float(sampled.mean())) < 4 * error
        assert measures.extrema(cells).largest[output] >= float(out[:, output].detach().max())
    found = decision_boundary(cells)
    assert len(found.segments) > 5
    middle = torch.tensor(found.segments.mean(1))
    top = torch.topk(twin(middle).detach(), 2, dim=1)
    assert float((top.values[:, 0] - top.values[:, 1]).abs().max()) < 1e-12
    assert torch.equal(top.indices.sort(1).values, torch.tensor(found.pairs))
    # Every change of class along random chords of the hexagon lies on the boundary.
    start, stop = (torch.tensor(points[inside][i : i + 300]) for i in (0, 300))
    t = torch.linspace(0, 1, 2001).double()[:, None, None]
    with torch.no_grad():
        best = twin((start + t * (stop - start)).reshape(-1, 2)).argmax(1).reshape(2001, -1)
    at, which = torch.nonzero(best.diff(dim=0), as_tuple=True)
    where = (start[which] + t[at, 0] * (stop - start)[which]).numpy()
    a, b = found.segments[:, 0], found.segments[:, 1]
    share = ((where[:, None] - a) * (b - a)).sum(2) / ((b - a) ** 2).sum(1)
    nearest = a + share.clip(0, 1)[..., None] * (b - a)
    assert np.linalg.norm(where[:, None] - nearest, axis=2).min(1).max() < 2 / 2000


def test_shared_ends_are_the_same_point() -> None:
    found = decision_boundary(cells_of(random_network(1)))
    for line in found.lines:
        assert np.linalg.norm(np.diff(line, axis=0), axis=1).min() > 0
    total = sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in found.lines)
    assert total == pytest.approx(found.length)


@pytest.mark.parametrize("integers", [False, True], ids=["general", "degenerate"])
@pytest.mark.parametrize("seed", range(6))
def test_boundaries_end_at_the_border_or_where_three_meet(seed: int, integers: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    net = random_network(1 + seed % 4).double()
    with torch.no_grad():
        for parameter in net.parameters():
            drawn = torch.randn(parameter.shape, generator=generator).double()
            # Small whole numbers: coincident, parallel and concurrent walls, and ties.
            parameter.copy_(drawn.round() if integers else drawn)
        net[-1].bias -= net(torch.full((1, 2), 0.3).double())[0]  # so that classes meet inside
    found = decision_boundary(cells_of(net))
    assert len(found.segments) > 0
    ends = [line[i] for line in found.lines if not np.array_equal(*line[[0, -1]]) for i in (0, -1)]
    for end in ends:
        if abs(np.abs(end).max() - 1) < 1e-9:
            continue
        with torch.no_grad():
            scores = net(torch.tensor(end)[None])[0]
        tied = int((scores > scores.max() - 1e-9 * (1 + scores.abs().max())).sum())
        around = sum(bool(np.linalg.norm(end - other) < 1e-9) for other in ends)
        # Inside, lines branch where three outputs tie, or where two tie on a whole cell.
        assert around >= 3 and (tied >= 3 or integers), (end, scores)
    # On both sides of every segment, the two classes are those it says.
    middle = found.segments.mean(1)
    along = found.segments[:, 1] - found.segments[:, 0]
    long = np.linalg.norm(along, axis=1) > 1e-4
    normal = np.stack([-along[:, 1], along[:, 0]], 1)[long]
    step = 1e-8 * normal / np.linalg.norm(normal, axis=1)[:, None]
    with torch.no_grad():
        values = [net(torch.tensor(middle[long] + side)) for side in (step, -step)]
    if values[0].shape[1] == 1:
        sides = [(value[:, 0] > 0).long() for value in values]
    else:
        sides = [value.argmax(1) for value in values]
    pairs = torch.stack(sides, 1).sort(1).values
    assert torch.equal(pairs, torch.tensor(found.pairs[long]).sort(1).values)
