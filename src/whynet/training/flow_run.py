"""What flows of an ensemble share: flat parameters, and the run from one time to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class FlowRun:
    """How a flow is advanced.

    Attributes:
        advance: `advance(flow, until)` tries one step of those that have not arrived.
        task: of the members, for losses and gradients.
        flat: their parameters as a table.
        limit: most steps tried by a member.

    """

    advance: Callable[[Flow, float], Flow]
    task: Task
    flat: Flattened
    limit: int


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
    converged = torch.zeros_like(flow.running)
    for clock, _ in zip(clocks, times, strict=True):
        while True:
            if stop is not None and thresholds is not None and stop.quantity == "loss":
                met = flow.running & reached(stop, flow.loss, thresholds)
                converged, flow = converged | met, stopped(flow, met)
            if not bool((flow.running & (flow.clock < clock)).any()):
                break
            flow = run.advance(flow, clock)
            flow = stopped(flow, (flow.tried >= run.limit) & (flow.clock < clocks[-1]))
        parameters = flat.real(flow.state)
        recorder.add(clock, parameters, run.task.losses(parameters))
        if stop is not None and thresholds is not None and stop.quantity != "loss":
            met = flow.running & reached(
                stop, _quantity(run, stop, parameters, recorder), thresholds
            )
            converged, flow = converged | met, stopped(flow, met)
    return _result(run, flow, converged, stop, times, recorder)


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
