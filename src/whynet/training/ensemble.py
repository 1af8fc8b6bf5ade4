"""Trains many networks of equal shape in one batched computation.

The reference engine is `torch.func.vmap` of one member's gradient. Every member has its own step
size, weight decay, data, order of rows and end: it stops on its own criterion, or where its
numbers would leave the finite ones, and its numbers then stay as they are to the bit.

What a member comes to does not depend on what the other members are, as far as batched matrix
products round a matrix alike in stacks of every height from two on (checked by the tests for small
networks on the CPU). A member trained alone is computed as two copies, because products of one
matrix and of a stack of them round differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.preservation import preserved
from whynet.training.ensemble_result import EnsembleResult, Observable, Recorder, endings
from whynet.training.ensemble_step import Engine, Members, make_step
from whynet.training.ensemble_task import Forward, Loss, Task, checked_task, count, stacked
from whynet.training.minibatches import MemberOrders
from whynet.training.optimizers import Optimization, Stacked
from whynet.training.schedule import checked_steps
from whynet.training.stopping import Above, Below, reached

__all__ = ["Above", "Below", "EnsembleResult", "Optimization", "stacked", "train_ensemble"]

LOOK: Final = 64
"""Every so many steps it is looked who still moves; only there are members left out."""

EVERY: Final = 100
"""Steps between looks at a criterion that costs something, by default."""


def train_ensemble(
    forward: Forward | nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    optimization: Optimization,
    *,
    steps: int,
    stop: Below | None = None,
    record: Mapping[str, Observable] | None = None,
    schedule: Sequence[int] | None = None,
    batch: int | None = None,
    seeds: Sequence[int] | None = None,
    per_member: Sequence[str] = (),
    constants: Mapping[str, Tensor] | None = None,
    engine: Engine = "eager",
) -> EnsembleResult:
    """Train networks of equal shape; nothing global and nothing given is changed.

    Args:
        forward: `forward(parameters, inputs) -> outputs` of one member, pure; or a network,
            whose tensors `parameters` and `constants` replace (see `stacked`).
        parameters: stacked start, `[members, ...]` each; one floating dtype, one device.
        inputs: `[rows, ...]`, shared; `[members, rows, ...]` where named in `per_member`.
        targets: likewise.
        loss: `loss(outputs, targets) -> scalar` of one member.
        optimization: rule and settings; learning rate, weight decay and momentum may differ.
        steps: most steps.
        stop: when a member has done enough; by default after all steps.
        record: name to a function of the stacked parameters of all members.
        schedule: steps at which to record, those after so many steps; logarithmic by default.
        batch: rows of a step; all by default.
        seeds: of the members' orders of rows, with `batch`.
        per_member: which of `inputs` and `targets` have a first axis of members.
        constants: further stacked entries for `forward` that are not trained.
        engine: `eager`, or `compiled`: equal up to round-off, worth it from 1000 steps on.

    Raises:
        InputError: arguments that do not fit together.

    """
    task, start = checked_task(forward, loss, inputs, targets, parameters, per_member, constants)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InputError("steps", repr(steps), "a whole number of at least 0")
    planned = checked_steps(schedule, steps)
    marked, recorder = set(planned), Recorder(record, count(start), "step")
    orders = _orders(task, start, optimization, batch, seeds)
    with preserved(), torch.no_grad():
        run = _Run(task, start, optimization, stop, orders, engine, recorder)
        for step in range(steps):
            if step % LOOK == 0 and not run.gather(compact=engine == "eager"):
                break
            recording = step in marked
            run.look(step, recording)
            run.advance(step, recording)
        run.look(steps, recorder.taken < len(planned), last=True)
        return run.result(planned)


def _orders(
    task: Task,
    start: Stacked,
    optimization: Optimization,
    batch: int | None,
    seeds: Sequence[int] | None,
) -> MemberOrders | None:
    if batch is None:
        return None
    if optimization.rule == "gradient-descent":
        raise InputError("batch", str(batch), "none; gradient descent takes all rows (use sgd)")
    if seeds is None or len(seeds) != count(start):
        found = "none" if seeds is None else f"{len(seeds)} seeds"
        raise InputError("seeds", found, f"one for each of {count(start)} members")
    if not 1 <= batch <= task.rows:
        raise InputError("batch", str(batch), f"1 to {task.rows} rows")
    return MemberOrders(seeds, task.rows, batch)


class _Run:
    """An ensemble in training: all members, and those that are still computed."""

    def __init__(
        self,
        task: Task,
        start: Stacked,
        optimization: Optimization,
        stop: Below | None,
        orders: MemberOrders | None,
        engine: Engine,
        recorder: Recorder,
    ) -> None:
        like = next(iter(start.values()))
        members, device = len(like), like.device
        no = torch.zeros(members, dtype=torch.bool, device=device)
        taken = torch.zeros(members, dtype=torch.int64, device=device)
        self.task, self.optimization, self.stop = task, optimization, stop
        self.orders, self.recorder, self.like = orders, recorder, like
        self.step = make_step(task, optimization, orders is not None, engine)
        self.whole = Members(start, optimization.start(start), ~no, no, no.clone(), taken)
        self.settings = optimization.settings(start)
        infinite = torch.full_like(self.settings["learning_rate"], torch.inf)
        self.thresholds = infinite if stop is None else stop.thresholds(like)
        self.free = (-infinite, infinite)
        if stop is not None and stop.quantity not in ("loss", "gradient"):
            recorder.observe(stop.quantity, start)
        self.factors = (1.0, 1.0)
        self.corrections = (like.new_tensor(1.0), like.new_tensor(1.0))
        self.losses = torch.full_like(infinite, torch.nan)
        self._compute(torch.arange(members, device=device), self.whole)

    def _compute(self, active: Tensor, members: Members) -> None:
        """Compute these members from now on; a single one twice."""
        positions = torch.arange(len(active), device=active.device)
        if len(active) == 1:
            positions = positions.expand(2)
            members = members.select(positions)
        self.active, self.members = active[positions], members
        everyone = len(self.active) == len(self.like) and len(active) > 1
        self.part = self.task if everyone else self.task.select(self.active)
        self.own = {name: value[self.active] for name, value in self.settings.items()}
        self.bounds = self._bounds(self.thresholds[self.active])
        self.unbound = self.free[0][self.active], self.free[1][self.active]

    def _bounds(self, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        infinite = torch.full_like(thresholds, torch.inf)
        if self.stop is None:
            return -infinite, infinite
        return (-infinite, thresholds) if isinstance(self.stop, Above) else (thresholds, infinite)

    @property
    def _inside(self) -> bool:
        """Whether the criterion is seen in the step itself."""
        return self.stop is not None and self.stop.quantity == "loss" and self.orders is None

    def advance(self, step: int, recording: bool) -> None:
        """Move all members that run by one step; its losses complete a record."""
        if self.orders is None:
            inputs, targets = self.part.inputs, self.part.targets
        else:
            rows = self.orders.next()
            inputs, targets = self.part.batch(rows.expand(len(self.active), -1))
        factors = self.optimization.corrections(step + 1)
        if factors != self.factors:
            self.factors = factors
            first, second = factors
            self.corrections = (self.like.new_tensor(first), self.like.new_tensor(second))
        every = (self.stop.every or 1) if self.stop is not None else 1
        bounds = self.bounds if self._inside and step % every == 0 else self.unbound
        now = self.members
        plain = (now.parameters, now.state, now.running, now.converged, now.failed, now.steps)
        fixed = self.part.constants
        plain, losses = self.step(plain, fixed, inputs, targets, self.own, self.corrections, bounds)
        self.members = Members(*plain)
        if recording and self.orders is None:
            self.losses = self.losses.index_copy(0, self.active, losses)
            self.recorder.correct(self.losses)

    def look(self, step: int, recording: bool, *, last: bool = False) -> None:
        """Record, and stop members on a criterion that is not seen in the step itself."""
        every = 0 if self.stop is None else self.stop.every or EVERY
        looking = every > 0 and (last or (not self._inside and step % every == 0))
        if not (recording or looking):
            return
        self._write_back()
        if recording:
            if last or self.orders is not None:
                self.losses = self.task.losses(self.whole.parameters)
            self.recorder.add(step, self.whole.parameters, self.losses)
        if looking and self.stop is not None:
            met = reached(self.stop, self._quantity(self.stop.quantity), self.thresholds)
            now = self.members
            arrived = now.running & met[self.active]
            self.members = Members(
                now.parameters,
                now.state,
                now.running & ~arrived,
                now.converged | arrived,
                now.failed,
                now.steps,
            )

    def _quantity(self, name: str) -> Tensor:
        parameters = self.whole.parameters
        if name == "loss":
            return self.task.losses(parameters)
        if name == "gradient":
            gradients, _ = self.task.gradients(parameters)
            table = torch.cat([g.reshape(len(g), -1) for g in gradients.values()], 1)
            norms: Tensor = torch.linalg.vector_norm(table, dim=1)
            return norms
        return self.recorder.observe(name, parameters).to(self.like.dtype)

    def gather(self, *, compact: bool) -> bool:
        """Leave stopped members out where they are half of all; return whether any runs."""
        running = self.members.running.nonzero().flatten()
        if len(running) == 0:
            return False
        if compact and len(running) <= len(self.active) // 2 and len(self.active) > 2:
            self._write_back()
            self.losses = self.task.losses(self.whole.parameters)
            if self.orders is not None:
                self.orders.select(running.tolist())
            self._compute(self.active[running], self.members.select(running))
        return True

    def _write_back(self) -> None:
        """Write those that are computed into the table of all."""
        now, everyone = self.members, dict(self.whole.parameters)
        for name, value in now.parameters.items():
            everyone[name] = everyone[name].index_copy(0, self.active, value)
        flags: list[Any] = [
            getattr(self.whole, name).index_copy(0, self.active, getattr(now, name))
            for name in ("running", "converged", "failed", "steps")
        ]
        self.whole = Members(everyone, {}, *flags)

    def result(self, planned: Sequence[int]) -> EnsembleResult:
        """Return what there is at the end."""
        self._write_back()
        whole = self.whole
        losses = self.task.losses(whole.parameters)
        failed = whole.failed | (whole.running & ~torch.isfinite(losses))
        return EnsembleResult(
            whole.parameters,
            losses,
            whole.steps,
            endings(whole.converged, failed, self.stop is not None),
            self.recorder.dataset(planned),
        )
