"""Advice that is tried: a temperature, other step sizes, other widths, and what each changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from scipy import stats
from torch import nn

from whynet.concepts.generalization.instruments import calibration
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.retrained_scores import Scores, attempt
from whynet.models.retraining import Log, Variation
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics.crossed_means import crossed_mean

INSTRUMENT = Instrument(
    title="what a temperature, other step sizes and other widths change, tried and paired",
    unit="fraction",
    needs=("test-data",),
    cost="three seeds, each of up to five trainings; without a training function none",
    cites=("guo2017", "dunn1961", "satterthwaite1946"),
    closed_form="logistic-labels-changed",
    rounds=10,
    draws=True,
    slow=True,
)

SEEDS = 3
"""Training seeds of a round, for every change."""

BASE, TEMPERATURE = "as it is", "temperature"
CHANGES: Final[dict[str, tuple[str, float]]] = {
    "step size ×¼": ("learning_rate", 0.25),
    "step size ×4": ("learning_rate", 4.0),
    "width ×½": ("width", 0.5),
    "width ×2": ("width", 2.0),
}
"""Change to the factor of `Variation` it sets."""

LEVEL = 0.95
WINDOW = 0.05
"""Share of the steps over which logged losses are averaged: those of single batches scatter."""
LEAST_EXAMPLES = 10
OVER = "training seeds and test examples"
MISSING = "it was not trained again, a run diverged, or training does not log its loss"


@dataclass(frozen=True)
class Trial:
    """One training run: its scores, None where it diverged, and the losses it logged."""

    scores: Scores | None
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class State:
    """The subject, the changes that can be tried, and their trials, seed by seed."""

    subject: Subject
    seed: int
    changes: tuple[str, ...]
    saved: Estimate | None
    trials: Mapping[str, tuple[Trial, ...]] = field(default_factory=dict)
    seeds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Find what can be tried."""
    count = subject.examples("test").count
    if count < LEAST_EXAMPLES:
        return NotApplicable(f"This does not apply: {count} test examples are too few.")
    saved = _loss_saved(subject)
    varied: frozenset[str] = frozenset()
    if subject.trainer is not None and subject.train is not None:
        varied = subject.trainer.varies
    changes = tuple(name for name, (what, _) in CHANGES.items() if what in varied)
    if saved is None and not changes:
        return NotApplicable(
            "This does not apply: the task has no temperature to try, and no training function "
            "with learning_rate_factor or width_factor is known (give --train-with file.py:train)."
        )
    return State(subject, seed, changes, saved)


def _loss_saved(subject: Subject) -> Estimate | None:
    """Return what a temperature fitted on other test rows saves, as `calibration` measures it."""
    if subject.lacks(calibration.INSTRUMENT.needs) is not None:
        return None
    begun = calibration.start(subject, 0)
    if isinstance(begun, NotApplicable):
        return None
    return calibration.read(calibration.advance(begun)).estimate("loss_saved")


def advance(state: State) -> State:
    """Train three more seeds as the user does, and with every change."""
    if not state.changes:
        return replace(state, seeds=state.seeds + SEEDS)
    trials = dict(state.trials)
    first = 1 + 1000 * state.seed + state.seeds
    for seed in range(first, first + SEEDS):
        for name in (BASE, *state.changes):
            trials[name] = (*trials.get(name, ()), _trial(state, name, seed))
    return replace(state, trials=trials, seeds=state.seeds + SEEDS)


def _trial(state: State, name: str, seed: int) -> Trial:
    """Train one network; log its losses where its step size is compared."""
    subject = state.subject
    assert subject.trainer is not None
    what, factor = CHANGES.get(name, ("", 1.0))
    rate, width = (factor if what == axis else 1.0 for axis in ("learning_rate", "width"))
    variation = Variation(seed, learning_rate=rate, width=width)
    compared = what == "learning_rate" or (what == "" and _has_step_size(state))
    if not (subject.trainer.logs and compared):
        return Trial(attempt(subject, variation))
    losses: list[float] = []

    def log(step: int, values: Mapping[str, Any]) -> None:
        if "loss" in values:
            losses.append(float(values["loss"]))

    def watch(module: nn.Module) -> Log:
        return log

    return Trial(attempt(subject, variation, watch), np.array(losses))


def _has_step_size(state: State) -> bool:
    return any(CHANGES[name][0] == "learning_rate" for name in state.changes)


def read(state: State) -> Measurement:
    """Return every change's paired effects, at 95 % each and at 95 % for all together."""
    names = ((TEMPERATURE,) if state.saved is not None else ()) + state.changes
    scored = state.subject.loss.task != "other"
    # Comparisons that were made: both scores of every change, but a temperature moves no answer.
    made = len(state.changes) * (1 + scored) + (state.saved is not None)
    joint = 1 - (1 - LEVEL) / made
    quantities = {
        "loss_change": _stacked([_loss_change(state, name, LEVEL) for name in names], LEVEL),
        "loss_change_joint": _stacked([_loss_change(state, name, joint) for name in names], joint),
        "diverged": Quantity(
            [float(sum(t.scores is None for t in state.trials.get(n, ()))) for n in names],
            dims=("change",), unit="count", how="runs that diverged",
        ),
        "base_diverged": Quantity(
            float(sum(t.scores is None for t in state.trials.get(BASE, ()))),
            unit="count", how="runs as the user trains that diverged",
        ),
        "seeds": Quantity(
            float(state.seeds if state.changes else 0), unit="count", how="training seeds"
        ),
    }  # fmt: skip
    if scored:
        for name, level in (("score_change", LEVEL), ("score_change_joint", joint)):
            found = [_score_change(state, change, level) for change in names]
            quantities[name] = replace(_stacked(found, level), unit="fraction")
    if _has_step_size(state) and state.subject.trainer is not None and state.subject.trainer.logs:
        quantities["steps_share"] = _stacked([steps_share(state, n, LEVEL) for n in names], LEVEL)
        quantities["steps_share_joint"] = _stacked(
            [steps_share(state, n, joint) for n in names], joint
        )
    return Measurement.of(
        quantities, coords={"change": list(names)}, cites=INSTRUMENT.cites, notes=_notes(state)
    )


def _stacked(estimates: list[Estimate], level: float) -> Quantity:
    known = [e for e in estimates if np.isfinite(e.value)] or estimates
    how = "; ".join(dict.fromkeys(e.how for e in known))
    over = "; ".join(dict.fromkeys(e.over for e in known))
    weakest = Quantity.stacked(known, "change").kind
    value, low, high = ([getattr(e, n) for e in estimates] for n in ("value", "low", "high"))
    return Quantity(
        value, low, high, ("change",), "", weakest, level, how=how, over=over, missing=MISSING
    )


def _unknown(how: str) -> Estimate:
    return Estimate(np.nan, np.nan, np.nan, "indicative", how=how, over=OVER)


def _tables(state: State, name: str, score: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return scores `[seeds, examples]` with and without a change; None where a run diverged."""
    pairs = list(zip(state.trials.get(name, ()), state.trials.get(BASE, ()), strict=True))
    rows = [(a.scores, b.scores) for a, b in pairs if a.scores is not None and b.scores is not None]
    if not rows or len(rows) < len(pairs):
        return None
    changed, base = (np.stack([getattr(row[k], score) for row in rows]) for k in (0, 1))
    return changed, base


def _loss_change(state: State, name: str, level: float) -> Estimate:
    """Loss with a change less that without, on the same seeds and examples."""
    if name == TEMPERATURE:
        assert state.saved is not None
        return _widened(state.saved, level, state.subject.examples("test").count)
    how = "test loss with the change less that without, paired by seed and example, crossed"
    tables = _tables(state, name, "loss")
    if tables is None:
        return _unknown(how)
    return crossed_mean(tables[0] - tables[1], how=how, over=OVER, level=level)


def _widened(saved: Estimate, level: float, examples: int) -> Estimate:
    """Turn what is saved into a change, with its t interval at another level."""
    wide, usual = (float(stats.t.ppf(0.5 + one / 2, examples - 1)) for one in (level, saved.level))
    half = (saved.high - saved.value) * wide / usual
    how = "log-loss at a temperature fitted on other test rows (5 folds) less that without, paired"
    value = -saved.value
    return replace(saved, value=value, low=value - half, high=value + half, level=level, how=how)


def _score_change(state: State, name: str, level: float) -> Estimate:
    """Accuracy, or R², with a change less that without."""
    how = "accuracy or R² with the change less that without, paired by seed and example, crossed"
    if name == TEMPERATURE:
        return _unknown(how)
    tables = _tables(state, name, "error")
    if tables is None:
        return _unknown(how)
    change = crossed_mean(tables[1] - tables[0], how=how, over=OVER, level=level)
    if state.subject.loss.task == "regression" or not np.isfinite(change.value):
        return change
    # A difference of two shares lies between -1 and 1, whatever few seeds leave open.
    return replace(change, low=max(change.low, -1.0), high=min(change.high, 1.0))


def steps_share(state: State, name: str, level: float) -> Estimate:
    """Steps to the loss at which training usually ends, as a share of the usual steps.

    Losses are averaged over the last twentieth of the steps; seeds by a t interval of logarithms.
    """
    how = "steps to the usual final training loss over the usual steps, t interval of logarithms"
    pairs = zip(state.trials.get(name, ()), state.trials.get(BASE, ()), strict=False)
    shares = [
        _share(changed.losses, base.losses)
        for changed, base in pairs
        if changed.scores is not None and base.scores is not None
    ]
    if len(shares) < max(state.seeds, 2) or not np.isfinite(shares).all():
        return replace(_unknown(how), over="training seeds")
    found = intervals.mean_t(np.log(shares), how=how, over="training seeds", level=level)
    value, low, high = (float(np.exp(x)) for x in (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high)


def _share(changed: np.ndarray, base: np.ndarray) -> float:
    """Return the first step at which the running mean is as low as at the end of the base."""
    if not len(changed) or not len(base):
        return np.nan
    window = min(max(1, round(WINDOW * len(base))), len(changed))
    running = np.convolve(changed, np.full(window, 1 / window), "valid")
    reached = np.flatnonzero(running <= base[-window:].mean())
    return float(reached[0] + window) / len(base) if len(reached) else np.nan


def _notes(state: State) -> tuple[str, ...]:
    if state.changes:
        return ("Every change was tried on networks trained from the same seeds as those without.",)
    return ("Nothing was trained again: no training function with factors is known.",)
