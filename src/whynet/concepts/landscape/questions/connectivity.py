"""Can its weights be averaged with those of another seed?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.landscape import figures
from whynet.core.estimate import Estimate, format_interval, format_number
from whynet.core.measurement import Measurement
from whynet.core.question import (
    Assumption,
    Cell,
    Figure,
    Finding,
    Panel,
    Question,
    Reference,
    Results,
    Table,
)

QUESTION = Question(
    title="Can its weights be averaged with those of another seed?",
    short="Averaging",
    uses=("mode-connectivity",),
    order=72,
)

PLAIN, ALIGNED = "as they are", "aligned"

TOLERATED = 0.02
"""Accuracy that the average may lose; paired intervals must stay above its negative."""


def ask(results: Results) -> Panel:
    """Say whether averaged weights do as well as either network, before or after alignment."""
    measured: Measurement = results.measured["mode-connectivity"]
    line = averageable(measured)
    findings = () if line is None else (_finding(measured, line),)
    return Panel(
        lead=_lead(measured, line),
        method="Networks are trained from other seeds. Loss and error are measured at eleven "
        "points of the straight line between their weights and this network's, before and after "
        "hidden units are permuted into this network's order by the correlation of what they "
        "compute.",
        figures=(_figure(measured),),
        tables=(_table(measured),),
        assumptions=(
            Assumption(
                "The training function is the one this network was trained with",
                "cannot be checked",
            ),
            Assumption("The test examples are independent draws", "cannot be checked"),
            Assumption(
                "Hidden units can be matched", "met" if ALIGNED in _lines(measured) else "not met"
            ),
        ),
        findings=findings,
    )


def _lines(measured: Measurement) -> list[str]:
    return [str(name) for name in measured.dataset["line"].values]


def _seeds(measured: Measurement) -> list[int]:
    return [int(seed) for seed in measured.dataset["seed"].values]


def averageable(measured: Measurement) -> str | None:
    """Find the line half way along which accuracy holds, for every network tried, or None.

    On both training and test data; the networks must know more than the most frequent class, and
    none of the others may be clearly better than this one, so that an average with an untrained
    network is none. Each condition must hold for every network, so that trying several does not
    widen the error.
    """
    if "accuracy_change" not in measured.names or convex(measured) or not _learned(measured):
        return None
    for line in _lines(measured):
        low, _ = measured.bounds("accuracy_change", line=line)
        error = measured.values("train_error", line=line)
        kept = error[:, error.shape[1] // 2] <= error[:, [0, -1]].max(1) + TOLERATED
        if measured.dataset["accuracy_change"].attrs["kind"] != "interval":
            return None
        if bool((low > -TOLERATED).all()) and bool(kept.all()):
            return line
    return None


def convex(measured: Measurement) -> bool:
    """Whether the training loss bends upward everywhere on the lines, as for linear models.

    There averages cannot be worse than their ends, so that saying it would tell nothing.
    """
    losses = measured.values("train_loss", line=PLAIN)
    return bool((np.diff(losses, 2, axis=1) >= -1e-6 * np.abs(losses).max()).all())


def _learned(measured: Measurement) -> bool:
    constant = measured.estimate("constant_accuracy").value
    _, ends = measured.bounds("error", line=PLAIN)
    better, _ = measured.bounds("seed_difference")
    above = bool((1 - ends[:, [0, -1]] > constant).all())
    return above and bool((better < TOLERATED).all())


def _worst(measured: Measurement, line: str) -> Estimate:
    """Return the change of accuracy whose interval reaches lowest."""
    low, _ = measured.bounds("accuracy_change", line=line)
    seed, end = np.unravel_index(int(np.argmin(low)), low.shape)
    ends = [str(name) for name in measured.dataset["end"].values]
    return measured.estimate(
        "accuracy_change", line=line, seed=_seeds(measured)[int(seed)], end=ends[int(end)]
    )


def _points(change: Estimate) -> str:
    value, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (change.value, change.low, change.high)
    )
    return f"{value} points [{low}, {high}]"


def _finding(measured: Measurement, line: str) -> Finding:
    change, others = _worst(measured, line), len(_seeds(measured))
    networks = "that of another seed" if others == 1 else f"those of {others} other seeds, each"
    references: tuple[Reference, ...] = ()
    before = ""
    if line == ALIGNED:
        plain = _worst(measured, PLAIN)
        references = (Reference("not aligned", plain.low, plain.high),)
        before = f", against {_points(plain)} without matching units first"
    manner = " once hidden units are matched" if line == ALIGNED else ""
    return Finding(
        key="weights_average",
        headline=f"Its weights can be averaged with another seed's{manner}.",
        numbers=f"Averaged with {networks}, accuracy on unseen data changes by "
        f"**{_points(change)}** at worst{before}.",
        advice="Several runs can be merged into one network of the same size instead of kept as an "
        "ensemble; judge the merged network on unseen data before it replaces this one.",
        estimate=change,
        label="change of accuracy",
        references=references,
        importance=0.35,
        instrument="mode-connectivity",
        cites=("entezari2022", "ainsworth2023"),
    )


def _lead(measured: Measurement, line: str | None) -> str:
    names, seeds = _lines(measured), _seeds(measured)
    words = {PLAIN: "as they are", ALIGNED: "once hidden units are matched"}
    parts = []
    for name in names:
        barrier = measured.estimate("barrier", line=name, seed=seeds[0])
        parts.append(f"{format_interval(barrier)} with the weights {words[name]}")
    text = (
        "On the straight line to a network of another seed the test loss rises above the line "
        f"between the two ends by {' and by '.join(parts)}."
    )
    if convex(measured):
        text = (
            "The training loss bends upward everywhere on the straight lines to networks of other "
            "seeds, as that of a linear model does: no barrier lies between them."
        )
    if "accuracy_change" in measured.names:
        shown = line or names[-1]
        text += (
            f" The averaged weights, {words[shown]}, change accuracy by "
            f"{_points(_worst(measured, shown))} at worst of {2 * len(seeds)} comparisons."
        )
    return text


def _figure(measured: Measurement) -> Figure:
    names, first = _lines(measured), _seeds(measured)[0]
    panels = []
    for title, quantity in (("training data", "train_loss"), ("unseen data", "loss")):
        curves = []
        for name in names:
            low, high = measured.bounds(quantity, line=name, seed=first)
            banded = (low, high) if quantity == "loss" else (None, None)
            curves.append(figures.Curve(name, measured.values(quantity, line=name), *banded))
        panels.append((title, curves))
    positions = [float(place) for place in measured.dataset["position"].values]
    spoken = "; ".join(
        f"{name}: "
        + ", ".join(
            format_number(float(value)) for value in measured.values("loss", line=name)[0, ::5]
        )
        for name in names
    )
    return Figure(
        "loss-along-the-line",
        partial(figures.along_lines, positions=positions, panels=panels, end="another\nseed"),
        "Loss on the straight line in weight space from this network to those of "
        f"{len(_seeds(measured))} other seeds. Bands: 95 % over examples, for the first, one "
        "point at a time.",
        f"Test loss at this network, the average and the other network. {spoken}",
        height=2.9,
    )


def _table(measured: Measurement) -> Table:
    rows: list[tuple[Cell, ...]] = []
    changes = "accuracy_change" in measured.names
    for seed in _seeds(measured):
        for line in _lines(measured):
            at = {"seed": seed, "line": line}
            cells: list[Cell] = [
                f"{seed}, {line}",
                measured.estimate("train_barrier", **at),
                measured.estimate("barrier", **at),
            ]
            if changes:
                cells += [
                    measured.estimate("accuracy_change", **at, end=str(end))
                    for end in measured.dataset["end"].values
                ]
            rows.append(tuple(cells))
    rows += [_start_row(measured, changes)] if "start_loss" in measured.names else []
    columns = ["seed", "barrier, training data", "barrier, test data"]
    if changes:
        columns += ["average against this network", "average against the other"]
    return Table(tuple(columns), tuple(rows), " ".join(measured.notes))


def _start_row(measured: Measurement, changes: bool) -> tuple[Cell, ...]:
    """Barriers on the line to this network's own start, where one expects none."""
    losses = [measured.values(name) for name in ("start_train_loss", "start_loss")]
    share = measured.dataset["position"].values
    rises = [(one - one[0] - share * (one[-1] - one[0]))[1:-1].max() for one in losses]
    cells: list[Cell] = ["its own start", *(format_number(float(rise)) for rise in rises)]
    return (*cells, *(["", ""] if changes else []))
