"""The difference of two networks over balls: proven bounds, and what an attack reaches."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.condensation.split_balls import BoundsOf
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.channel_flow import channel_groups
from whynet.models.data.examples import Examples
from whynet.models.difference_bounds import Balls, JointBounds, Norm
from whynet.models.embedding import embedded
from whynet.models.smooth_table import bounded_graph
from whynet.models.step_graph import StepGraph, carried_back, curved_operations
from whynet.models.subject import Subject

WORK: Final = 1e8
"""Numbers that the passes back of one bound may touch, all points together, about."""

MOST_WORK: Final = 4e8
"""The same of the radii of labels, which take several bounds: beyond it none are looked for."""

MOST_SPLIT: Final = 4_096
"""Parts of balls that are bounded at most."""

_STEPS, _RESTARTS = 40, 3
_HALVINGS: Final = 7
_FARTHEST: Final = 16.0
"""Times the radius of the balls: the largest radius that labels are followed to."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """What is proven over balls.

    Attributes:
        centers: `[points, *input]`, float64.
        scale: the largest output of the network as it came, on the data.
        highest: `[points]`, no output differs by more inside the ball of a point.
        curved: names of the functions that curve, and `product` where two values are multiplied.
        of_balls: centers and radii of other balls to their bounds `[balls]`.
        most: other balls whose bounds are affordable.
        label_radii: `[some points]`, the largest radius found at which both networks provably
            give the label of the center everywhere; 0 where the center's labels differ. None
            where there are no labels, or the network is too wide for several bounds.

    """

    centers: Tensor
    scale: float
    highest: np.ndarray
    curved: tuple[str, ...]
    of_balls: BoundsOf
    most: int
    label_radii: np.ndarray | None


def difference_bounds(
    subject: Subject,
    smaller: Subject,
    kept: Mapping[str, Sequence[int]],
    examples: Examples,
    radius: float,
    norm: Norm,
) -> Bounds | NotApplicable:
    """Bound the difference of two networks, and the radii in which no label changes.

    Args:
        subject: the network as it came.
        smaller: the smaller one.
        kept: the channels in whose places its channels stand, see `embedded`.
        examples: centers; the first so many that are affordable.
        radius: of the balls.
        norm: of the balls.

    Returns:
        The bounds; or why there are none: an operation has no bound, or the network is too large.

    """
    graphs = _graphs(subject, smaller, kept)
    if isinstance(graphs, NotApplicable):
        return graphs
    graph = graphs[0]
    if len(graph.output_shape) != 1:
        return NotApplicable("Bounds are offered for networks that return one vector an example.")
    work = _work(graph)
    points = min(examples.count, max(2, int(WORK / work)))
    if work > WORK:
        return NotApplicable("The network is too large for bounds by linear bound propagation.")
    inputs, _ = examples.take(range(points), dtype=torch.float64)
    assert isinstance(inputs, Tensor)
    with torch.no_grad():
        outputs = graph.evaluate(inputs)
    unit = torch.eye(outputs.shape[1], dtype=torch.float64)[:, None]

    def of_balls(centers: Tensor, radii: Tensor) -> Tensor:
        joint = _joint(graphs, centers, radii, norm)
        return joint.highest(None, torch.cat([unit, -unit])).amax(0)

    highest = of_balls(inputs, torch.full((points,), radius, dtype=torch.float64))
    if not bool(highest.isfinite().all()):
        return NotApplicable(
            f"No finite bound is found over balls of radius {radius:.3g}: give a smaller one."
        )
    radii = None
    if "classification" in subject.loss.task and 2 * _HALVINGS * work <= MOST_WORK:
        some = max(2, min(points, int(WORK / (_HALVINGS * work))))
        radii = _label_radii(graphs, inputs[:some], radius, norm)
    whole = subject.outputs(subject.any_split)[0]
    scale, named = float(whole.abs().max()), curved_operations(graph)
    most = min(MOST_SPLIT, int(WORK / work))
    return Bounds(inputs, scale, highest.clamp_min(0.0).numpy(), named, of_balls, most, radii)


Graphs = tuple[StepGraph, StepGraph]


def _graphs(
    subject: Subject, smaller: Subject, kept: Mapping[str, Sequence[int]]
) -> Graphs | NotApplicable:
    """Return both networks as graphs of the same shapes."""
    wide = subject.in_precision(torch.float64)
    graph = _read(wide)
    if isinstance(graph, NotApplicable):
        return graph
    large = copy.deepcopy(wide.module).to("cpu").requires_grad_(False)
    small = copy.deepcopy(smaller.module).to("cpu", torch.float64).requires_grad_(False)
    data = subject.examples(subject.any_split)
    example, _ = data.take(range(min(2, data.count)), dtype=torch.float64)
    groups = channel_groups(large, lambda: large(example))
    twin = wide.replaced(embedded(large, small, groups, kept))
    with torch.no_grad():
        one, two = small(example), twin.module(example)
    if isinstance(one, Tensor) and not torch.allclose(one, two, rtol=1e-9, atol=1e-9):
        raise InputError("kept", "channels with which the small network is another", "its channels")
    second = _read(twin)
    return second if isinstance(second, NotApplicable) else (graph, second)


def _read(subject: Subject) -> StepGraph | NotApplicable:
    found = subject.plain()
    return found if isinstance(found, NotApplicable) else bounded_graph(*found)


def _work(graph: StepGraph) -> float:
    """Return numbers that one point takes to bound all that enters units and products."""
    sizes: dict[int, int] = {}
    point = torch.zeros(1, *graph.input_shape, dtype=torch.float64)
    with torch.no_grad():
        for index, value in graph.values(point):
            sizes[index] = value.numel() if isinstance(value, Tensor) else 0
    entries = sum(sizes[index] for index in carried_back(graph)) + 2 * sizes[graph.output]
    return float(entries * sum(sizes.values()))


def _joint(graphs: Graphs, centers: Tensor, radius: Tensor, norm: Norm) -> JointBounds:
    return JointBounds(*graphs, Balls(centers, radius, norm))


def _label_radii(graphs: Graphs, centers: Tensor, radius: float, norm: Norm) -> np.ndarray:
    """Halve, for each point, the gap between a radius that is proven and one that is not."""
    with torch.no_grad():
        outputs, others = (graph.evaluate(centers) for graph in graphs)
    weights, same = _margins(outputs, others)
    low = torch.zeros(len(centers), dtype=torch.float64)
    high = torch.full_like(low, _FARTHEST * radius)
    for step in range(_HALVINGS):
        middle = high if step == 0 else (low + high) / 2
        joint = _joint(graphs, centers, middle, norm)
        ours = joint.highest(-weights, None).amax(0) < 0
        theirs = joint.highest(-weights, -weights).amax(0) < 0
        proven = ours & theirs & same
        low, high = torch.where(proven, middle, low), torch.where(proven, high, middle)
    return low.numpy()


def _margins(outputs: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return `[functions, points, outputs]`, all above zero where the label is that of a center.

    Beside it, whether both networks give the same label at the center.
    """
    if outputs.shape[1] == 1:
        sign = torch.where(outputs > 0, 1.0, -1.0).double()
        return sign[None], (outputs > 0)[:, 0] == (others > 0)[:, 0]
    classes = outputs.shape[1]
    label = outputs.argmax(1)
    unit = torch.eye(classes, dtype=torch.float64)
    rest = torch.stack([torch.cat([unit[:k], unit[k + 1 :]]) for k in range(classes)])
    weights = unit[label][:, None] - rest[label]
    return weights.transpose(0, 1), label == others.argmax(1)


def attacked(
    subject: Subject, smaller: Subject, centers: Tensor, radius: float, norm: Norm, seed: int
) -> np.ndarray:
    """Climb the largest difference of an output inside balls, from several starts.

    Args:
        subject: the network as it came.
        smaller: the smaller one.
        centers: `[points, *input]`, float64.
        radius: of the balls.
        norm: of the balls.
        seed: of the starts.

    Returns:
        `[points]`, the largest difference found: a lower bound of the true one.

    """
    wide, narrow = (one.in_precision(torch.float64) for one in (subject, smaller))
    generator = torch.Generator().manual_seed(seed)
    best = torch.zeros(len(centers), dtype=torch.float64)
    for restart in range(_RESTARTS):
        noise = torch.rand(centers.shape, generator=generator, dtype=torch.float64) * 2 - 1
        step = _inside(noise * radius, radius, norm) if restart else torch.zeros_like(centers)
        for turn in range(_STEPS + 1):
            points = (centers + step).requires_grad_()
            with torch.enable_grad():
                before, after = (one.forward(one.parameters, points) for one in (wide, narrow))
                gap = (after - before).abs().flatten(1).amax(1)
                (slope,) = torch.autograd.grad(gap.sum(), points)
            best = torch.maximum(best, gap.detach())
            size = 2 * radius * (1 - turn / (_STEPS + 1)) / math.sqrt(_STEPS)
            step = _inside(step + size * _direction(slope, norm), radius, norm)
    return best.numpy()


def _direction(slope: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return torch.sign(slope)
    length = slope.flatten(1).norm(dim=1).clamp_min(1e-300)
    return torch.div(slope, length.reshape(-1, *[1] * (slope.ndim - 1)))


def _inside(step: Tensor, radius: float, norm: Norm) -> Tensor:
    """Return the nearest steps of the ball."""
    if norm == "linf":
        return torch.clamp(step, -radius, radius)
    length = step.flatten(1).norm(dim=1).clamp_min(radius)
    return torch.mul(step, (radius / length).reshape(-1, *[1] * (step.ndim - 1)))
