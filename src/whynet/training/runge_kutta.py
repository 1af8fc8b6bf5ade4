"""Integrates one differential equation a member, each with its own steps and error control.

The pair of order 5 and 4 of Dormand and Prince (1980); a member whose step is refused repeats it
alone, and no member's numbers depend on another's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`field(clock, state)` gives the velocity, `[members, size]`, and each member's loss."""

STAGES: Final = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
NODES: Final = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
ERROR: Final = (
    71 / 57600,
    0.0,
    -71 / 16695,
    71 / 1920,
    -17253 / 339200,
    22 / 525,
    -1 / 40,
)
SAFETY, SLOWEST, FASTEST = 0.9, 0.2, 5.0


@dataclass(frozen=True)
class Tolerance:
    """Error allowed in a step: `absolute + relative * |state|`, root mean square over entries."""

    relative: float
    absolute: float


@dataclass(frozen=True)
class Flow:
    """Where each member is; tensors with a first axis of members.

    Attributes:
        clock: time of each, float64.
        state: `[members, size]`.
        velocity: the field there.
        loss: of each member there.
        pace: step each would try next, float64.
        running: who moves on.
        failed: who met numbers that are not finite whatever the step.
        steps: steps accepted.
        tried: steps tried.

    """

    clock: Tensor
    state: Tensor
    velocity: Tensor
    loss: Tensor
    pace: Tensor
    running: Tensor
    failed: Tensor
    steps: Tensor
    tried: Tensor


def begin(field: Field, clock: float, state: Tensor, tolerance: Tolerance) -> Flow:
    """Return members at their start, with a first step from the size of their velocity."""
    times = torch.full((len(state),), clock, dtype=torch.float64, device=state.device)
    velocity, loss = field(times, state)
    scale = tolerance.absolute + tolerance.relative * state.abs()
    place = _size(state / scale)
    speed = _size(velocity / scale)
    small = (place < 1e-5) | (speed < 1e-5)
    pace = torch.where(small, torch.full_like(place, 1e-6), 0.01 * place / speed)
    running = torch.isfinite(loss) & torch.isfinite(velocity).all(1)
    counts = torch.zeros(len(state), dtype=torch.int64, device=state.device)
    return Flow(times, state, velocity, loss, pace, running, ~running, counts, counts.clone())


@dataclass(frozen=True)
class Method:
    """A way to try one step, and the power of its error that scales the next."""

    attempt: Callable[[Field, Flow, Tensor, Tolerance], tuple[Tensor, Tensor, Tensor, Tensor]]
    power: float


def advance(
    field: Field, flow: Flow, until: float, tolerance: Tolerance, method: Method | None = None
) -> Flow:
    """Try one step of each running member that has not reached `until`."""
    moving = flow.running & (flow.clock < until)
    left = until - flow.clock
    landing = flow.pace * 1.0001 >= left
    step = torch.where(landing, left, flow.pace)
    way = method or DORMAND_PRINCE
    state, velocity, loss, error = way.attempt(field, flow, step, tolerance)
    sound = torch.isfinite(error) & torch.isfinite(loss)
    accepted = moving & sound & (error <= 1)
    factor = (SAFETY * error.clamp(min=1e-10).pow(-way.power)).clamp(SLOWEST, FASTEST)
    factor = torch.where(sound, factor, torch.full_like(factor, SLOWEST))
    wished = step * torch.where(accepted, factor, factor.clamp(max=1.0))
    # A step cut short to land on a time says nothing against the longer one.
    wished = torch.where(accepted & landing, torch.maximum(wished, flow.pace), wished)
    smallest = 16 * torch.finfo(torch.float64).eps * flow.clock.abs().clamp(min=1e-290)
    stuck = moving & ~accepted & (wished <= smallest)
    lost = stuck & ~sound
    row = accepted[:, None]
    return Flow(
        torch.where(accepted, torch.where(landing, until, flow.clock + step), flow.clock),
        torch.where(row, state, flow.state),
        torch.where(row, velocity, flow.velocity),
        torch.where(accepted, loss, flow.loss),
        torch.where(moving, wished, flow.pace),
        flow.running & ~stuck,
        flow.failed | lost,
        flow.steps + accepted,
        flow.tried + moving,
    )


def _attempt(
    field: Field, flow: Flow, step: Tensor, tolerance: Tolerance
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return state, velocity and loss after a step, and its error over the tolerance."""
    length = step.to(flow.state.dtype)[:, None]
    slopes = [flow.velocity]
    state, loss = flow.state, flow.loss
    for weights, node in zip(STAGES, NODES, strict=True):
        state = flow.state + length * _combined(weights, slopes)
        slope, loss = field(flow.clock + node * step, state)
        slopes.append(slope)
    error = length * _combined(ERROR, slopes)
    return state, slopes[-1], loss, excess(error, flow.state, state, tolerance)


def excess(error: Tensor, before: Tensor, after: Tensor, tolerance: Tolerance) -> Tensor:
    """Return the error of a step over what the tolerance allows, `[members]`."""
    larger = torch.maximum(before.abs(), after.abs())
    return _size(error / (tolerance.absolute + tolerance.relative * larger))


DORMAND_PRINCE: Final = Method(_attempt, 1 / 5)


def _combined(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    chosen = [(weight, slope) for weight, slope in zip(weights, slopes, strict=True) if weight]
    total = chosen[0][0] * chosen[0][1]
    for weight, slope in chosen[1:]:
        total = torch.add(total, slope, alpha=weight)
    return total


def _size(rows: Tensor) -> Tensor:
    """Return root mean squares of rows, in float64."""
    return rows.to(torch.float64).square().mean(1).sqrt()


def stopped(flow: Flow, members: Tensor) -> Flow:
    """Return the flow with these members standing still."""
    return replace(flow, running=flow.running & ~members)
