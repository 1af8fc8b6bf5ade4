"""Running a claim's field test on one subject: theory, broken theory and other seeds, compared.

The theory's prediction, the same with one ingredient broken, and what simpler explanations and
other seeds say are held against what the network does, item by item. It has the three functions
of an instrument, so that an examination schedules it as one: a round trains one further seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from whynet.concepts.measuring import begin
from whynet.concepts.registry import field_tests, instrument_of, load_field_test
from whynet.core.estimate import Estimate
from whynet.core.field_test import AssumptionFails, Check, FieldModule, FieldTest
from whynet.core.instrument import InstrumentModule
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.preservation import preserved
from whynet.models.retraining import Diverged, Variation
from whynet.models.subject import Subject
from whynet.numerics import intervals

Array = NDArray[Any]

THEORY, CONTROL, CONSTANT, SEED = "theory", "control", "a constant", "seed "
"""Names of the predictions; another seed's is `seed 1`, `seed 2`, …"""


@dataclass(frozen=True)
class State:
    """A field test under way.

    Attributes:
        module: its file.
        subject: the network.
        seed: of all draws.
        checks: its assumptions, none of which fails.
        measured: what the network does, `[items]` labels or `[items, values]`.
        said: name to what the theory, its control and simpler explanations say.
        seeds: name to what other seeds say.
        rounds: how many other seeds were tried.
        notes: sentences on seeds that could not be had.

    """

    module: FieldModule
    subject: Subject
    seed: int
    checks: tuple[Check, ...]
    measured: Array
    said: Mapping[str, Array]
    seeds: Mapping[str, Array]
    rounds: int = 0
    notes: tuple[str, ...] = ()


def start(module: FieldModule, subject: Subject, seed: int) -> State | NotApplicable:
    """Check the assumptions, and compute what theory and control say before anything is compared.

    Returns:
        The state, or `AssumptionFails` that names the assumption and what was measured.

    """
    about = module.FIELD_TEST
    checks = module.check_on(subject, seed)
    if isinstance(checks, NotApplicable):
        return checks
    failing = next((check for check in checks if check.status == "not met"), None)
    if failing is not None:
        return AssumptionFails(
            f"This does not apply: the theory assumes {about.assumptions[failing.key]} "
            f"({failing.key}), and that fails here: {failing.found}",
            checks,
        )
    theory = module.predict_on(subject, seed)
    control = module.predict_on(subject, seed, broken=True)
    rivals = module.rivals_on(subject, seed)
    measured = module.measure_on(subject, seed)
    said = {THEORY: theory, CONTROL: control, CONSTANT: _constant(measured), **rivals}
    return State(module, subject, seed, checks, measured, said, {})


def advance(state: State) -> State:
    """Train one further seed where that is possible, and keep what it says."""
    state = replace(state, rounds=state.rounds + 1)
    subject = state.subject
    if subject.trainer is None or subject.train is None:
        return state
    name = f"{SEED}{state.rounds}"
    try:
        other = subject.retrained(Variation(seed=state.rounds))
    except Diverged:
        return replace(state, notes=(*state.notes, f"Training diverged from {name}."))
    if _equal(subject, other):
        note = f"Training from {name} gives this very network, which is no reference."
        return replace(state, notes=(*state.notes, note))
    found = state.module.another_on(subject, other, state.seed)
    if not np.isfinite(found).all():
        return replace(state, notes=(*state.notes, f"Outputs are not finite from {name}."))
    return replace(state, seeds={**state.seeds, name: found})


def _equal(subject: Subject, other: Subject) -> bool:
    """Whether two networks have the same weights."""
    one, two = subject.parameters, other.parameters
    return all(torch.equal(value, two[name].to(value)) for name, value in one.items())


def read(state: State) -> Measurement:
    """Return all distances from what the network does, and who is nearer than whom, paired.

    `distance`: of each prediction. `lead`: distance of a reference (another seed, a constant, a
    simpler explanation) minus that of theory or control, item by item. `control_behind`: distance
    of the control minus that of the theory.
    """
    about = state.module.FIELD_TEST
    said = {**state.said, **state.seeds}
    apart = {
        name: distances(own, state.measured, state.subject.dtype) for name, own in said.items()
    }
    references = [name for name in said if name not in (THEORY, CONTROL)]
    leads = [
        [_paired(apart[other], apart[own], about.items) for other in references]
        for own in (THEORY, CONTROL)
    ]
    behind = _paired(apart[CONTROL], apart[THEORY], about.items)
    means = [_mean(own, about.items) for own in apart.values()]
    return Measurement.of(
        {
            "distance": Quantity.stacked(means, "prediction"),
            "lead": _table(leads),
            "control_behind": Quantity.from_estimate(behind),
            "items": Quantity(len(state.measured), unit="count", how=about.items),
        },
        coords={
            "prediction": list(apart),
            "of": [THEORY, CONTROL],
            "reference": references,
        },
        cites=about.cites,
        notes=(*map(checked, state.checks), *state.notes),
    )


def _table(estimates: list[list[Estimate]]) -> Quantity:
    rows = [Quantity.stacked(row, "reference") for row in estimates]
    return replace(
        max(rows, key=lambda row: ("exact", "certified", "interval", "indicative").index(row.kind)),
        value=np.array([row.value for row in rows]),
        low=np.array([row.low for row in rows]),
        high=np.array([row.high for row in rows]),
        dims=("of", "reference"),
    )


def distances(one: Array, measured: Array, dtype: torch.dtype = torch.float64) -> Array:
    """Return how far a prediction is from what was measured, item by item.

    Args:
        one: `[items]` labels, or `[items, values]`.
        measured: the same.
        dtype: precision the network computes in; differences that are round-off of it are zero.

    Returns:
        For labels booleans, true where they differ. For values the length of the difference over
        the mean length of what was measured less its mean, so that the mean distance of that
        constant is 1. Lengths and not squares, of which a few items would be all.

    """
    if measured.ndim == 1:
        return np.asarray(one != measured)
    spread = float(np.linalg.norm(measured - measured.mean(0), axis=1).mean())
    size = float(np.sqrt((measured**2).sum(1).mean()))
    apart = np.linalg.norm(one - measured, axis=1)
    floor = ROUND_OFF * torch.finfo(dtype).eps * size
    return np.asarray(np.where(apart <= floor, 0.0, apart) / max(spread, floor, 1e-300))


ROUND_OFF: Final = 64.0
"""Units of round-off, relative to the size of what was measured, that are no difference."""


def _constant(measured: Array) -> Array:
    """Return the best prediction that is the same for all items."""
    if measured.ndim == 1:
        names, counts = np.unique(measured, return_counts=True)
        return np.full_like(measured, names[counts.argmax()])
    return np.broadcast_to(measured.mean(0), measured.shape)


def _mean(apart: Array, over: str) -> Estimate:
    if apart.dtype == np.bool_:
        how = "share with another label, Clopper-Pearson"
        return intervals.proportion(int(apart.sum()), len(apart), how=how, over=over)
    how = "mean distance over the mean deviation of what was measured, Student t"
    return intervals.mean_t(apart, how=how, over=over)


def _paired(far: Array, near: Array, over: str) -> Estimate:
    """Return by how much the first is farther, paired over items."""
    if far.dtype == np.bool_:
        return intervals.paired_difference_of_proportions(far, near, over=over)
    return intervals.paired_difference(far, near, over=over)


# ---- assumptions, as notes of a measurement ---------------------------------------------


def checked(check: Check) -> str:
    """Write a check as a note."""
    return f"Assumption {check.key}, {check.status}: {check.found}"


def checks_in(measured: Measurement) -> tuple[Check, ...]:
    """Read the checks back from the notes of a field test's measurement."""
    found = []
    for note in measured.notes:
        head, _, text = note.partition(": ")
        key, _, status = head.removeprefix("Assumption ").partition(", ")
        if head.startswith("Assumption ") and status in ("met", "not met", "cannot be checked"):
            found.append(Check(key, cast(Any, status), text))
    return tuple(found)


# ---- as an instrument -------------------------------------------------------------------


def as_instrument(module: FieldModule) -> InstrumentModule:
    """Return a field test in the form of an instrument, so that it is scheduled like one."""
    return cast(
        InstrumentModule,
        SimpleNamespace(
            INSTRUMENT=instrument_of(module.FIELD_TEST),
            start=lambda subject, seed: start(module, subject, seed),
            advance=advance,
            read=read,
        ),
    )


def run_field_test(
    module: FieldModule | str, subject: Subject, *, seeds: int = 3, seed: int = 0
) -> Measurement | NotApplicable:
    """Run a field test on a subject.

    Args:
        module: its file, or the id of its claim.
        subject: the network with its loss and data.
        seeds: other seeds to train for reference, where a training function is known.
        seed: what all draws derive from.

    Returns:
        The measurement, or why the theory does not apply (`AssumptionFails` where one of its
        assumptions was found not to hold).

    """
    held = load_field_test(module) if isinstance(module, str) else module
    with preserved():
        state = begin(as_instrument(held), subject, seed)
        if isinstance(state, NotApplicable):
            return state
        for _ in range(max(1, seeds) if seeds else 0):
            state = advance(cast(State, state))
        return read(cast(State, state))


def about(name: str) -> FieldTest:
    """Return the metadata of a claim's field test."""
    return field_tests()[name].metadata
