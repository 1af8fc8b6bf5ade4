"""How the test error falls with data, width and steps, by training again at several sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.retrained_scores import Scores, attempt, scores_of
from whynet.models.retraining import Variation
from whynet.models.subject import Subject
from whynet.numerics import intervals, power_law
from whynet.numerics.crossed_means import crossed_mean

INSTRUMENT = Instrument(
    title="test error with less data, other widths and other numbers of steps, trained again",
    unit="fraction",
    needs=("retrainable", "test-data"),
    cost="three seeds, each of about seven trainings where width and steps can be varied",
    cites=("hestness2017", "satterthwaite1946"),
    closed_form="shrunken-mean",
    rounds=10,
    draws=True,
)

SEEDS = 3
"""Training seeds of a round, at every point."""

FACTORS: dict[str, tuple[float, ...]] = {
    "data": (0.125, 0.25, 0.5, 1.0),
    "width": (0.5, 1.0, 2.0),
    "steps": (0.5, 1.0, 2.0),
}
"""Points of each axis; all share the point 1, which is the user's own setting."""

LEVEL = 0.95
LEAST_ROWS, LEAST_EXAMPLES = 8, 10
OVER = "training seeds and test examples"
MISSING = "nothing was trained there, a run there diverged, or an error of 0 has no logarithm"

Point = tuple[str, float]


@dataclass(frozen=True)
class State:
    """The subject, the axes that can be varied, and every point's scores, seed by seed."""

    subject: Subject
    seed: int
    axes: tuple[str, ...]
    classes: np.ndarray
    scores: Mapping[Point, tuple[Scores | None, ...]]
    seeds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Find which axes can be varied."""
    assert subject.trainer is not None
    count = subject.examples("test").count
    if count < LEAST_EXAMPLES:
        return NotApplicable(f"This does not apply: {count} test examples are too few.")
    classes = _classes(subject)
    least = FACTORS["data"][0] * len(classes)
    enough = least >= max(LEAST_ROWS, 2 * len(np.unique(classes)))
    varied = ("data",) if enough else ()
    axes = varied + tuple(axis for axis in ("width", "steps") if axis in subject.trainer.varies)
    if not axes:
        return NotApplicable(
            f"This does not apply: {len(classes)} training rows are too few for a curve, and the "
            "training function offers neither width_factor nor steps_factor."
        )
    return State(subject, seed, axes, classes, {})


def _classes(subject: Subject) -> np.ndarray:
    """Return the class of each training row; all zero where rows have no single label."""
    examples = subject.examples("train")
    if "classification" not in subject.loss.task or examples.target_shape not in ((), (1,)):
        return np.zeros(examples.count, dtype=int)
    parts = examples.batches(8192, device="cpu", dtype=subject.dtype)
    labels = np.concatenate([targets.reshape(-1).numpy() for _, targets in parts])
    return np.asarray(np.unique(labels, return_inverse=True)[1])


def nested(classes: np.ndarray, seed: int) -> np.ndarray:
    """Order rows at random so that the first m hold every class in its share, for every m.

    Args:
        classes: `[rows]`, whole numbers.
        seed: of the order.

    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(classes))
    order = np.argsort(classes[shuffled], kind="stable")
    sizes = np.bincount(classes)[classes[shuffled][order]]
    first = np.concatenate([[0], np.cumsum(np.bincount(classes))])[classes[shuffled][order]]
    place = (np.arange(len(classes)) - first + random.random(len(classes))) / sizes
    return np.asarray(shuffled[order][np.argsort(place, kind="stable")])


def advance(state: State) -> State:
    """Train three more seeds at every point."""
    scores = dict(state.scores)
    first = 1 + 1000 * state.seed + state.seeds
    for seed in range(first, first + SEEDS):
        order = nested(state.classes, seed_from("learning-curve", "rows", seed))
        for point in points(state.axes):
            done = attempt(state.subject, variation(point, seed, order))
            scores[point] = (*scores.get(point, ()), done)
    return replace(state, scores=scores, seeds=state.seeds + SEEDS)


def points(axes: tuple[str, ...]) -> tuple[Point, ...]:
    """Return the points to train at; the shared one is `("data", 1.0)`."""
    others = [(axis, factor) for axis in axes for factor in FACTORS[axis] if factor != 1]
    return (("data", 1.0), *others)


def variation(point: Point, seed: int, order: np.ndarray) -> Variation:
    """Return how training differs at a point."""
    axis, factor = point
    if factor == 1:
        return Variation(seed)
    if axis == "width":
        return Variation(seed, width=factor)
    if axis == "steps":
        return Variation(seed, steps=factor)
    kept = np.sort(order[: round(factor * len(order))])
    return Variation(seed, rows=tuple(int(row) for row in kept))


def read(state: State) -> Measurement:
    """Return errors and losses of every point, slopes, and what doubling is worth."""
    unit = "" if state.subject.loss.task == "other" else "fraction"
    factors = sorted({factor for axis in state.axes for factor in FACTORS[axis]})
    error, loss = (
        {axis: _tables(state, axis, name) for axis in state.axes} for name in ("error", "loss")
    )
    quantities = {
        "error": _at_points(error, factors, unit, "test error, mean over runs and examples"),
        "loss": _at_points(loss, factors, "", "test loss, mean over runs and examples"),
        "slope": _by_axis([slope(error[axis]) for axis in state.axes], ""),
        "diverged": Quantity(
            [
                [_failed(state, axis, f) if f in FACTORS[axis] else np.nan for f in factors]
                for axis in state.axes
            ],
            dims=("axis", "factor"), unit="count", how="runs that diverged",
            missing="nothing was trained there",
        ),
        "rows": Quantity(
            [float(round(f * len(state.classes))) if f <= 1 else np.nan for f in factors],
            dims=("factor",), unit="count", how="training rows on the axis of data",
            missing="there are no more rows",
        ),
        "seeds": Quantity(float(state.seeds), unit="count", how="training seeds at every point"),
        "own_error": Quantity.from_estimate(_own(state.subject, unit)),
    }  # fmt: skip
    joint = 1 - (1 - LEVEL) / len(state.axes)
    for name, tables, level, of in (
        ("worth", error, LEVEL, unit),
        ("worth_joint", error, joint, unit),
        ("loss_worth", loss, LEVEL, ""),
    ):
        worths = [_worth(axis, tables[axis], level) for axis in state.axes]
        quantities[name] = _by_axis(worths, of, level)
    coords: dict[str, list[str] | list[float]] = {"axis": list(state.axes), "factor": factors}
    if "data" in state.axes:
        quantities |= _fitted(error["data"], unit)
        coords["parameter"] = ["offset", "factor", "exponent"]
    return Measurement.of(quantities, coords=coords, cites=INSTRUMENT.cites, notes=_notes(state))


Tables = dict[float, np.ndarray | None]


def _tables(state: State, axis: str, name: str) -> Tables:
    """Return factor to scores `[seeds, examples]`; None where a run diverged."""
    found: Tables = {}
    for factor in FACTORS[axis]:
        runs = state.scores["data" if factor == 1 else axis, factor]
        whole = [getattr(run, name) for run in runs if run is not None]
        found[factor] = np.stack(whole) if len(whole) == len(runs) else None
    return found


def _failed(state: State, axis: str, factor: float) -> float:
    runs = state.scores["data" if factor == 1 else axis, factor]
    return float(sum(run is None for run in runs))


def _unknown(how: str) -> Estimate:
    return Estimate(np.nan, np.nan, np.nan, "indicative", how=how, over=OVER)


def _at_points(tables: dict[str, Tables], factors: list[float], unit: str, how: str) -> Quantity:
    flat = []
    for axis in tables:
        for factor in factors:
            table = tables[axis].get(factor)
            made = _unknown(how) if table is None else crossed_mean(table, how=how, over=OVER)
            flat.append(made)
    return _stacked(flat, (len(tables), len(factors)), ("axis", "factor"), unit)


def _by_axis(estimates: list[Estimate], unit: str, level: float = LEVEL) -> Quantity:
    how = "; ".join(dict.fromkeys(estimate.how for estimate in estimates))
    made = _stacked(estimates, (len(estimates),), ("axis",), unit)
    return replace(made, how=how, level=level)


def _stacked(
    estimates: list[Estimate], shape: tuple[int, ...], dims: tuple[str, ...], unit: str
) -> Quantity:
    known = [e for e in estimates if np.isfinite(e.value)] or estimates
    kind = Quantity.stacked(known, "place").kind
    value, low, high = (
        np.reshape([getattr(e, name) for e in estimates], shape)
        for name in ("value", "low", "high")
    )
    about = {"unit": unit, "kind": kind, "how": estimates[0].how, "over": OVER}
    return Quantity(value, low, high, dims=dims, missing=MISSING, **about)  # type: ignore[arg-type]


def slope(tables: Tables) -> Estimate:
    """Slope of log error against log size by least squares, linearized in runs and examples.

    Args:
        tables: factor to errors `[seeds, examples]`.

    """
    how = "slope of log error against log size, t interval over runs and examples, crossed"
    kept = [table for table in tables.values() if table is not None]
    if len(kept) < len(tables) or min(table.mean() for table in kept) <= 0:
        return _unknown(how)
    x = np.log2(list(tables))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum() / np.log(2)
    means = np.array([table.mean() for table in kept])
    linear = np.tensordot(weights / means, np.stack(kept), 1)
    found, shift = crossed_mean(linear, how=how, over=OVER), float(weights @ np.log(means))
    value, low, high = (shift + end for end in (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high)


def _worth(axis: str, tables: Tables, level: float) -> Estimate:
    """Fall of the score when an axis is doubled: measured, or for data by its curve."""
    if axis == "data":
        return extrapolated(tables, level)
    how = "width and steps: score less that at twice the size, paired by seed and example"
    now, doubled = tables[1.0], tables[2.0]
    if now is None or doubled is None:
        return _unknown(how)
    return crossed_mean(now - doubled, how=how, over=OVER, level=level)


def extrapolated(tables: Tables, level: float) -> Estimate:
    """Fall of the score from all rows to twice as many, if the curve goes on.

    Args:
        tables: share of the rows, each twice the one before, to scores `[seeds, examples]`.
        level: nominal coverage.

    """
    how = "data: all continuations of a + b x^-c that no fall from point to point contradicts"
    found = _continued(tables, level)
    return _unknown(how) if found is None else _bounded(found.fall, how, level)


def _continued(tables: Tables, level: float) -> power_law.Continuation | None:
    """Continue a curve by one doubling; None where a run diverged or no curve fits."""
    kept = [table for table in tables.values() if table is not None]
    if len(kept) < len(tables):
        return None
    each = 1 - (1 - level) / len(kept)
    falls = [
        crossed_mean(one - two, over=OVER, level=each) for one, two in itertools.pairwise(kept)
    ]
    return power_law.continuation(falls, crossed_mean(kept[-1], over=OVER, level=each))


def _bounded(bounds: power_law.Bounds, how: str, level: float = LEVEL) -> Estimate:
    """Return bounds as an estimate; the curve's form is assumed, so that it is indicative."""
    return Estimate(*bounds, "indicative", level, how=how, over=OVER)


def _fitted(tables: Tables, unit: str) -> dict[str, Quantity]:
    """Return the curve's parameters, and how well smaller parts foretold the fall to all rows."""
    found = _continued(tables, LEVEL)
    names = ("offset", "factor", "exponent")
    how = "error = offset + factor x^-exponent, x the share of the rows, as for worth"
    if found is None:
        parameters = [_unknown(how)] * 3
    else:
        parameters = [_bounded(getattr(found, name), how) for name in names]
    quantities = {"curve": _stacked(parameters, (3,), ("parameter",), "")}
    return quantities | {"foretold_gap": replace(_foretold(tables), unit=unit, missing=MISSING)}


def _foretold(tables: Tables) -> Quantity:
    """Return the fall to all rows that smaller parts foretell, less the fall that came."""
    how = "fall of the error to all rows foretold from smaller parts, less the fall measured"
    half = 0.5 + LEVEL / 2  # both together hold at LEVEL
    smaller = {factor: table for factor, table in tables.items() if factor < 1}
    found, before, now = _continued(smaller, half), tables[0.5], tables[1.0]
    if found is None or before is None or now is None:
        return Quantity.from_estimate(_unknown(how))
    came = crossed_mean(before - now, over=OVER, level=half)
    value, low, high = found.fall
    gap = value - came.value, low - came.high, high - came.low
    return Quantity.from_estimate(_bounded(gap, how))


def _own(subject: Subject, unit: str) -> Estimate:
    """Return the test error of the network as it is."""
    error, how = scores_of(subject).error, "test error of the network as it is"
    if "classification" in subject.loss.task and np.isin(error, (0, 1)).all():
        return intervals.proportion(int(error.sum()), len(error), how=how, over="examples")
    return intervals.mean_t(error, unit=unit, how=how, over="examples")


def _notes(state: State) -> tuple[str, ...]:
    notes = ["Smaller data are nested random parts of these training rows, classes in their share."]
    left = [axis for axis in FACTORS if axis not in state.axes]
    if left:
        notes.append(
            f"Not varied, since the training function or the data do not allow it: "
            f"{', '.join(left)}."
        )
    return tuple(notes)
