"""How many of a layer's neurons compute different functions, beside random ones of its size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whynet.concepts.condensation.random_layers import RandomLaw, random_law
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.neuron_moments import (
    MOST_EXAMPLES,
    MOST_UNITS,
    Layer,
    Record,
    find_layers,
    outputs_without,
    record,
)
from whynet.models.subject import Subject
from whynet.numerics.directions import (
    clusters,
    counted,
    distinct,
    jackknifed_rank,
    normalized,
    opposite_pairs,
)

INSTRUMENT = Instrument(
    title="neurons that compute the same function, beside random ones of the same size",
    unit="count",
    needs=("train-data", "deterministic"),
    cost="the first round two or three forward passes over the data, every round 40 random layers",
    cites=("luo2021", "zhou2022"),
    closed_form="random-directions",
    rounds=25,
    draws=True,
)

TOLERANCES = (0.95, 0.99)
"""Cosines above which two neurons count as one."""

DRAWS = 40
"""Random layers of a round: between the extremes of 40 lies a 41st with probability 39/41."""

GROUPS = 30
"""Groups of examples of the jackknife."""

MOST_SHOWN = 256
"""Units of the similarity matrix that is kept for a picture."""
SMALL = 1e-6
"""Relative size below which an activity, or a bend of the activation, counts as none."""


@dataclass(frozen=True)
class Findings:
    """What the neurons of one layer are; units are those that are ever active.

    Attributes:
        layer: the layer.
        dead: indices of all its units that are never active on the data.
        linear: number of units whose activation does nothing on the data.
        cosines: `[compared, compared]`, of what enters the activation.
        distinct: `[tolerances]`, clusters by cosine.
        opposite: `[tolerances]`, pairs of clusters that are each other's negative.
        close: `[tolerances]`, share of pairs above the tolerance.
        distinct_activities: `[tolerances]`, clusters by correlation of what leaves.
        rank: effective rank and its bounds; None where it cannot be had.
        enough: whether the bounds rest on enough examples.
        law: how random layers of its kind are drawn; None where what it reads is unknown.

    """

    layer: Layer
    dead: np.ndarray
    linear: int
    cosines: np.ndarray
    distinct: np.ndarray
    opposite: np.ndarray
    close: np.ndarray
    distinct_activities: np.ndarray
    rank: tuple[float, float, float] | None
    enough: bool
    law: RandomLaw | None


@dataclass(frozen=True)
class State:
    """The subject and its layers, what they are once a round has run, and the random layers.

    Attributes:
        null: layer to `[draws, tolerances + 1]`: distinct directions, then effective rank.

    """

    subject: Subject
    seed: int
    layers: tuple[Layer, ...]
    found: tuple[Findings, ...] = ()
    output_change: float = 0.0
    null: dict[str, np.ndarray] | None = None
    rounds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Look for layers of neurons."""
    layers = find_layers(subject)
    if not layers:
        return NotApplicable(
            "This does not apply: no hidden layer was found whose output reaches an activation "
            "function directly or through batch normalization."
        )
    return State(subject, seed, layers)


def advance(state: State) -> State:
    """Measure the layers if that is still to be done, then draw 40 random layers for each."""
    if state.rounds == 0:
        found = tuple(
            examine_layer(rec) for rec in record(state.subject, state.layers, "train", state.seed)
        )
        state = replace(state, found=found, output_change=_change_without_dead(state, found))
    null = dict(state.null or {})
    for one in state.found:
        if one.law is None or len(one.cosines) == 0:
            continue
        generator = np.random.default_rng(
            seed_from("neuron-similarity", one.layer.path, state.seed, state.rounds)
        )
        drawn = counted(one.law.cosines(len(one.cosines), DRAWS, generator), TOLERANCES)
        before = null.get(one.layer.path)
        null[one.layer.path] = drawn if before is None else np.concatenate([before, drawn])
    return replace(state, null=null, rounds=state.rounds + 1)


def examine_layer(rec: Record) -> Findings:
    """Turn the moments of a layer into counts."""
    alive = rec.peak > SMALL * max(float(rec.peak.max()), 1e-300)
    linear = alive & (rec.bend <= SMALL * rec.reach) & (not rec.layer.gated)
    if rec.layer.activation in ("leaky_relu", "prelu"):
        linear |= alive & (rec.most < 0)
    compared = alive[rec.units]
    cosines = normalized(rec.second[np.ix_(compared, compared)])
    mean = rec.activity_mean[compared]
    activity = rec.activity_second[np.ix_(compared, compared)]
    correlation = normalized(activity - np.outer(mean, mean), 1e-12 * np.diag(activity))
    labels = clusters(cosines, TOLERANCES)
    pairs = cosines[np.triu_indices(len(cosines), 1)]
    rows, owner = rec.sample[:, compared].astype(float), rec.sample_example
    examples = len(np.unique(owner))
    rank = None
    if examples >= 4 and compared.any():
        rank = jackknifed_rank(rows, owner % min(GROUPS, examples))
    return Findings(
        layer=rec.layer,
        dead=np.flatnonzero(~alive),
        linear=int(linear.sum()),
        cosines=cosines,
        distinct=np.array([distinct(label) for label in labels]),
        opposite=np.array(
            [opposite_pairs(cosines, lab, t) for lab, t in zip(labels, TOLERANCES, strict=True)]
        ),
        close=np.array([np.mean(pairs > t) if len(pairs) else 0.0 for t in TOLERANCES]),
        distinct_activities=np.array(
            [distinct(label) for label in clusters(correlation, TOLERANCES)]
        ),
        rank=rank,
        enough=examples >= 3 * GROUPS,
        law=random_law(rec),
    )


def _change_without_dead(state: State, found: tuple[Findings, ...]) -> float:
    """Hold dead units at zero on a running network; largest change relative to the outputs."""
    silenced = {one.layer.path: one.dead for one in found if len(one.dead)}
    if not silenced:
        return 0.0
    split: Any = "test" if state.subject.test is not None else "train"
    change = size = 0.0
    for plain, without in outputs_without(state.subject, silenced, split):
        change = max(change, float((plain - without).abs().max()))
        size = max(size, float(plain.abs().max()))
    return change / max(size, 1e-300)


def read(state: State) -> Measurement:
    """Return counts a layer and in total, beside those of random layers."""
    found = state.found
    shown = most_condensed(state)
    matrix = by_cluster(found[shown].cosines) if len(found[shown].cosines) else np.ones((1, 1))
    with_null = [one for one in found if one.layer.path in (state.null or {})]
    quantities = _counts(found, with_null or list(found)) | _ranks(state) | _null(state)
    quantities |= {
        "output_change_without_dead": Quantity(
            state.output_change,
            how="units without activity held at zero, largest change on the "
            "test data (else training data) relative to the largest output",
        ),
        "similarity": Quantity(matrix, dims=("unit", "other"), how="ordered by cluster"),
    }
    places = np.arange(len(matrix))
    return Measurement.of(
        quantities,
        coords={
            "layer": [one.layer.path for one in found],
            "activation": ("layer", [one.layer.activation for one in found]),
            "tolerance": list(TOLERANCES),
            "unit": places,
            "other": places,
            "shown_layer": found[shown].layer.path,
        },
        cites=INSTRUMENT.cites,
        notes=_notes(state),
    )


def most_condensed(state: State) -> int:
    """Index of the layer with the fewest distinct directions relative to random ones."""
    null = state.null or {}

    def ratio(one: Findings) -> float:
        draws = null.get(one.layer.path)
        expected = len(one.cosines) if draws is None else float(draws[:, 0].mean())
        return float(one.distinct[0]) / max(expected, 1.0) if len(one.cosines) else np.inf

    return int(np.argmin([ratio(one) for one in state.found]))


def by_cluster(cosines: np.ndarray) -> np.ndarray:
    """Order a matrix of cosines by cluster, large ones first, whatever the units' own order.

    Of more than 256 units, every k-th of the order is shown.
    """
    labels = clusters(cosines, TOLERANCES[:1])[0]
    total = cosines.sum(1)
    size, mean = np.zeros(len(labels)), np.zeros(len(labels))
    for label in np.unique(labels):
        inside = labels == label
        size[inside], mean[inside] = inside.sum(), total[inside].mean()
    order = np.lexsort((-total, -mean, -size))
    if len(order) > MOST_SHOWN:
        order = order[np.linspace(0, len(order) - 1, MOST_SHOWN).round().astype(int)]
    return np.asarray(cosines[np.ix_(order, order)])


def _counts(found: tuple[Findings, ...], summed: list[Findings]) -> dict[str, Quantity]:
    def count(values: Any, how: str, *dims: str) -> Quantity:
        return Quantity(
            np.asarray(values, float), dims=dims, unit="count", how=how, over="the training data"
        )

    linked = "complete linkage: all pairs of a group have a cosine above the tolerance"
    grouped = np.stack([one.distinct for one in found])
    compared = [len(one.cosines) for one in found]
    active = "never above a millionth of the layer's largest activity"
    return {
        "width": count([one.layer.width for one in found], "units of the layer", "layer"),
        "dead": count([len(one.dead) for one in found], active, "layer"),
        "linear": count([one.linear for one in found], "activation changes nothing", "layer"),
        "compared": count(compared, "units that are ever active", "layer"),
        "distinct": count(grouped, linked, "layer", "tolerance"),
        "opposite_pairs": count(
            np.stack([one.opposite for one in found]),
            "pairs of groups of opposite sign",
            "layer",
            "tolerance",
        ),
        "distinct_activities": count(
            np.stack([one.distinct_activities for one in found]),
            linked.replace("cosine", "correlation"),
            "layer",
            "tolerance",
        ),
        "close_pairs": Quantity(
            np.stack([one.close for one in found]),
            dims=("layer", "tolerance"),
            unit="fraction",
            how="share of pairs above the tolerance",
            over="the training data",
        ),
        "distinct_total": count(sum(one.distinct for one in summed), linked, "tolerance"),
        "compared_total": count(
            sum(len(one.cosines) for one in summed), "active units of layers that have a null"
        ),
    }


def _ranks(state: State) -> dict[str, Quantity]:
    none = (np.nan, np.nan, np.nan)
    value, low, high = np.array([one.rank or none for one in state.found]).T
    enough = all(one.enough for one in state.found)
    dimension = [
        np.nan
        if one.law is None or len(one.law.spectrum) == 0
        else float(one.law.spectrum.sum() ** 2 / (one.law.spectrum**2).sum())
        for one in state.found
    ]
    return {
        "effective_rank": Quantity(
            value,
            low,
            high,
            dims=("layer",),
            unit="count",
            kind="interval" if enough else "indicative",
            how="participation ratio of cosines, delete-group jackknife",
            over="examples",
            missing="no unit is active, or no axis counts the examples",
        ),
        "input_dimension": Quantity(
            dimension,
            dims=("layer",),
            unit="count",
            how="participation ratio of the inputs' second moment",
            over="sampled rows",
            missing="the layer is a grouped convolution, or its inputs were not seen",
        ),
    }


def _null(state: State) -> dict[str, Quantity]:
    """Mean over random layers, with order statistics that enclose another one."""
    drawn = state.null or {}
    none = np.full((DRAWS * state.rounds, len(TOLERANCES) + 1), np.nan)
    each = np.stack([drawn.get(one.layer.path, none) for one in state.found])
    total = np.sum([*drawn.values()], axis=0) if drawn else none
    return {
        "null_distinct": _band(each[:, :, :-1], state.rounds, "layer", "tolerance"),
        "null_effective_rank": _band(each[:, :, -1], state.rounds, "layer"),
        "null_distinct_total": _band(total[None, :, :-1], state.rounds, "tolerance"),
    }


def _band(draws: np.ndarray, rounds: int, *dims: str) -> Quantity:
    """Turn `[layers, draws, ...]` into means and bounds.

    Draws are exchangeable: with n = 40 k, another one lies between the k-th from either end with
    probability (n + 1 - 2 k) / (n + 1), at least 0.95.
    """
    ordered = np.sort(draws, axis=1)
    low, high = ordered[:, rounds - 1], ordered[:, -rounds]
    value = np.clip(draws.mean(1), low, high)
    if dims[0] != "layer":
        value, low, high = value[0], low[0], high[0]
    return Quantity(
        value,
        low,
        high,
        dims=dims,
        unit="count",
        kind="certified",
        how=f"{draws.shape[1]} layers of random directions on the same inputs",
        over="random layers",
        missing="a grouped convolution, inputs that were not seen, or no active unit",
    )


def _notes(state: State) -> tuple[str, ...]:
    notes = ["Similarity is measured on the training data; off it, like neurons may differ."]
    if any(one.layer.width > MOST_UNITS for one in state.found):
        notes.append(f"Of layers wider than {MOST_UNITS}, so many seeded units are compared.")
    if state.subject.examples("train").count > MOST_EXAMPLES:
        notes.append(f"A seeded subset of {MOST_EXAMPLES:,} training examples was used.")
    if any(one.layer.grouped for one in state.found):
        notes.append("Grouped convolutions have no null: their neurons read different inputs.")
    if any(one.layer.gated for one in state.found):
        notes.append(
            "Of gated layers products are compared, with those of random gates and values whose "
            "gates have the same mean square."
        )
    return tuple(notes)
