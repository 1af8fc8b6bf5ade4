"""Recording a training run from inside any loop, on a budget, without disturbing it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from whynet.core.errors import InputError
from whynet.core.estimate import KINDS, Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.plan import Plan, choose_plan
from whynet.derivatives.subject_objective import training_objective_from
from whynet.models.batch_norm import batch_normalized
from whynet.models.data.examples import Examples
from whynet.models.features import bounded
from whynet.models.preservation import preserved
from whynet.models.subject import Subject
from whynet.models.trajectory import Trajectory
from whynet.models.trajectory_pictures import chosen, thinned
from whynet.numerics.plane_pictures import PlanePicture
from whynet.training.recorded import (
    MEASURED,
    Fixed,
    Now,
    Values,
    exact,
    measurable,
    measured,
    over_rows,
    row_losses,
    start_kernel,
    vector_seed,
)
from whynet.training.stability import Stability, stability_of

ROWS: Final = 256
GROWTH, DENSE = 2**0.5, 1.1
"""Least ratio of one step to be measured to the one before, where none are named: without a bound
on the time, and with one."""

TRIES: Final = 3
"""Steps at which a way to second derivatives is looked for."""

CITES: Final = ("mccandlish2018", "cohen2021", "cohen2022", "kornblith2019", "hanin2019")

NOTES: Final = (
    "Measured with dropout off and, where there is batch normalization, with the statistics of "
    "the recorded rows; augmentation of the training data is not repeated.",
)


@dataclass(frozen=True)
class _Point:
    """What was found at a step, and the loss of every row."""

    values: Values
    losses: np.ndarray | None


class Recorder:
    """Records a training run: make it before the first step, and call it after each one.

        recorder = whynet.Recorder(model, train=(X, y), loss="cross_entropy", batch_size=64)
        for step in range(1, 1001):
            ...
            optimizer.step()
            recorder(step, {"loss": loss, "optimizer": optimizer})
        recorder.trajectory().save("run.json")

    Training is not disturbed: everything is measured on a copy, and random states, flags,
    gradients, running statistics and the optimizer's state are as they were. The network as it is
    when the recorder is made counts as step 0; the last step is measured when the trajectory is
    asked for. A quantity that cannot be measured is NaN, with its reason.

    Args:
        model: the network that is trained, on the device where it is trained.
        train: training data, in any form that `whynet.Subject` takes.
        loss: the loss, likewise.
        optimizer: the optimizer, where the loop does not pass it on.
        steps: steps to measure at (or at the first call after), whatever it takes; the record is
            then the same on every run.
        every: measure at each step that is a multiple of this.
        share: largest share of the time since construction that measuring may take: a step
            that comes too early waits (or is left out, with `every`). None for no bound. The
            first and the last step are always measured. Ignored where `steps` are given.
        rows: training rows that everything is measured on, drawn once.
        quantities: what to measure, of `loss`, `norms`, `noise`, `sharpness`, `trace`, `kernel`,
            `rank`, `pieces`.
        batch_size: rows of a training step, to hold the noise scale against.
        output: which entry of a dict or tuple output is examined.
        dtype: precision to measure in; that of the network by default.
        seed: of the rows and of random vectors.

    Where neither `steps` nor `every` are given, steps are measured as densely as `share` allows,
    but at least 10 % apart; without a bound √2 apart by ratio.
    A scalar in the mapping beside `loss`, `optimizer` and `batch_size` is recorded as it is.

    Cost of a step that is measured: about 75 gradients of the rows for the sharpness (twice that
    for Adam), 60 for the trace, 3 for the rest, and one copy of the network.

    Raises:
        InputError: network, data and loss do not fit, or an argument is out of its range.

    """

    def __init__(
        self,
        model: nn.Module,
        *,
        train: Any,
        loss: Any = "cross_entropy",
        optimizer: Any = None,
        steps: Sequence[int] | None = None,
        every: int | None = None,
        share: float | None = 0.2,
        rows: int = ROWS,
        quantities: Sequence[str] = tuple(MEASURED),
        batch_size: int | None = None,
        output: str | int | None = None,
        dtype: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        self._started, self.seconds, self._cost = time.monotonic(), 0.0, 0.0
        if not isinstance(model, nn.Module):
            raise InputError("model", f"a {type(model).__name__}", "the network that is trained")
        self._schedule = _Schedule.of(steps, every, share)
        self._wanted = _checked(quantities)
        self._batch_size = None if batch_size is None else _whole("batch_size", batch_size, 1)
        self._model, self._optimizer = model, optimizer
        self._plan: Plan | NotApplicable = NotApplicable("Not looked for yet.")
        self._tries = 0
        self._points, self._pictures = dict[int, _Point](), dict[int, PlanePicture]()
        self._last, self._logged = 0, dict[str, Any]()
        with self._apart():
            data = Examples.from_any(train, "train")
            chosen = bounded(data, _whole("rows", rows, 8), "recorder", seed)
            device = next((p.device for p in model.parameters()), torch.device("cpu"))
            subject = Subject(
                model, train=chosen, loss=loss, output=output, device=device,
                dtype=dtype, batch_size=chosen.count,
            )  # fmt: skip
            if not subject.parameters:
                raise InputError("model", "no trainable parameter", "a network to train")
            order = np.random.default_rng(seed_from("recorder", seed, "order"))
            self._fixed = _fixed(subject, data.count, order, self._wanted, vector_seed(seed))
        self._measure(0)

    def __call__(self, step: int, values: Mapping[str, Any] | None = None) -> None:
        """Note a step that was taken, and measure if it is time to.

        Args:
            step: its number, from 1, rising.
            values: `loss`, `optimizer`, `batch_size`, and any other scalars to record.

        Raises:
            InputError: the step's number does not rise.

        """
        step = _whole("step", step, 0)
        if step < self._last or step in self._points:
            if step == 0:
                return
            raise InputError("step", f"{step} after {self._last}", "numbers that rise")
        self._last, self._logged = step, dict(values or {})
        self._optimizer = self._logged.pop("optimizer", self._optimizer)
        self._batch_size = self._logged.pop("batch_size", self._batch_size)
        elapsed = time.monotonic() - self._started
        if self._schedule.due(step, max(self._points), self.seconds, self._cost, elapsed):
            self._measure(step)

    def trajectory(self) -> Trajectory:
        """Return what was recorded so far; the last step is measured if it is not yet.

        Call it when the weights are those after the last step.
        """
        if self._last not in self._points:
            self._measure(self._last)
        steps = sorted(self._points)
        changes = _loss_changes({s: self._points[s].losses for s in steps}, self._fixed.population)
        columns: dict[int, Values] = {
            s: {**self._points[s].values, "loss_change": changes[s]} for s in steps
        }
        names = dict.fromkeys(name for s in steps for name in columns[s])
        absent = "It was not logged at this step."
        quantities = {
            name: _over_steps([columns[s].get(name, absent) for s in steps]) for name in names
        }
        check = ""
        if isinstance(self._plan, Plan):
            check = (
                "One random direction against float64 differences: the Hessian product misses by "
                f"{self._plan.check:.1e}."
            )
        coords = {"step": np.array(steps, dtype=np.int64)}
        found = Measurement.of(quantities, coords, CITES, self._notes(), check)
        return Trajectory(found.dataset, chosen(self._pictures))

    def _notes(self) -> tuple[str, ...]:
        fixed, notes = self._fixed, list(NOTES)
        stability = stability_of(self._optimizer, self._parameters())
        if isinstance(stability, Stability):
            notes.append(f"Steps are taken by {stability.rule}.")
        rows = f"{len(fixed.order):,} of {fixed.population:,} training rows"
        notes.append(f"Everything is measured on {rows}, drawn once.")
        if batch_normalized(fixed.subject.module):
            notes.append(
                "Batch normalization couples the rows of a batch; the noise scale is that of "
                "batches as small as its groups."
            )
        return tuple(notes)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Compute without a trace, whatever the loop has switched on; count the time."""
        started = time.monotonic()
        kind = next((p.device.type for p in self._model.parameters()), "cpu")
        try:
            with (
                preserved(),
                torch.inference_mode(False),
                torch.autocast(kind, enabled=False),
                torch.enable_grad(),
            ):
                yield
        finally:
            self.seconds += time.monotonic() - started

    def _parameters(self) -> dict[str, torch.Tensor]:
        named = getattr(self._model, "_orig_mod", self._model).named_parameters()
        return {
            name: parameter
            for name, parameter in named
            if name in self._fixed.subject.parameters
        }  # fmt: skip

    def _measure(self, step: int) -> None:
        values = _logged(self._logged, self._batch_size)
        losses, spent = None, self.seconds
        with self._apart():
            try:
                subject = self._fixed.subject.replaced(self._model)
            except InputError as error:
                reason = f"The network cannot be measured: found {error.found}."
                values.update(dict.fromkeys(_names(self._wanted), reason))
                self._points[step] = _Point(values, None)
                return
            now = self._now(subject)
            found, picture = measured(now, self._wanted)
            values |= found
            if picture is not None:
                self._pictures = thinned({**self._pictures, step: picture})
            if "loss" in self._wanted and isinstance(values["loss"], Estimate):
                losses = row_losses(now)[0]
        self._cost = self.seconds - spent
        self._points[step] = _Point(values, losses)

    def _now(self, subject: Subject) -> Now:
        objective = training_objective_from(subject)
        look = {"sharpness", "trace"} & {*self._wanted} and isinstance(self._plan, NotApplicable)
        if look and self._tries < TRIES:
            self._tries += 1
            self._plan = choose_plan(objective, self._fixed.seed)
        stability = stability_of(self._optimizer, self._parameters())
        return Now(self._fixed, subject, objective, self._plan, stability)


@dataclass(frozen=True)
class _Schedule:
    """When to measure."""

    steps: frozenset[int] | None
    every: int | None
    share: float | None

    @classmethod
    def of(cls, steps: Sequence[int] | None, every: int | None, share: float | None) -> _Schedule:
        if steps is not None and every is not None:
            raise InputError("every", "both steps and every", "one of the two")
        if share is not None and not (isinstance(share, float | int) and 0 < share <= 1):
            raise InputError("share", repr(share), "a share of the time, above 0 and at most 1")
        named = None if steps is None else frozenset(_whole("steps", s, 0) for s in steps)
        return cls(named, None if every is None else _whole("every", every, 1), share)

    def due(self, step: int, last: int, spent: float, cost: float, elapsed: float) -> bool:
        """Whether to measure now; `spent` seconds went so far, `cost` into the last step."""
        if self.steps is not None:
            return any(last < named <= step for named in self.steps)
        growth = GROWTH if self.share is None else DENSE
        wanted = step % self.every == 0 if self.every else step >= max(last + 1, last * growth)
        if not wanted or self.share is None:
            return wanted
        return spent + cost <= self.share * (elapsed + cost)


def _fixed(
    subject: Subject,
    population: int,
    order: np.random.Generator,
    wanted: tuple[str, ...],
    seed: int,
) -> Fixed:
    places = order.permutation(subject.examples("train").count)
    kernel: Any = "It was not asked for."
    if "kernel" in wanted:
        try:
            kernel = start_kernel(measurable(subject), places)
        except Exception as error:  # noqa: BLE001 - the network is foreign code
            kernel = f"The kernel at the start failed ({type(error).__name__})."
    return Fixed(subject, population, places, kernel, seed)


def _checked(quantities: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in quantities if name not in MEASURED]
    if unknown or isinstance(quantities, str) or not quantities:
        found = repr(quantities if isinstance(quantities, str) or not unknown else unknown[0])
        raise InputError("quantities", found, f"some of {', '.join(MEASURED)}")
    return tuple(name for name in MEASURED if name in quantities)


def _names(wanted: tuple[str, ...]) -> list[str]:
    return [name for group in wanted for name in MEASURED[group]]


def _whole(argument: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(argument, repr(value), f"a whole number of at least {least}")
    return int(value)


def _logged(values: Mapping[str, Any], batch_size: Any) -> Values:
    """Turn what the loop logged to numbers; `loss` becomes `logged_loss`."""
    found: Values = {}
    if batch_size is not None:
        found["batch_size"] = _scalar("batch_size", batch_size, "rows of a training step")
    own = {*_names(tuple(MEASURED)), "loss_change", "step"}
    for name, value in values.items():
        key = f"logged_{name}" if name in own or name.endswith(("_low", "_high")) else str(name)
        found[key] = _scalar(key, value, "as the training loop logged it")
    return found


def _scalar(name: str, value: Any, how: str) -> Estimate | str:
    try:
        number = float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        return "What was logged is no number."
    if not math.isfinite(number):
        return "What was logged is not finite."
    return exact(number, how, "examples" if name == "batch_size" else "")


def _over_steps(entries: Sequence[Estimate | str]) -> Quantity:
    """Join a quantity's entries; the weakest kind speaks for all of them."""
    found = [entry for entry in entries if isinstance(entry, Estimate)]
    reasons = list(dict.fromkeys(entry for entry in entries if isinstance(entry, str)))
    rows = [
        (math.nan,) * 3 if isinstance(e, str) else (e.value, e.low, e.high) for e in entries
    ]  # fmt: skip
    value, low, high = np.array(rows, dtype=float).T
    if not found:
        return Quantity(value, low, high, dims=("step",), missing=" ".join(reasons[:3]))
    first = max(found, key=lambda entry: KINDS.index(entry.kind))
    return Quantity(
        value,
        low,
        high,
        dims=("step",),
        unit=first.unit,
        kind=first.kind,
        level=first.level,
        how=first.how,
        over=first.over,
        missing=" ".join(reasons[:3]),
    )


def _loss_changes(
    losses: Mapping[int, np.ndarray | None], population: int
) -> dict[int, Estimate | str]:
    """Compare each step with the last one recorded in the first half of its steps, row by row."""
    found: dict[int, Estimate | str] = {}
    how = "mean over rows of the loss now minus that at the last recorded step up to half as many"
    for step, here in losses.items():
        earlier = [s for s in losses if s <= step / 2 and s < step]
        before = losses[max(earlier)] if earlier else None
        if here is None or before is None:
            found[step] = "There is no earlier step with a loss."
        else:
            found[step] = over_rows(here - before, population, how)
    return found
