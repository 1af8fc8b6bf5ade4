"""Which of data, width and steps is worth buying?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from whynet.concepts.generalization import figures
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
    title="What would help: data, width or steps?",
    short="Learning curve",
    uses=("learning-curve",),
    order=28,
)

WORDS = {
    "data": ("More data would help", "twice the data", "rows"),
    "width": ("A wider network would help", "twice the width", "the width"),
    "steps": ("Training longer would help", "twice the steps", "the number of steps"),
}
"""Axis to its headline, to what a doubling is called, and to what is scaled."""

ADVICE = {
    "data": "Collect or label more rows before the network is enlarged. The gain is continued "
    "from smaller parts of these rows, not tried.",
    "width": "Train the wider network, and compare it on data that chose nothing; its cost grows "
    "with the width.",
    "steps": "Train twice as long, and compare on data that chose nothing.",
}

NAMES = {"data": "rows of training data", "width": "width", "steps": "training steps"}
FACTORS = {0.125: "⅛", 0.25: "¼", 0.5: "½", 1.0: "as it is", 2.0: "twice"}

LEAST = 0.001
"""Gain of accuracy, at the lower end of its interval, below which nothing is worth buying."""

SMALL = 0.01
"""A gain below this share of the examples is called less than a point."""


HOW = {
    "data": "every curve a + b x⁻ᶜ that the measured falls allow, continued",
    "tried": "score less that at twice, paired by seed and example",
}
"""How the gain of an axis was found."""


def ask(results: Results) -> Panel:
    """Say what a doubling of each is worth, or that it cannot be told yet."""
    measured: Measurement = results.measured["learning-curve"]
    axes = [str(axis) for axis in measured.dataset["axis"].values]
    findings = _finding(measured, axes, results.facts.task)
    foretold = foretold_holds(measured)
    assumptions = [
        Assumption("The training function trains as the user did", "cannot be checked"),
        Assumption(
            "Settings tuned at the present size suit the other sizes too", "cannot be checked"
        ),
    ]
    if foretold is not None:
        text = "The parts of the data foretell the error on all rows"
        assumptions.append(Assumption(text, "met" if foretold else "not met"))
    return Panel(
        lead=" ".join(_sentence(measured, axis, results.facts.task) for axis in axes),
        method="Networks were trained anew with a part of the rows, at other widths and for other "
        "numbers of steps, from the same seeds at every point. Width and steps were doubled in "
        "fact; for data, a + b x⁻ᶜ is continued by one doubling, and the interval holds every "
        "such curve that the measured falls allow. Intervals are over seeds and test examples "
        "together; the training rows are given. A training function that counts epochs takes "
        "fewer steps on fewer rows.",
        figures=(_figure(measured, axes, results.facts.task),),
        tables=_tables(measured, axes),
        assumptions=tuple(assumptions),
        findings=findings,
    )


def foretold_holds(measured: Measurement) -> bool | None:
    """Whether the curve through the smaller parts foretold the error on all rows; None: unknown."""
    if "foretold_gap" not in measured.names:
        return None
    gap = measured.estimate("foretold_gap")
    return bool(gap.low <= 0 <= gap.high) if np.isfinite(gap.value) else None


def _finding(measured: Measurement, axes: list[str], task: str) -> tuple[Finding, ...]:
    """Make a finding of the axis that helps most, where that is resolved for all that were tried.

    A continuation of the data is believed only where it foretold what was measured.
    """
    worths = {axis: measured.estimate("worth_joint", axis=axis) for axis in axes}
    least = LEAST if "classification" in task else 0.0
    helps = {axis: worth for axis, worth in worths.items() if worth.low > least}
    if foretold_holds(measured) is False:
        helps.pop("data", None)
    if not helps:
        return _nothing(measured, worths, task)
    best = max(helps, key=lambda axis: helps[axis].value)
    others = [axis for axis in axes if axis != best]
    beaten = [axis for axis in others if worths[axis].high < helps[best].low]
    headline = WORDS[best][0]
    if beaten:
        headline += f" more than {' or '.join(WORDS[axis][1] for axis in beaten)}"
    worth, error = helps[best], measured.estimate("error", axis=best, factor=1.0)
    curve = "if the curve goes on" if best == "data" else "tried"
    numbers = (
        f"{_decay(measured, best)}{WORDS[best][1].capitalize()} lowers {_score(task)} of "
        f"{format_number(error.value, error.unit)} by **{_points(worth)}** ({curve})"
    )
    if others:
        told = [f"{WORDS[a][1]} by {_points(worths[a])}" for a in others if _known(worths[a])]
        numbers += "; " + " and ".join(told) if told else ""
    seeds = int(measured.estimate("seeds").value)
    share = worth.value / error.value if error.value > 0 else 0.0
    return (
        Finding(
            key="learning_curve",
            headline=f"{headline}.",
            numbers=f"{numbers}; {seeds} training seeds.",
            advice=ADVICE[best],
            estimate=replace(worth, how=HOW["data" if best == "data" else "tried"]),
            label=f"gain from {WORDS[best][1]}",
            references=tuple(
                Reference(WORDS[a][1], worths[a].low, worths[a].high)
                for a in others
                if _known(worths[a])
            ),
            importance=min(0.75, 0.5 + 0.5 * share),
            instrument="learning-curve",
            cites=("hestness2017",),
            regardless=True,
        ),
    )


def _nothing(measured: Measurement, worths: dict[str, Estimate], task: str) -> tuple[Finding, ...]:
    """Say that nothing is worth buying, where every gain is resolved to be small."""
    if "classification" not in task or len(worths) < 2 or foretold_holds(measured) is False:
        return ()
    largest = max(worths, key=lambda axis: worths[axis].high)
    error = measured.estimate("error", axis=largest, factor=1.0)
    resolved = all(_known(worth) and worth.high < SMALL for worth in worths.values())
    if not resolved or error.low <= SMALL:
        return ()
    told = ", ".join(f"{WORDS[axis][1]} by {_points(worth)}" for axis, worth in worths.items())
    return (
        Finding(
            key="learning_curve",
            headline=f"Neither {' nor '.join(WORDS[axis][1] for axis in worths)} buys a point.",
            numbers=f"Its test error of {format_interval(error)} falls with {told}.",
            advice="Change what it sees or how it is trained rather than its size: other features, "
            "augmentation, regularization, or the labels of what it gets wrong.",
            estimate=worths[largest],
            label=f"gain from {WORDS[largest][1]}",
            importance=0.4,
            instrument="learning-curve",
            cites=("hestness2017",),
            regardless=True,
        ),
    )


def _known(estimate: Estimate) -> bool:
    return bool(np.isfinite([estimate.value, estimate.low, estimate.high]).all())


def _score(task: str) -> str:
    return {"regression": "the unexplained variance", "other": "the test loss"}.get(
        task, "the test error"
    )


def _decay(measured: Measurement, axis: str) -> str:
    """Say by which power the error falls, where the slope is resolved."""
    slope = measured.estimate("slope", axis=axis)
    if not _known(slope) or slope.high >= 0:
        return ""
    flipped = replace(slope, value=-slope.value, low=-slope.high, high=-slope.low)
    return f"The error falls as {WORDS[axis][2]} to the power −c, c = {format_interval(flipped)}. "


def _points(change: Estimate) -> str:
    """Write a gain with its interval, in points where it is a share."""
    if change.unit != "fraction":
        return format_interval(change)
    ends = (100 * x for x in (change.value, change.low, change.high))
    value, low, high = (f"{x:.1f}".replace("-0.0", "0.0").replace("-", "−") for x in ends)
    return f"{value} points [{low}, {high}]"


def _sentence(measured: Measurement, axis: str, task: str) -> str:
    """Say what a doubling of one axis does to the error."""
    worth, name = measured.estimate("worth_joint", axis=axis), WORDS[axis][1]
    verb = "would lower" if axis == "data" else "lowers"
    if not _known(worth):
        reason = "a run diverged, or the errors follow no curve of this form"
        return f"What {name} would do cannot be said: {reason}."
    if axis == "data" and foretold_holds(measured) is False:
        return "Smaller parts do not foretell the error on all rows; nothing is said of more data."
    if worth.low > 0:
        return f"{name.capitalize()} {verb} {_score(task)} by {_points(worth)}."
    if worth.high < 0:
        return f"{name.capitalize()} raises {_score(task)}: by {_points(worth)} it falls."
    return f"What {name} would buy cannot be told yet: {_score(task)} falls by {_points(worth)}."


def _figure(measured: Measurement, axes: list[str], task: str) -> Figure:
    panels, words = [], []
    for axis in axes:
        points = []
        for factor in (float(f) for f in measured.dataset["factor"].values):
            estimate = measured.estimate("error", axis=axis, factor=factor)
            if np.isfinite(estimate.value):
                points.append((factor, estimate))
        if not points:
            continue
        panels.append((NAMES[axis], points, _foretold(measured) if axis == "data" else None))
        shown = ", ".join(f"{FACTORS[f]} {format_number(e.value, e.unit)}" for f, e in points)
        words.append(f"{NAMES[axis]}: {shown}")
    label = {"regression": "1 − R²", "other": "test loss"}.get(task, "test error")
    return Figure(
        "learning-curve",
        partial(figures.learning_curves, panels=panels, label=label),
        "Error on the test data against the factor on each axis; 1 is the user's own setting. "
        "Bars: 95 % over seeds and examples. Open: foretold, with the bar of the gain alone.",
        "; ".join(words) or "Every run diverged.",
        height=2.6,
    )


def _foretold(measured: Measurement) -> Estimate | None:
    """Return the error that twice the data would leave."""
    worth = measured.estimate("worth_joint", axis="data")
    error = measured.estimate("error", axis="data", factor=1.0)
    if not _known(worth) or not np.isfinite(error.value):
        return None
    ends = (error.value - end for end in (worth.value, worth.high, worth.low))
    value, low, high = ends
    return replace(worth, value=value, low=low, high=high)


def _tables(measured: Measurement, axes: list[str]) -> tuple[Table, ...]:
    rows: list[tuple[Cell, ...]] = []
    for axis in axes:
        for factor in (float(f) for f in measured.dataset["factor"].values):
            failed = measured.estimate("diverged", axis=axis, factor=factor).value
            if np.isnan(failed):
                continue
            where = {"axis": axis, "factor": factor}
            found = [measured.estimate(name, **where) for name in ("error", "loss")]
            cells: list[Cell] = [e if np.isfinite(e.value) else "diverges" for e in found]
            rows.append((f"{NAMES[axis]}, {FACTORS[factor]}", *cells, str(int(failed))))
    doubled: list[tuple[Cell, ...]] = []
    for axis in axes:
        found = [measured.estimate(name, axis=axis) for name in ("slope", "worth", "loss_worth")]
        doubled.append((NAMES[axis], *(e if _known(e) else "unknown" for e in found)))
    return (
        Table(
            ("trained with", "test error", "test loss", "runs that diverged"),
            tuple(rows),
            " ".join(
                (
                    f"{int(measured.estimate('seeds').value)} training seeds; the network as it "
                    f"is: {format_interval(measured.estimate('own_error'))}.",
                    *measured.notes,
                )
            ),
        ),
        Table(
            ("axis", "slope in logarithms", "error saved by twice", "loss saved by twice"),
            tuple(doubled),
            "For data by continuing the curve, for width and steps by trying. Each at 95 %; "
            "findings ask that all hold together.",
        ),
    )
