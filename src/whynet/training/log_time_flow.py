"""Gradient flow in logarithmic time, for losses with exponential tails, up to times of 1e300.

With the clock `τ = log(1 + t)` the flow of `L = Σ ℓ(m)` reads `dθ/dτ = (1 + t) Σ |ℓ'(m)| ∇m`.
Gradients shrink like `1/t` where all margins `m` are positive, so that the right side stays of
order one; it is computed from the margins less the smallest one, without overflow of `t` or
underflow of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.models.preservation import preserved
from whynet.training.ensemble_result import EnsembleResult, Observable, Recorder
from whynet.training.ensemble_task import Forward, Loss, Task, checked_task, count
from whynet.training.flow_run import Flattened, FlowRun, run_flow
from whynet.training.gradient_flow import GradientFlow
from whynet.training.optimizers import Stacked
from whynet.training.runge_kutta import Field, Flow, advance, begin
from whynet.training.schedule import checked_times
from whynet.training.stopping import Below

Tail = Literal["exponential", "logistic"]


def exponential_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return `Σ exp(-y f)` over labels of ±1."""
    return torch.exp(-margins(outputs, labels)).sum()


def logistic_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return `Σ log(1 + exp(-y f))` over labels of ±1."""
    return functional.softplus(-margins(outputs, labels)).sum()


LOSSES: Final[dict[str, Loss]] = {"exponential": exponential_loss, "logistic": logistic_loss}


def margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return `y f`, one number a row."""
    return labels.to(outputs.dtype) * outputs.reshape(labels.shape)


def flow_in_log_time(
    forward: Forward | nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Tensor,
    labels: Tensor,
    *,
    tail: Tail,
    times: Sequence[float],
    flow: GradientFlow | None = None,
    stop: Below | None = None,
    record: Mapping[str, Observable] | None = None,
    per_member: Sequence[str] = (),
    constants: Mapping[str, Tensor] | None = None,
    limit: int = 100_000,
) -> EnsembleResult:
    """Follow the gradient flow of a sum of exponentially tailed losses to very large times.

    Arguments as in `whynet.training.gradient_flow.flow_ensemble`, except

    Args:
        forward: one output a row, `[rows]` or `[rows, 1]`.
        parameters: stacked start; float64 for times beyond 1e7.
        inputs: data.
        labels: ±1, `[rows]` or `[members, rows]`.
        tail: `exponential`, `Σ exp(-m)`, or `logistic`, `Σ log(1 + exp(-m))`.
        times: increasing, from 0 to at most 1e300.
        flow: method, `runge-kutta` or `chebyshev`, and tolerances.
        stop: criterion.
        record: observables.
        per_member: `inputs`, `targets` (the labels), or both.
        constants: stacked entries that are not trained.
        limit: most steps tried by a member.

    Returns:
        As `flow_ensemble`; the loss may underflow to zero, the parameters do not notice.

    Raises:
        InputError: arguments that do not fit together, or labels other than ±1.

    """
    how = flow or GradientFlow()
    _check(tail, how, labels)
    task, start = checked_task(
        forward, LOSSES[tail], inputs, labels, parameters, per_member, constants
    )
    planned = checked_times(times)
    recorder = Recorder(record, count(start), "time")
    with preserved(), torch.no_grad():
        flat = Flattened(start)
        make = partial(_advance, flat.task(task), flat, how, tail)
        field = _field(flat.task(task), flat, tail)
        first = begin(field, 0.0, flat.start, how.tolerance(flat.dtype))
        clocks = torch.tensor(planned, dtype=torch.float64).log1p().tolist()
        run = FlowRun(make, task, flat, limit)
        result = run_flow(run, first, clocks, planned, stop, recorder)
    assert result.times is not None
    return replace(result, times=result.times.expm1())


def _advance(
    task: Task, flat: Flattened, how: GradientFlow, tail: Tail, rows: Tensor | None
) -> Callable[[Flow, float], Flow]:
    """Return how some rows of the table are advanced, or all."""
    field = _field(task if rows is None else task.select(rows), flat, tail)
    tolerance = how.tolerance(flat.dtype)
    return lambda now, until: advance(field, now, until, tolerance, how.step)


def _check(tail: str, how: GradientFlow, labels: Tensor) -> None:
    if tail not in get_args(Tail):
        raise InputError("tail", repr(tail), "exponential or logistic")
    if how.method not in ("runge-kutta", "chebyshev"):
        wanted = "runge-kutta or chebyshev, in logarithmic time"
        raise InputError("method", repr(how.method), wanted)
    if not bool((labels.abs() == 1).all()):
        raise InputError("labels", "labels other than ±1", "±1")


def _field(task: Task, flat: Flattened, tail: Tail) -> Field:
    def pull(
        parameters: Stacked, constants: Stacked, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        found = margins(task.forward({**parameters, **constants}, inputs), labels)
        # Logarithm of |ℓ'|: -m for the exponential, -softplus(m) for the logistic loss.
        slopes = -found if tail == "exponential" else -functional.softplus(found)
        slopes = slopes.detach()
        weights = torch.softmax(slopes, 0)
        loss = torch.exp(-found).sum() if tail == "exponential" else _log1p_sum(found)
        return (weights * found).sum(), (torch.logsumexp(slopes, 0), loss.detach())

    batched: Callable[..., tuple[Stacked, tuple[Tensor, Tensor]]] = vmap(
        grad(pull, has_aux=True), in_dims=(0, 0, *task.axes)
    )

    def field(clock: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        gradients, (strength, loss) = batched(
            flat.unpack(state), task.constants, task.inputs, task.targets
        )
        speed = torch.exp(clock + strength.to(clock.dtype)).to(state.dtype)
        return speed[:, None] * flat.pack(gradients), loss

    return field


def _log1p_sum(found: Tensor) -> Tensor:
    return functional.softplus(-found).sum()
