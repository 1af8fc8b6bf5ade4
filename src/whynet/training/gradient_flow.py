"""Gradient flow of an ensemble: each member follows `dθ/dt = -∇L(θ)` with its own steps.

Four integrators. `runge-kutta` keeps the error of every step within a tolerance; `chebyshev`
does too, takes far longer steps where stability limits them (late, when what is left to learn is
slow) and shorter ones where accuracy does. `exponential` does too, follows the linearized network
exactly, and takes the longest steps of all where rows and outputs are few. `euler` is
gradient descent with the step `min(0.5 / λ, 0.05 / g)`: `λ` is the largest eigenvalue of the
Gauss-Newton matrix, refreshed every ten steps, and bounds by stability; `g`, the largest entry of
`|Xᵀ ∂L/∂f|` with a column of ones in `X`, bounds the relative growth of weights while they are
tiny. It is cheap and coarse (first order): its endpoint is that of a gradient descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap

from whynet.core.errors import InputError
from whynet.derivatives.exact_kernels import exact_kernels
from whynet.models.preservation import preserved
from whynet.training.chebyshev import CHEBYSHEV
from whynet.training.ensemble_result import EnsembleResult, Observable, Recorder
from whynet.training.ensemble_task import Forward, Loss, Task, checked_task, count
from whynet.training.exponential_flow import check_rows, exponential_method
from whynet.training.flow_run import Flattened, FlowRun, run_flow
from whynet.training.optimizers import Stacked, per_member
from whynet.training.runge_kutta import (
    DORMAND_PRINCE,
    Field,
    Flow,
    Method,
    Tolerance,
    advance,
    begin,
)
from whynet.training.schedule import checked_times
from whynet.training.stopping import Below

FlowMethod = Literal["runge-kutta", "chebyshev", "exponential", "euler"]

REFRESH: Final = 10
"""Euler steps between two estimates of the largest eigenvalue."""

POWER: Final = (30, 3)
"""Power iterations at the start, and at each refresh from the vector before."""


@dataclass(frozen=True)
class GradientFlow:
    """How gradient flow is integrated.

    Attributes:
        method: `runge-kutta`, `chebyshev`, `exponential` (at most 512 outputs over all rows, which
            do not see each other) or `euler`.
        relative_tolerance: error of a step over the size of the parameters (not `euler`); by
            default 1e-6 in float64 and 1e-4 in float32.
        absolute_tolerance: error allowed beside it; by default a thousandth of the relative one.
        stability: Euler's step times the largest eigenvalue, below 2.
        accuracy: Euler's step times the growth rate.

    Raises:
        InputError: a setting out of its range.

    """

    method: FlowMethod = "runge-kutta"
    relative_tolerance: float | None = None
    absolute_tolerance: float | None = None
    stability: float = 0.5
    accuracy: float = 0.05

    def __post_init__(self) -> None:
        if self.method not in get_args(FlowMethod):
            raise InputError(
                "method", repr(self.method), "one of " + ", ".join(get_args(FlowMethod))
            )
        for name in ("relative_tolerance", "absolute_tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise InputError(name, repr(value), "a number between 0 and 1")
        if not 0 < self.stability < 2:
            raise InputError("stability", repr(self.stability), "a number between 0 and 2")
        if not 0 < self.accuracy < math.inf:
            raise InputError("accuracy", repr(self.accuracy), "a number above 0")

    @property
    def step(self) -> Method:
        """The way a step with error control is tried."""
        return CHEBYSHEV if self.method == "chebyshev" else DORMAND_PRINCE

    def tolerance(self, dtype: torch.dtype) -> Tolerance:
        """Return the tolerances in a dtype.

        Raises:
            InputError: a relative tolerance within round-off of the dtype.

        """
        default = 1e-6 if dtype == torch.float64 else 1e-4
        relative = self.relative_tolerance or default
        if relative < 20 * torch.finfo(dtype).eps:
            wanted = f"at least {20 * torch.finfo(dtype).eps:.1e} in {dtype}"
            raise InputError("relative_tolerance", f"{relative:g}", wanted)
        return Tolerance(relative, self.absolute_tolerance or relative / 1000)


def flow_ensemble(
    forward: Forward | nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    times: Sequence[float],
    flow: GradientFlow | None = None,
    stop: Below | None = None,
    record: Mapping[str, Observable] | None = None,
    per_member: Sequence[str] = (),
    constants: Mapping[str, Tensor] | None = None,
    speeds: Mapping[str, Tensor] | None = None,
    limit: int = 100_000,
) -> EnsembleResult:
    """Follow the gradient flow of each member from time 0, and record at given times.

    Args:
        forward: as in `whynet.training.ensemble.train_ensemble`, and so the next four and
            `record`, `per_member` and `constants`.
        parameters: stacked start.
        inputs: data.
        targets: data.
        loss: scalar of outputs and targets.
        times: increasing; every member is recorded exactly there, and the flow ends at the last.
        flow: how to integrate; Runge-Kutta by default.
        stop: on the loss of a member, seen after each of its steps; other quantities are looked
            at when recording.
        record: observables.
        per_member: which data have a first axis of members.
        constants: stacked entries that are not trained.
        speeds: name of a parameter to a factor `[members]` on its velocity, `dθ/dt = -s ∂L/∂θ`;
            1 where it is not named. For parameters held in units of their own: `θ = u θ'` moves
            as the flow of `θ` says where `θ'` has the speed `1/u²` and `forward` multiplies by `u`.
        limit: most steps tried by a member.

    Returns:
        As `train_ensemble`, recorded over `time`; `times` says where each member stopped.

    Raises:
        InputError: arguments that do not fit together.

    """
    task, start = checked_task(forward, loss, inputs, targets, parameters, per_member, constants)
    how = flow or GradientFlow()
    planned = checked_times(times)
    recorder = Recorder(record, count(start), "time")
    with preserved(), exact_kernels(), torch.no_grad():
        flat = Flattened(start)
        pace = _speeds(speeds, start, flat, how)
        if how.method == "exponential":
            check_rows(task, start)
        make = partial(_advance, flat.task(task), flat, how, pace)
        run = FlowRun(make, task, flat, limit, compact=how.method != "euler")
        field = _descent(flat.task(task), flat, pace)
        first = begin(field, 0.0, flat.start, how.tolerance(flat.dtype))
        return run_flow(run, first, planned, planned, stop, recorder)


def _advance(
    task: Task, flat: Flattened, how: GradientFlow, speeds: Tensor | None, rows: Tensor | None
) -> Callable[[Flow, float], Flow]:
    """Return how some rows of the table are advanced, or all."""
    part = task if rows is None else task.select(rows)
    own = speeds if speeds is None or rows is None else speeds[rows]
    field, tolerance = _descent(part, flat, own), how.tolerance(flat.dtype)
    if how.method == "euler":
        euler = _Euler(part, flat, how)
        return lambda now, until: euler.advance(field, now, until)
    method = exponential_method(part, flat, own) if how.method == "exponential" else how.step
    return lambda now, until: advance(field, now, until, tolerance, method)


def _descent(task: Task, flat: Flattened, speeds: Tensor | None) -> Field:
    def field(_: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        gradients, losses = task.gradients(flat.unpack(state))
        downhill = -flat.pack(gradients)
        return downhill if speeds is None else downhill * speeds, losses

    return field


def _speeds(
    speeds: Mapping[str, Tensor] | None, start: Stacked, flat: Flattened, how: GradientFlow
) -> Tensor | None:
    """Return the speed of every column of the table, `[members, size]`."""
    if not speeds:
        return None
    if how.method == "euler":
        raise InputError("speeds", "speeds with euler", "another method")
    unknown = sorted(set(speeds) - set(start))
    if unknown:
        raise InputError("speeds", repr(unknown[0]), "names of trained parameters")
    columns = {}
    for name, value in start.items():
        own = per_member(f"speeds of {name}", speeds.get(name, 1.0), value)
        if not bool((own > 0).all() and torch.isfinite(own).all()):
            raise InputError("speeds", f"those of {name!r}", "positive finite numbers")
        columns[name] = own.reshape(-1, *[1] * (value.ndim - 1)).expand_as(value)
    table = flat.pack(columns)
    return table.expand(2, -1) if flat.members == 1 else table


class _Euler:
    """Gradient descent whose step follows stability and growth."""

    def __init__(self, task: Task, flat: Flattened, how: GradientFlow) -> None:
        self.task, self.flat, self.how = task, flat, how
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(flat.start.shape[1], generator=generator, dtype=torch.float64)
        self.direction = draw.to(flat.start).expand_as(flat.start)
        self.curvature = torch.zeros_like(flat.start[:, 0])
        self.until, self.calls, self.known = -1.0, 0, False

    def advance(self, field: Field, flow: Flow, until: float) -> Flow:
        """Move each running member that has not reached `until` by one step."""
        moving = flow.running & (flow.clock < until)
        if until != self.until:  # all set out together: no member's steps depend on the others
            self.until, self.calls = until, 0
        if self.calls % REFRESH == 0:
            self._refresh(flow.state, moving, POWER[self.known])
            self.known = True
        self.calls += 1
        bound = self.how.stability / self.curvature
        bound = torch.minimum(bound, self.how.accuracy / self._growth(flow.state))
        pace = bound.to(torch.float64).nan_to_num(nan=0.0, posinf=math.inf)
        left = until - flow.clock
        landing = pace >= left
        step = torch.where(landing, left, pace)
        state = flow.state + step.to(flow.state.dtype)[:, None] * flow.velocity
        velocity, loss = field(flow.clock, state)
        sound = torch.isfinite(loss) & torch.isfinite(velocity).all(1) & (step > 0)
        good = moving & sound
        row = good[:, None]
        return Flow(
            torch.where(good, torch.where(landing, until, flow.clock + step), flow.clock),
            torch.where(row, state, flow.state),
            torch.where(row, velocity, flow.velocity),
            torch.where(good, loss, flow.loss),
            pace,
            flow.running & ~(moving & ~sound),
            flow.failed | (moving & ~sound),
            flow.steps + good,
            flow.tried + moving,
        )

    def _refresh(self, state: Tensor, moving: Tensor, iterations: int) -> None:
        parameters = self.flat.unpack(state)
        axes = (0, 0, 0, *self.task.axes)
        for _ in range(iterations):
            size = self.direction.norm(dim=1, keepdim=True)
            unit = self.direction / size.clamp(min=torch.finfo(state.dtype).tiny)
            product = vmap(self._product, in_dims=axes)(
                parameters,
                self.flat.unpack(unit),
                self.task.constants,
                self.task.inputs,
                self.task.targets,
            )
            found = self.flat.pack(product)
            size = torch.linalg.vector_norm(found, dim=1)
            self.curvature = torch.where(moving, size, self.curvature)
            # A product of zero (weights at zero) keeps the direction for a later try.
            kept = (moving & (size > 0))[:, None]
            self.direction = torch.where(kept, found, self.direction)

    def _product(
        self,
        parameters: Stacked,
        direction: Stacked,
        constants: Stacked,
        inputs: Tensor,
        targets: Tensor,
    ) -> Stacked:
        """Return the Gauss-Newton matrix of one member times a direction."""

        def outputs_of(own: Stacked) -> Tensor:
            return self.task.forward({**own, **constants}, inputs)

        pair = vjp(outputs_of, parameters)
        outputs, back = pair[0], pair[1]
        along = jvp(outputs_of, (parameters,), (direction,))[1]
        pull = grad(self.task.loss)
        bent = jvp(lambda f: pull(f, targets), (outputs,), (along,))[1]
        product: Stacked = back(bent)[0]
        return product

    def _growth(self, state: Tensor) -> Tensor:
        def rate(
            parameters: Stacked, constants: Stacked, inputs: Tensor, targets: Tensor
        ) -> Tensor:
            outputs = self.task.forward({**parameters, **constants}, inputs)
            pull = grad(self.task.loss)(outputs, targets).reshape(len(inputs), -1)
            columns = inputs.to(pull.dtype).reshape(len(inputs), -1)
            constant = pull.sum(0).abs().amax()
            return torch.maximum((columns.T @ pull).abs().amax(), constant)

        task = self.task
        parameters = self.flat.unpack(state)
        batched = vmap(rate, in_dims=(0, 0, *task.axes))
        found: Tensor = batched(parameters, task.constants, task.inputs, task.targets)
        return found
