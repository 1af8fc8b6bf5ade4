"""Do the neurons of a layer compute different functions, or a few functions many times?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.condensation import figures
from whynet.core.estimate import Estimate, format_interval, format_number
from whynet.core.measurement import Measurement
from whynet.core.plain_text import layer_name
from whynet.core.question import (
    Assumption,
    Figure,
    Finding,
    Panel,
    Question,
    Reference,
    Results,
    Table,
)

QUESTION = Question(
    title="Do its neurons repeat each other?",
    short="Condensation",
    uses=("neuron-similarity",),
    references=("neuron-similarity",),
    order=50,
)

TOLERANCE = 0.95
CLEARLY_FEWER = 0.75
"""Of the fewest that random layers or the network at initialization have."""

MANY_DEAD = 0.05
SAME_OUTPUT = 1e-3


def ask(results: Results) -> Panel:
    """Put the number of distinct neurons beside random layers and the untrained network."""
    measured: Measurement = results.measured["neuron-similarity"]
    initial: Measurement | None = results.initial.get("neuron-similarity")
    condensed = _condensed(measured, initial)
    dead = _dead(measured)
    lead = condensed[0].numbers.replace("**", "") if condensed else _lead(measured, initial)
    return Panel(
        lead=lead,
        method="Neurons are alike where what enters their activations is proportional on the "
        f"training data (cosine above {TOLERANCE:g} for all pairs of a group). Random layers "
        "have isotropic Gaussian weights and read the same inputs.",
        figures=_figures(measured, initial),
        tables=_tables(measured),
        assumptions=(
            Assumption(
                "Neurons that are alike on the training data are alike elsewhere",
                "cannot be checked",
            ),
            Assumption(
                "The layers' inputs are known, so that random layers can be drawn",
                "met" if _has_null(measured) else "not met",
            ),
            Assumption(
                "It was measured before training too", "met" if initial is not None else "not met"
            ),
        ),
        findings=condensed + dead,
    )


def _total(measured: Measurement, name: str) -> Estimate:
    return measured.estimate(name, tolerance=TOLERANCE)


def _has_null(measured: Measurement) -> bool:
    return bool(np.isfinite(_total(measured, "null_distinct_total").value))


def _count(number: float) -> str:
    return format_number(float(round(number)))


def _lead(measured: Measurement, initial: Measurement | None) -> str:
    distinct = _total(measured, "distinct_total")
    compared = measured.estimate("compared_total")
    text = (
        f"The {_count(compared.value)} hidden neurons that are ever active compute "
        f"{_count(distinct.value)} distinct functions of the training data"
    )
    if _has_null(measured):
        null = _total(measured, "null_distinct_total")
        text += f"; random layers of the same size have {_span(null)}"
    if initial is not None:
        before = _total(initial, "distinct_total")
        of = initial.estimate("compared_total")
        text += f", before training there were {_count(before.value)} of {_count(of.value)}"
    return text + "."


def _condensed(measured: Measurement, initial: Measurement | None) -> tuple[Finding, ...]:
    """Make a finding only where neurons are clearly fewer than in both references."""
    if not _has_null(measured):
        return ()
    distinct = _total(measured, "distinct_total")
    compared = measured.estimate("compared_total").value
    null = _total(measured, "null_distinct_total")
    fewest = null.low
    references = [Reference("random layers", null.low, null.high)]
    if initial is not None:
        before = _total(initial, "distinct_total").value
        fewest = min(fewest, before * compared / max(initial.estimate("compared_total").value, 1))
        references.append(Reference("at initialization", before, before))
    if compared < 4 or distinct.value > CLEARLY_FEWER * fewest:
        return ()
    share = distinct.value / compared
    pairs = float(measured.values("opposite_pairs", tolerance=TOLERANCE).sum())
    opposite = _opposite(pairs)
    return (
        Finding(
            key="condensed",
            headline="Its neurons repeat each other.",
            numbers=f"On the training data **{_count(distinct.value)} of its {_count(compared)}** "
            f"active hidden neurons are (nearly) distinct; random layers of the same size have "
            f"{_span(null)}"
            + (f", before training there were {_count(references[-1].low)}" if initial else "")
            + f".{opposite}",
            advice=_advice(measured, distinct),
            estimate=distinct,
            label="distinct neurons",
            references=tuple(references),
            axis=(0.0, float(compared)),
            importance=min(0.8, 0.55 + 0.25 * (1 - share)),
            instrument="neuron-similarity",
            cites=("luo2021", "zhou2022"),
            read=lambda other: _total(other, "distinct_total"),
        ),
    )


HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})
"""Activations that pass a positive factor through, so that a group of neurons acts as one."""


def _advice(measured: Measurement, distinct: Estimate) -> str:
    activations = {str(name) for name in measured.dataset["activation"].values}
    caution = "This was measured on the data; off it, neurons that look alike may differ."
    if activations <= HOMOGENEOUS:
        return (
            "Neurons of a group differ by a factor only, which their activation passes through: "
            f"about {_count(distinct.value)} could do their work on these data. Try training a "
            f"network of that size. {caution}"
        )
    return (
        "Neurons of a group still differ in scale, which their activation bends: a smaller "
        f"network may do as well, so try training one. {caution}"
    )


def _dead(measured: Measurement) -> tuple[Finding, ...]:
    """Make a finding where more than one unit in twenty is never active."""
    dead, width = (float(measured.values(name).sum()) for name in ("dead", "width"))
    if dead <= MANY_DEAD * width:
        return ()
    change = measured.estimate("output_change_without_dead").value
    same = change <= SAME_OUTPUT
    numbers = (
        f"**{_count(dead)} of its {_count(width)}** hidden units never fire on the training data. "
    )
    if change == 0:
        numbers += "Held at zero on a copy, they change no output on the test data."
    else:
        numbers += (
            "Held at zero on a copy, they change outputs on the test data by at most "
            f"{format_number(change, 'fraction')} of the largest."
        )
    return (
        Finding(
            key="dead_units",
            headline="Part of it never fires." if same else "Part of it fires only on unseen data.",
            numbers=numbers,
            advice="They can be removed without changing an output here; a smaller step size or "
            "another initialization keeps such units alive in the next training run."
            if same
            else "Do not remove them: rows unlike the training data reach them. Look at these "
            "rows first.",
            estimate=Estimate(dead, dead, dead, "exact", unit="count", over="the training data"),
            label="units that never fire",
            axis=(0.0, width),
            importance=min(0.6, 0.4 + 0.4 * dead / width),
            instrument="neuron-similarity",
            regardless=True,
        ),
    )


def _span(null: Estimate) -> str:
    """Write from where to where random layers reach; one number where all have it."""
    ends = [_count(null.low), _count(null.high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _opposite(pairs: float) -> str:
    if not pairs:
        return ""
    words = "pair of them points" if pairs == 1 else "pairs of them point"
    return f" {_count(pairs)} {words} in opposite ways."


def _rows(measured: Measurement, initial: Measurement | None) -> list[figures.LayerDots]:
    names = [str(name) for name in measured.dataset["layer"].values]
    before = set() if initial is None else {str(name) for name in initial.dataset["layer"].values}
    rows = []
    for name in names:
        at = {"layer": name, "tolerance": TOLERANCE}
        null = measured.estimate("null_distinct", **at)
        share = None
        if initial is not None and name in before:
            active = initial.estimate("compared", layer=name).value
            share = initial.estimate("distinct", **at).value / max(active, 1)
        rows.append(
            figures.LayerDots(
                name=layer_name(name),
                compared=int(measured.estimate("compared", layer=name).value),
                distinct=int(measured.estimate("distinct", **at).value),
                null=(null.low, null.high) if np.isfinite(null.value) else None,
                initial=share,
            )
        )
    return rows


MOST_ROWS = 12


def _figures(measured: Measurement, initial: Measurement | None) -> tuple[Figure, ...]:
    rows = _rows(measured, initial)
    shown = sorted(rows, key=lambda row: row.distinct / max(row.compared, 1))[:MOST_ROWS]
    rows = [row for row in rows if row in shown]
    matrix = measured.values("similarity")
    layer = layer_name(str(measured.dataset["shown_layer"].values))
    close = float((matrix > TOLERANCE).sum() - len(matrix)) / max(
        len(matrix) * (len(matrix) - 1), 1
    )
    dots = Figure(
        "condensation-distinct",
        partial(figures.distinct_neurons, rows=rows),
        "Distinct directions of each layer, of its active units. Grey bars: 95 % of random layers "
        "on the same inputs." + ("" if initial is None else " Diamonds: before training."),
        "; ".join(f"{row.name}: {row.distinct} of {row.compared} distinct" for row in rows),
        height=0.95 + 0.42 * len(rows),
    )
    if len(matrix) < 2:
        return (dots,)
    return (
        dots,
        Figure(
            "condensation-similarity",
            partial(figures.similarity, matrix=matrix),
            f"Cosines between the {len(matrix)} neurons shown of layer {layer}, the most condensed "
            "one, ordered by group (at most 256 are shown).",
            f"{100 * close:.1f} % of the pairs of neurons have a cosine above {TOLERANCE:g}.",
            height=3.6,
        ),
    )


def _tables(measured: Measurement) -> tuple[Table, ...]:
    names = [str(name) for name in measured.dataset["layer"].values]
    activations = [str(name) for name in measured.dataset["activation"].values]
    rows = []
    for name, activation in zip(names, activations, strict=True):
        at = {"layer": name, "tolerance": TOLERANCE}
        rank = measured.estimate("effective_rank", layer=name)
        null = measured.estimate("null_effective_rank", layer=name)
        rows.append(
            (
                f"{layer_name(name)} ({activation})",
                measured.estimate("width", layer=name),
                measured.estimate("dead", layer=name),
                measured.estimate("linear", layer=name),
                measured.estimate("distinct", **at),
                measured.estimate("distinct_activities", **at),
                rank if np.isfinite(rank.value) else "unknown",
                null if np.isfinite(null.value) else "unknown",
            )
        )
    change = measured.estimate("output_change_without_dead")
    return (
        Table(
            (
                "layer",
                "units",
                "never fire",
                "always linear",
                "distinct",
                "distinct by what leaves",
                "effective rank",
                "of random layers",
            ),
            tuple(rows),
            "Units whose activation changes nothing on the data count as linear. Largest change "
            "of an output with those that never fire held at zero, relative to the largest output: "
            f"{format_interval(change)}.",
        ),
    )
