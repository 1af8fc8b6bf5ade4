"""What was recorded while the network was trained, or while it is trained once more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.retraining import Diverged, Log, Variation
from whynet.models.subject import Subject
from whynet.models.trajectory import Trajectory
from whynet.models.trajectory_pictures import quantities
from whynet.training.recorded import MEASURED
from whynet.training.recorder import Recorder

INSTRUMENT = Instrument(
    title="loss, gradient noise, sharpness, kernel, rank and pieces in the course of training",
    unit="",
    needs=("train-data", "trajectory"),
    cost="nothing where a record is given; else one training run and about 12 points, "
    "0.1 to 2 s each for small networks",
    cites=("mccandlish2018", "cohen2021", "cohen2022", "kornblith2019", "hanin2019"),
    closed_form="linear-training",
    draws=True,
)

KNOWN = (*(name for names in MEASURED.values() for name in names), "loss_change", "batch_size")
"""Quantities that are read off a record; what else a loop logged stays in its file."""

POINTS = tuple(2**power for power in range(40))
"""Steps that are measured beside the first and the last, whose number need not be known."""

SAME = 1e-3
"""Relative difference of weight norms above which these are not the recorded weights."""


@dataclass(frozen=True)
class State:
    """The subject, and the record once there is one."""

    subject: Subject
    seed: int
    record: Trajectory | None
    notes: tuple[str, ...] = ()


class _Recording:
    """Hands a recorder to the training loop, and keeps it when training fails."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.seed = subject, seed
        self.recorder: Recorder | None = None

    def __call__(self, module: nn.Module) -> Log:
        subject = self.subject
        self.recorder = Recorder(
            module,
            train=subject.examples("train"),
            loss=subject.loss,
            output=subject.output,
            dtype=subject.dtype,
            steps=POINTS,
            seed=self.seed,
        )
        return self._log

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        assert self.recorder is not None
        known = ("optimizer", "batch_size")
        self.recorder(step, {name: values[name] for name in known if name in values})


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Take the record that was given, if it holds anything known."""
    record = subject.trajectory
    if record is None:
        return State(subject, seed, None)
    if not set(record.names) & set(KNOWN):
        return NotApplicable(
            "This does not apply: the record of training holds none of the quantities that a "
            "Recorder measures."
        )
    return State(subject, seed, record, _belongs(subject, record))


def _belongs(subject: Subject, record: Trajectory) -> tuple[str, ...]:
    """Say so where the record ends at other weights than those examined."""
    if "weight_norm" not in record.names:
        return ()
    here = float(sum(float((p.double() ** 2).sum()) for p in subject.parameters.values()) ** 0.5)
    there = record.estimate("weight_norm").value
    if np.isfinite(there) and abs(here - there) > SAME * max(here, there):
        return (
            f"The record ends at weights of norm {there:.4g}, and those examined have {here:.4g}: "
            "it is that of another network, or of another moment.",
        )
    return ()


def advance(state: State) -> State:
    """Train the network once more where no record was given."""
    if state.record is not None:
        return state
    recording = _Recording(state.subject, state.seed)
    notes = ["The run that is recorded was made for this report, with seed 0."]
    try:
        state.subject.retrained(Variation(seed=0), log=recording)
    except Diverged as error:
        if recording.recorder is None:
            raise
        notes.append(f"That run diverged: found {error.found}.")
    assert recording.recorder is not None
    record = recording.recorder.trajectory()
    return replace(state, record=record, notes=(*notes, *_belongs(state.subject, record)))


def read(state: State) -> Measurement:
    """Return the known quantities of the record, and its pictures."""
    assert state.record is not None
    dataset = state.record.dataset
    kept = [
        name + suffix
        for name in KNOWN
        if name in state.record.names
        for suffix in ("", "_low", "_high")
    ]
    attrs = {
        "cites": list(INSTRUMENT.cites),
        "notes": [*state.notes, *state.record.measurement.notes],
        "check": state.record.measurement.check,
    }
    pictures = Measurement.of(quantities(state.record.pictures)).dataset if (
        state.record.pictures) else {}  # fmt: skip
    return Measurement(dataset[kept].assign(pictures).assign_attrs(attrs))
