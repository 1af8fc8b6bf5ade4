"""What flows of an ensemble share: flat parameters, and the run from one time to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from whynet.training.ensemble_result import EnsembleResult, Recorder, endings
from whynet.training.ensemble_task import Task
from whynet.training.optimizers import Stacked
from whynet.training.runge_kutta import Flow, stopped
from whynet.training.stopping import Below, reached


class Flattened:
    """Stacked parameters as one table `[members, size]`; a single member is held twice.

    Args:
        parameters: stacked start.

    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.shapes = {name: value.shape[1:] for name, value in parameters.items()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.members = len(next(iter(parameters.values())))
        copies = max(2, self.members)
        whole = torch.cat([value.reshape(len(value), -1) for value in parameters.values()], 1)
        self.start = whole.expand(copies, -1).clone() if self.members == 1 else whole
        self.dtype = whole.dtype

    def unpack(self, table: Tensor) -> Stacked:
        """Return the parameters of a table by name."""
        parts = torch.split(table, self.sizes, 1)
        shapes = self.shapes.items()
        return {
            name: part.reshape(len(table), *shape)
            for part, (name, shape) in zip(parts, shapes, strict=True)
        }

    def pack(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return parameters as a table."""
        return torch.cat(
            [parameters[name].reshape(len(parameters[name]), -1) for name in self.shapes], 1
        )

    def real(self, table: Tensor) -> Stacked:
        """Return the parameters of the members there are, without the second copy."""
        return self.unpack(table[: self.members])

    def task(self, task: Task) -> Task:
        """Return the task of the table's rows."""
        return task if self.members > 1 else task.twice


Advance = Callable[[Flow, float], Flow]
"""`advance(flow, until)` tries one step of those members that have not arrived."""


@dataclass(frozen=True)
class FlowRun:
    """How a flow is advanced.

    Attributes:
        make: gives the advance of some rows of the table (numbers in ascending order), or of all
            for None.
        task: of the members, for losses and gradients.
        flat: their parameters as a table.
        limit: most steps tried by a member.
        compact: whether members that have stopped may be left out of the computation.

    """

    make: Callable[[Tensor | None], Advance]
    task: Task
    flat: Flattened
    limit: int
    compact: bool = True


class _Moving:
    """The flow of all members, of which only those are computed that still run."""

    def __init__(self, run: FlowRun, flow: Flow) -> None:
        self.run, self.whole, self.part = run, flow, flow
        self.rows = torch.arange(len(flow.state), device=flow.state.device)
        self.advance = run.make(None)

    def everyone(self) -> Flow:
        """Return the flow of all members as it is now."""
        if len(self.part.state) < len(self.whole.state):
            self.whole = _each(
                lambda old, new: old.index_copy(0, self.rows, new), self.whole, self.part
            )
            return self.whole
        return self.part

    def stop(self, members: Tensor) -> None:
        """Let members stand still from now on."""
        self.part = stopped(self.part, members[self.rows])

    def gather(self) -> None:
        """Leave out those that stand still, where they are half of all that are computed."""
        running = self.part.running.nonzero().flatten()
        if not self.run.compact or len(running) > len(self.rows) // 2 or len(self.rows) <= 2:
            return
        if len(running) == 1:  # one alone is computed as two, see the ensemble
            running = running.expand(2)
        if len(running) == 0:
            return
        self.whole = self.everyone()
        self.rows = self.rows[running]
        self.part = _each(lambda old, _: old[running], self.part, self.part)
        self.advance = self.run.make(self.rows)


def _each(change: Callable[[Tensor, Tensor], Tensor], old: Flow, new: Flow) -> Flow:
    values = {f.name: change(getattr(old, f.name), getattr(new, f.name)) for f in fields(Flow)}
    return Flow(**values)


def run_flow(
    run: FlowRun,
    flow: Flow,
    clocks: Sequence[float],
    times: Sequence[float],
    stop: Below | None,
    recorder: Recorder,
) -> EnsembleResult:
    """Follow a flow through all clocks and record at each.

    Args:
        run: how.
        flow: the start.
        clocks: what the integrator's clock shows at each of `times`.
        times: when to record.
        stop: criterion of a member.
        recorder: collects the observables.

    """
    flat, like = run.flat, flow.loss
    thresholds = None
    if stop is not None:
        members = stop.thresholds(next(iter(flat.real(flow.state).values())))
        thresholds = members.expand(len(like)) if flat.members == 1 else members
    on_loss = stop is not None and stop.quantity == "loss"
    converged = torch.zeros_like(flow.running)
    moving = _Moving(run, flow)
    for clock, _ in zip(clocks, times, strict=True):
        while True:
            now = moving.part
            if on_loss and stop is not None and thresholds is not None:
                met = now.running & reached(stop, now.loss, thresholds[moving.rows])
                converged = converged.index_fill(0, moving.rows[met], value=True)
                moving.part = now = stopped(now, met)
            if not bool((now.running & (now.clock < clock)).any()):
                break
            moving.gather()
            now = moving.advance(moving.part, clock)
            moving.part = stopped(now, (now.tried >= run.limit) & (now.clock < clocks[-1]))
        whole = moving.everyone()
        parameters = flat.real(whole.state)
        recorder.add(clock, parameters, run.task.losses(parameters))
        if stop is not None and thresholds is not None and not on_loss:
            quantity = _quantity(run, stop, parameters, recorder)
            met = whole.running & reached(stop, quantity, thresholds)
            converged = converged | met
            moving.stop(met)
    return _result(run, moving.everyone(), converged, stop, times, recorder)


def _quantity(run: FlowRun, stop: Below, parameters: Stacked, recorder: Recorder) -> Tensor:
    if stop.quantity == "gradient":
        gradients, _ = run.task.gradients(parameters)
        values: Tensor = torch.linalg.vector_norm(run.flat.pack(gradients), dim=1)
    else:
        values = recorder.observe(stop.quantity, parameters).to(run.flat.dtype)
    return values.expand(2) if run.flat.members == 1 else values


def _result(
    run: FlowRun,
    flow: Flow,
    converged: Tensor,
    stop: Below | None,
    times: Sequence[float],
    recorder: Recorder,
) -> EnsembleResult:
    flat, members = run.flat, run.flat.members
    parameters = flat.real(flow.state)
    ends = endings(converged[:members], flow.failed[:members], stop is not None)
    left = (~flow.running & ~converged & ~flow.failed)[:members].tolist()
    return EnsembleResult(
        parameters,
        run.task.losses(parameters),
        flow.steps[:members],
        tuple("out of steps" if out else end for out, end in zip(left, ends, strict=True)),
        recorder.dataset(times),
        flow.clock[:members],
    )
