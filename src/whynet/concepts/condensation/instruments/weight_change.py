"""How far training moves the weights of several widths from several starts, and what that does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from whynet.concepts.condensation.width_ladder import (
    SCALES,
    WIDTHS,
    Layer,
    Run,
    climb,
    layers_of,
)
from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.retraining import Trainer, Variation
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics.crossed_means import crossed_mean
from whynet.numerics.step_sizes import slope

INSTRUMENT = Instrument(
    title="how far training moves weights at several widths and scales of the start, and what "
    "another scale does to directions and test error",
    unit="",
    needs=("retrainable",),
    cost="27 training runs: three seeds at widths of 1/2 to 2 times and starts of 1/4 to 4 times",
    cites=("luo2021", "zhou2022", "yang2023", "satterthwaite1946"),
    closed_form="one-step-starts",
    rounds=10,
    draws=True,
    slow=True,
)

SEEDS = 3
"""Training seeds of a round."""

LEVEL = 0.95
OVER = "training seeds"
MISSING = "a run diverged, a layer did not move, or there is one width"

Key = tuple[float, float]
"""Width and scale of the start."""


@dataclass(frozen=True)
class State:
    """The subject, what is varied, the layers, and the runs of each seed by width and scale."""

    subject: Subject
    seed: int
    widths: tuple[float, ...]
    scales: tuple[float, ...]
    layers: tuple[Layer, ...]
    trainer: Trainer
    notes: tuple[str, ...] = ()
    tolerance: float | None = None
    seeds: tuple[Mapping[Key, Run], ...] = ()

    def runs(self, width: float, scale: float) -> list[Run]:
        """Return the runs of one width and scale, seed by seed."""
        return [each[(width, scale)] for each in self.seeds]


def start(
    subject: Subject,
    seed: int,
    *,
    widths: Sequence[float] | None = None,
    scales: Sequence[float] = SCALES,
    condense: float | None = None,
) -> State | NotApplicable:
    """Find the layers, and check that the width can be scaled.

    Args:
        subject: one that can be trained again.
        seed: of the training seeds.
        widths: factors on the widths, 1 among them or added; ½, 1 and 2 by default, 1 alone where
            the network cannot be built of another width.
        scales: factors on the weights at the start, 1 among them or added.
        condense: tolerance to which every trained copy is made smaller as well, without training;
            None to leave that out. About a second a copy.

    Raises:
        InputError: a factor is not above 0, or the tolerance not between 0 and 1.

    """
    known = subject.trainer
    assert known is not None
    chosen = _factors("widths", WIDTHS if widths is None else widths)
    starts = _factors("scales", scales)
    if condense is not None and not 0 < condense < 1:
        raise InputError("condense", f"{condense:g}", "a tolerance between 0 and 1, such as 0.05")
    notes: tuple[str, ...] = ()
    if "width" not in known.varies and widths is not None and chosen != (1.0,):
        return NotApplicable(
            "This does not apply: the function that builds the network takes no argument "
            "'width_factor', so that no other widths can be trained."
        )
    if "width" not in known.varies:
        chosen = (1.0,)
        notes = (
            "One width was trained, which has no exponent: the function that builds the network "
            "takes no argument 'width_factor'.",
        )
    sizes = [
        sum(p.numel() for p in known.fresh(Variation(width=width)).parameters()) for width in chosen
    ]
    if (np.diff(sizes) <= 0).any():
        return NotApplicable(
            "This does not apply: a larger 'width_factor' does not give a network with more "
            "parameters."
        )
    layers = layers_of(subject, chosen)
    if len(layers) < 2:
        return NotApplicable(
            "This does not apply: no layer with trainable weights stands before the last one."
        )
    # A trainer of its own, so that scaled starts do not drive other runs out of its memory.
    own = Trainer(known.build, known.train, label=known.label)
    return State(subject, seed, chosen, starts, layers, own, notes, condense)


def _factors(argument: str, given: Sequence[float]) -> tuple[float, ...]:
    values = [float(value) for value in given]
    if not values or not all(0 < value < np.inf for value in values):
        raise InputError(argument, ", ".join(f"{v:g}" for v in values) or "none", "numbers above 0")
    return tuple(sorted({*values, 1.0}))


def advance(state: State) -> State:
    """Train networks of every width from every start, for three seeds."""
    first = 1 + len(state.seeds) + 1000 * state.seed
    done = []
    for seed in range(first, first + SEEDS):
        runs = {}
        for width in state.widths:
            for scale in state.scales:
                # As the user trains: other instruments train the same, which comes from memory.
                trainer = state.subject.trainer if scale == 1 else state.trainer
                assert trainer is not None
                variation = Variation(seed, width=width, start=scale)
                runs[(width, scale)] = climb(
                    state.subject, trainer, variation, state.layers, state.tolerance
                )
        done.append(runs)
    return replace(state, seeds=(*state.seeds, *done))


def read(state: State) -> Measurement:
    """Return changes and their slopes, directions, losses, and what another start does."""
    quantities = _changes(state) | _losses(state) | _kept(state)
    coords: dict[str, object] = {
        "layer": [layer.path for layer in state.layers],
        "norm": ("layer", ["spectral" if layer.square else "length" for layer in state.layers]),
        "scale": list(state.scales),
        "width": list(state.widths),
    }
    neurons = list(state.seeds[0][(1.0, 1.0)].directions)
    if neurons:
        quantities |= _directions(state, neurons)
        coords["neurons"] = neurons
    others = [scale for scale in state.scales if scale != 1]
    if others:
        quantities |= _effects(state, others)
        coords["other"] = others
    return Measurement.of(quantities, coords=coords, cites=INSTRUMENT.cites, notes=_notes(state))


# ---- how far weights move ---------------------------------------------------------------


def _changes(state: State) -> dict[str, Quantity]:
    paths = [layer.path for layer in state.layers]
    across = np.stack([_table(state, partial(_moved, path)) for path in paths])
    whole = np.stack([_table(state, partial(_moved_in_all, path)) for path in paths])
    with np.errstate(invalid="ignore"):
        furthest = across[:-1].max(0)
    moved = "part of a layer's change by training that is not along its start, over the start"
    law = "exponent of a layer's change across its start in the width, t over seeds"
    most = "largest change across its start of a layer before the last"
    return {
        "change": _geometric(across, ("layer", "scale", "width"), moved),
        "whole_change": _geometric(
            whole, ("layer", "scale", "width"), "length of a layer's change over that of its start"
        ),
        "slope": _slopes(state, across, ("layer", "scale"), law),
        "furthest": _geometric(furthest, ("scale", "width"), most),
        "furthest_slope": _slopes(
            state, furthest, ("scale",), f"exponent in the width of the {most}, t over seeds"
        ),
    }


def _moved(path: str, run: Run) -> float:
    return run.across.get(path, math.nan)


def _moved_in_all(path: str, run: Run) -> float:
    return run.whole.get(path, math.nan)


def _table(state: State, value: Callable[[Run], float]) -> np.ndarray:
    """Return a number of every run, `[scales, widths, seeds]`; NaN where one diverged."""
    return np.array(
        [
            [[value(run) if run.finite else np.nan for run in state.runs(w, s)]
             for w in state.widths]
            for s in state.scales
        ]
    )  # fmt: skip


def _logs(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(values)
    return np.where(np.isfinite(logs), logs, np.nan)


def _slopes(state: State, values: np.ndarray, dims: tuple[str, ...], how: str) -> Quantity:
    """Fit the exponent of every seed, over `[..., widths, seeds]`."""
    logs = np.swapaxes(_logs(values), -1, -2)
    if len(state.widths) < 2:
        fitted = np.full(logs.shape[:-1], np.nan)
    else:
        fitted = slope(state.widths, logs.reshape(-1, len(state.widths))).reshape(logs.shape[:-1])
    return _stacked(fitted, dims, lambda row: _over_seeds(row, how, tested=True))


def _geometric(values: np.ndarray, dims: tuple[str, ...], how: str) -> Quantity:
    words = f"{how}, geometric mean over seeds, t interval of logarithms"
    return _stacked(_logs(values), dims, lambda row: _powered(_over_seeds(row, words)))


def _mean(values: np.ndarray, dims: tuple[str, ...], how: str, unit: str = "") -> Quantity:
    found = _stacked(values, dims, lambda row: _over_seeds(row, f"{how}, t over seeds"))
    # Losses and counts alike lie above zero, whatever few seeds leave open.
    return replace(found, low=np.maximum(np.asarray(found.low), 0.0), unit=unit)


def _stacked(
    values: np.ndarray, dims: tuple[str, ...], estimate: Callable[[np.ndarray], Estimate]
) -> Quantity:
    """Turn `[..., seeds]` into estimates of the last axis."""
    shape = values.shape[:-1]
    found = [estimate(row) for row in values.reshape(-1, values.shape[-1])]
    known = [one for one in found if np.isfinite(one.value)] or found
    made = Quantity.stacked(known, "place")
    parts = ([getattr(one, name) for one in found] for name in ("value", "low", "high"))
    value, low, high = (np.reshape(np.asarray(part, dtype=float), shape) for part in parts)
    return replace(made, value=value, low=low, high=high, dims=dims, missing=MISSING)


def _over_seeds(values: np.ndarray, how: str, tested: bool = False) -> Estimate:
    """Student's t over seeds; of slopes its coverage over three of them is tested."""
    if not np.isfinite(values).all():
        return Estimate(np.nan, np.nan, np.nan, "indicative", how=how, over=OVER)
    found = intervals.mean_t(values, how=how, over=OVER)
    return replace(found, kind="interval") if tested and np.ptp(values) > 0 else found


def _powered(log: Estimate) -> Estimate:
    value, low, high = (float(np.exp2(min(x, 1000.0))) for x in (log.value, log.low, log.high))
    return replace(log, value=value, low=low, high=high)


# ---- what they become -------------------------------------------------------------------


def _loss(when: int, run: Run) -> float:
    value = (run.first_loss, run.loss)[when]
    return value if math.isfinite(value) else math.nan


def _losses(state: State) -> dict[str, Quantity]:
    trainer = state.trainer
    sizes = [
        float(sum(p.numel() for p in trainer.fresh(Variation(width=width)).parameters()))
        for width in state.widths
    ]
    diverged = [
        [float(sum(not run.finite for run in state.runs(width, scale))) for width in state.widths]
        for scale in state.scales
    ]
    after, before = (_table(state, partial(_loss, when)) for when in (1, 0))
    return {
        "train_loss": _mean(after, ("scale", "width"), "mean training loss after training"),
        "first_train_loss": _mean(before, ("scale", "width"), "the same before training"),
        "parameters": Quantity(
            sizes, dims=("width",), unit="count", how="parameters of the network"
        ),
        "diverged": Quantity(
            diverged, dims=("scale", "width"), unit="count",
            how=f"of {len(state.seeds)} runs, those that did not stay finite",
        ),
    }  # fmt: skip


def _kept(state: State) -> dict[str, Quantity]:
    """Return how many units a smaller network needs at the tolerance, where that was asked for."""
    if state.tolerance is None:
        return {}
    how = f"units that reproduce the outputs on the training data to {state.tolerance:g}"
    values = _table(state, lambda run: math.nan if run.kept is None else float(run.kept))
    return {"units_kept": _mean(values, ("scale", "width"), how, "count")}


def _directions(state: State, neurons: list[str]) -> dict[str, Quantity]:
    def table(path: str, when: int) -> np.ndarray:
        return _table(
            state, lambda run: float(run.directions[path][when]) if path in run.directions
            else np.nan,
        )  # fmt: skip

    after, before = (np.stack([table(path, when) for path in neurons]) for when in (0, 1))
    held = "directions that hold 99 % of what a layer's units contribute, at a cosine of 0.95"
    dims = ("neurons", "scale", "width")
    found = {
        "directions": _mean(after, dims, held, "count"),
        "directions_before": _mean(before, dims, f"{held}, before training", "count"),
    }
    here, one = state.widths.index(1.0), state.scales.index(1.0)
    total = after.sum(0)[:, here]
    others = [i for i in range(len(state.scales)) if i != one]
    if others:
        how = "directions of all layers over those from the usual start, paired by seed"
        found["direction_ratio"] = replace(
            _geometric(total[others] / total[one], ("other",), how), unit="ratio"
        )
    return found


def _effects(state: State, others: list[float]) -> dict[str, Quantity]:
    """Test loss and score from another start less those from the usual one, paired."""
    if state.subject.test is None:
        return {}
    scored = state.subject.loss.task != "other"
    joint = 1 - (1 - LEVEL) / (len(others) * (1 + scored))
    found = {}
    for name, level in (("", LEVEL), ("_joint", joint)):
        losses = [_effect(state, scale, "loss", level) for scale in others]
        found[f"loss_change{name}"] = _column(losses)
        if scored:
            scores = [_effect(state, scale, "error", level) for scale in others]
            found[f"score_change{name}"] = replace(_column(scores), unit="fraction")
    return found


def _column(estimates: list[Estimate]) -> Quantity:
    known = [one for one in estimates if np.isfinite(one.value)] or estimates
    made = Quantity.stacked(known, "other")
    value, low, high = ([getattr(e, n) for e in estimates] for n in ("value", "low", "high"))
    return replace(made, value=value, low=low, high=high, missing=MISSING)


def _effect(state: State, scale: float, score: str, level: float) -> Estimate:
    name = "test loss" if score == "loss" else "accuracy or R²"
    how = f"{name} from that start less that from the usual one, paired by seed and example"
    over = "training seeds and test examples"
    pairs = list(zip(state.runs(1.0, scale), state.runs(1.0, 1.0), strict=True))
    rows = [(a.scores, b.scores) for a, b in pairs if a.scores is not None and b.scores is not None]
    if len(rows) < len(pairs) or len(getattr(rows[0][0], score)) < 2:
        return Estimate(np.nan, np.nan, np.nan, "indicative", level, how=how, over=over)
    changed, usual = (np.stack([getattr(row[k], score) for row in rows]) for k in (0, 1))
    gap = changed - usual if score == "loss" else usual - changed
    found = crossed_mean(gap, how=how, over=over, level=level)
    if score == "error" and "classification" in state.subject.loss.task:
        return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))
    return found


def _notes(state: State) -> tuple[str, ...]:
    return (
        f"Networks were trained in full from {len(state.seeds)} seeds, at every width and start.",
        "Another start is every weight times one number; gains of normalizations stay.",
        *state.notes,
    )
