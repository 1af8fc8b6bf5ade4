"""Bounds over balls against exact values, and against every point tried."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.concepts.condensation.planting import network
from torch import Tensor, nn

from whynet import InputError
from whynet.models.channel_flow import channel_groups
from whynet.models.difference_bounds import Balls, JointBounds, Norm
from whynet.models.embedding import embedded
from whynet.models.resizing import cut
from whynet.models.smooth_table import bounded_graph
from whynet.models.step_graph import StepGraph


def graph_of(module: nn.Module, example: Tensor) -> StepGraph:
    graph = bounded_graph(module, example)
    assert isinstance(graph, StepGraph), graph
    return graph


def moved(module: nn.Module, size: float, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    fresh = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in fresh.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(size * parameter.abs().mean() * noise)
    return fresh


def kinked(name: str) -> tuple[nn.Module, Tensor]:
    if name in ("cnn", "residual"):
        return network(name, 0)
    torch.manual_seed(0)
    middle = {"leaky": nn.LeakyReLU(0.2), "hardtanh": nn.Hardtanh(), "clipped": nn.ReLU6()}
    module = nn.Sequential(
        nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), middle[name], nn.Linear(6, 2)
    )
    return module.double(), torch.randn(4, 3, dtype=torch.float64)


def in_balls(centers: Tensor, radius: float, norm: Norm, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(count, *centers.shape, generator=generator, dtype=torch.float64)
    if norm == "linf":
        return centers + radius * torch.where(noise.abs() > 0.5, noise.sign(), noise)
    length = noise.flatten(2).norm(dim=2).reshape(count, -1, *[1] * (centers.ndim - 1))
    return centers + radius * noise / length


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["cnn", "residual", "leaky", "hardtanh", "clipped"])
def test_no_point_of_a_ball_breaks_a_bound(name: str, norm: Norm) -> None:
    module, inputs = kinked(name)
    centers = inputs[:3]
    other = moved(module, 0.05, 1)
    graphs = graph_of(module, centers[0]), graph_of(other, centers[0])
    outputs = graphs[0].output_shape[0]
    unit = torch.eye(outputs, dtype=torch.float64)[:, None]
    for radius in (0.01, 0.3, 2.0):
        radii = torch.full((3,), radius, dtype=torch.float64)
        joint = JointBounds(*graphs, Balls(centers, radii, norm))
        above, below = joint.highest(None, unit), -joint.highest(None, -unit)
        own = joint.highest(unit, None)
        points = in_balls(centers, radius, norm, 100)
        with torch.no_grad():
            first = torch.stack([module(p) for p in points])
            gap = torch.stack([other(p) for p in points]) - first
        assert bool((above + 1e-9 >= gap.amax(0).T).all())
        assert bool((below - 1e-9 <= gap.amin(0).T).all())
        assert bool((own + 1e-9 >= first.amax(0).T).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_nothing_bends_the_bound_is_the_maximum(norm: Norm) -> None:
    """Inside one cell of both networks the difference is affine: its maximum is in closed form."""
    module, inputs = kinked("leaky")
    other, radius = moved(module, 0.05, 2), 1e-6
    graphs = graph_of(module, inputs[0]), graph_of(other, inputs[0])
    radii = torch.full((len(inputs),), radius, dtype=torch.float64)
    joint = JointBounds(*graphs, Balls(inputs, radii, norm))
    found = joint.highest(None, torch.eye(2, dtype=torch.float64)[:, None])
    for place, point in enumerate(inputs):
        slope = torch.autograd.functional.jacobian(lambda x: other(x) - module(x), point)
        size = slope.abs().sum(1) if norm == "linf" else slope.norm(dim=1)
        exact = (other(point) - module(point)) + radius * size
        assert torch.allclose(found[:, place], exact.detach(), rtol=0, atol=1e-13)


def test_equal_networks_differ_by_nothing_however_large_the_ball() -> None:
    module, inputs = kinked("residual")
    graph = graph_of(module, inputs[0])
    radii = torch.full((len(inputs),), 5.0, dtype=torch.float64)
    joint = JointBounds(graph, graph, Balls(inputs, radii, "linf"))
    unit = torch.eye(3, dtype=torch.float64)[:, None]
    assert float(joint.highest(None, torch.cat([unit, -unit])).abs().max()) < 1e-9


def test_networks_of_other_kinks_or_shapes_are_refused() -> None:
    module, inputs = kinked("leaky")
    balls = Balls(inputs, torch.ones(len(inputs), dtype=torch.float64), "linf")
    graph = graph_of(module, inputs[0])
    steeper = copy.deepcopy(module)
    steeper[3] = nn.LeakyReLU(0.5)
    with pytest.raises(InputError, match="another kink"):
        JointBounds(graph, graph_of(steeper, inputs[0]), balls)
    shorter = nn.Sequential(*list(module)[:3])
    with pytest.raises(InputError, match="a graph of other steps"):
        JointBounds(graph, graph_of(shorter, inputs[0]), balls)


@pytest.mark.parametrize("name", ["cnn", "residual", "mlp", "gated"])
def test_a_smaller_network_in_the_shapes_of_the_large_one_is_the_same_function(name: str) -> None:
    large, inputs = network(name, 7)
    small, kept = copy.deepcopy(large), {}
    for group in channel_groups(small, lambda: small(inputs[:2])):
        if group.refusal is None:
            stays = torch.arange(group.width) % 3 != 1
            cut(small, (group, stays))
            kept[group.path] = torch.nonzero(stays).reshape(-1).tolist()
    groups = channel_groups(large, lambda: large(inputs[:2]))
    twin = embedded(large, small, groups, kept)
    with torch.no_grad():
        assert torch.allclose(twin(inputs), small(inputs), rtol=0, atol=1e-12)
    assert [p.shape for p in twin.parameters()] == [p.shape for p in large.parameters()]
    with pytest.raises(InputError, match="kept"):
        embedded(large, small, groups, {})
    path = next(iter(kept))
    with pytest.raises(InputError, match="ascending"):
        embedded(large, small, groups, {**kept, path: kept[path][::-1]})


@pytest.mark.parametrize("name", ["cnn", "residual", "clipped"])
def test_entries_carried_together_are_bounded_as_functions_of_them_are(name: str) -> None:
    """What is affine is carried back once for h and D, and for all balls."""
    module, inputs = kinked(name)
    graphs = graph_of(module, inputs[0]), graph_of(moved(module, 0.05, 1), inputs[0])
    radii = torch.tensor([0.01, 0.4], dtype=torch.float64)
    joint = JointBounds(*graphs, Balls(inputs[:2], radii, "linf"))
    for index in [i for i in joint.ranges if i in joint.steps]:
        shape = joint.shapes[index]
        count = int(torch.tensor(shape).prod())
        unit = torch.eye(count, dtype=torch.float64).reshape(count, 1, *shape)
        found = joint._ends(index, unit)
        apart = [
            joint._highest(index, own, gap)
            for own, gap in ((unit, None), (-unit, None), (None, unit), (None, -unit))
        ]
        assert torch.allclose(found, torch.stack(apart), rtol=1e-9, atol=1e-11)
