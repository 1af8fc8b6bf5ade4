"""Which training rows are memorized rather than learned?"""

from __future__ import annotations

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
    title="Which training rows are memorized, not learned?",
    short="Memorization",
    uses=("self-influence",),
    may_use=("removal-effect", "fit"),
    order=16,
)

BALANCED = 0.9
"""Cosine of gradient and pull from which on the Newton step stands at a minimum."""

MISS = 0.4
"""Root mean square gap of probabilities, on rows really left out, up to which the step is trusted:
0.12 to 0.32 on networks that fit clean, flipped or shuffled digits, 0.88 on an untrained one."""

FITTED = 0.5
"""Share of the training rows that must be right before any of them can be memorized."""


def ask(results: Results) -> Panel:
    """Say which rows the network gets right only because it was trained on them."""
    measured: Measurement = results.measured["self-influence"]
    removal: Measurement | None = results.measured.get("removal-effect")
    test_error = _test_error(results)
    findings = _findings(measured, removal, test_error)
    return Panel(
        lead=findings[0].numbers.replace("**", "") if findings else _lead(measured, test_error),
        method="Each training row is left out by one Newton step: the network is linearized in "
        "its weights, its curvature is the damped Gauss-Newton matrix without the row. A row is "
        "memorized where the network is right now and would be wrong without it.",
        figures=(_figure(measured),),
        tables=_tables(measured, removal),
        assumptions=(
            Assumption(
                "The Newton step was checked: against rows really left out, or the weights are at "
                "a minimum of a penalized loss",
                "met" if _checked(measured) else "not met",
            ),
            Assumption("The network is close to linear in its weights", "cannot be checked"),
        ),
        findings=findings,
    )


def _test_error(results: Results) -> Estimate | None:
    """Return the share of unseen examples it gets wrong, where that is known."""
    fit: Measurement | None = results.measured.get("fit")
    if fit is None or "accuracy" not in fit.names or "test" not in fit.dataset["split"].values:
        return None
    right = fit.estimate("accuracy", split="test")
    return Estimate(
        1 - right.value, 1 - right.high, 1 - right.low, right.kind, right.level, right.unit
    )


def _checked(measured: Measurement) -> bool:
    if measured.estimate("balance").value >= BALANCED:
        return True
    return (
        measured.estimate("really_left_out").value > 0 and measured.estimate("miss").value <= MISS
    )


def _trusted(measured: Measurement, test_error: Estimate | None) -> bool:
    """Whether the step was checked, or says of rows left out what unseen data say."""
    if _checked(measured):
        return True
    right = measured.estimate("right", when="left out")
    return test_error is not None and not test_error.excludes(1 - right.high, 1 - right.low)


def _findings(
    measured: Measurement, removal: Measurement | None, test_error: Estimate | None
) -> tuple[Finding, ...]:
    """Make a finding where most rows are memorized, labels are contradicted, or removal matters.

    Unseen data are the band of reference: a row left out is unseen, so that as many of their labels
    get next to no chance as of the test examples. More of them speaks for wrong labels.
    """
    if "memorized_share" not in measured.names or not _trusted(measured, test_error):
        return ()
    share = measured.estimate("memorized_share")
    if measured.estimate("right", when="now").value < FITTED or not share.value:
        return ()
    most = measured.estimate("memorized_of_right").value > 0.5
    beyond = _excess(measured) is not None
    if not (most or beyond or _matters(removal)):
        return ()
    own = share if most or not beyond else measured.estimate("contradicted", split="train")
    band = _band(measured, test_error, own is not share)
    count = int(measured.estimate("memorized").value)
    some = "One training row is" if count == 1 else f"{count:,} training rows are"
    headline = f"{some} memorized, not learned."
    if beyond:
        headline = "Some training labels contradict what it learned from the other rows."
    if most:
        headline = "Most training rows it gets right are memorized, not learned."
    return (
        Finding(
            key="memorized_rows",
            headline=headline,
            numbers=_numbers(measured, test_error) + _effect(removal),
            advice="Look at their labels: the other rows say little about them or contradict them."
            if most
            else f"Look at them first, beginning with rows {_first(measured)} of the training "
            "data: wrong labels and rare cases both look like this.",
            estimate=own,
            label="memorized rows" if own is share else "contradicted labels",
            references=() if band is None else (Reference("on unseen data", band.low, band.high),),
            axis=(0.0, 1.0) if most else None,
            importance=0.9 if most else 0.75 if beyond else 0.6,
            instrument="self-influence",
            cites=("feldman2020", "rad2020"),
        ),
    )


def _excess(measured: Measurement) -> Estimate | None:
    """Return how many more labels are contradicted than on unseen data, where it is more."""
    if "contradicted_excess" not in measured.names:
        return None
    excess = measured.estimate("contradicted_excess")
    return excess if excess.low > 0 else None


def _matters(removal: Measurement | None) -> bool:
    """Whether training without the suspects differs from training without random rows."""
    if removal is None or "accuracy_contrast" not in removal.names:
        return False
    return removal.estimate("accuracy_contrast").excludes(0, 0)


def _band(
    measured: Measurement, test_error: Estimate | None, contradicted: bool
) -> Estimate | None:
    return measured.estimate("contradicted", split="test") if contradicted else test_error


def _numbers(measured: Measurement, test_error: Estimate | None) -> str:
    share = measured.estimate("memorized_share")
    text = (
        f"**{format_interval(share)}** of the training rows are right now and would be wrong had "
        "they been left out"
    )
    if test_error is not None:
        text += f"; of unseen data {format_interval(test_error)} are wrong"
    if _excess(measured) is not None:
        train, test = (measured.estimate("contradicted", split=s) for s in ("train", "test"))
        text += (
            f". Left out, **{format_interval(train)}** of the labels get a chance below 5 %, on "
            f"unseen data {format_interval(test)}"
        )
    return f"{text}."


def _effect(removal: Measurement | None) -> str:
    """Say what training without them did, beside training without as many random rows."""
    if removal is None or "accuracy_change" not in removal.names:
        return ""
    change, random = (
        removal.estimate("accuracy_change", rows=rows) for rows in ("suspects", "random")
    )
    count = int(removal.estimate("removed").value)
    text = (
        f" Training without the {count:,} rows that would be wrong changes accuracy by "
        f"{_points(change)}, without as many random rows by {_points(random)}"
    )
    if not removal.estimate("accuracy_contrast").excludes(0, 0):
        text += ", which cannot be told apart"
    few = ", a hint from few seeds" if change.kind == "indicative" else ""
    pairs = int(removal.estimate("pairs").value)
    return f"{text} (over {pairs} training seeds and the test examples{few})."


def _points(change: Estimate) -> str:
    value, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (change.value, change.low, change.high)
    )
    return f"{value} [{low}, {high}] points"


def _suspects(measured: Measurement) -> list[int]:
    if "suspects" not in measured.names:
        return []
    return [int(row) for row in measured.values("suspects")]


def _first(measured: Measurement) -> str:
    return ", ".join(str(row) for row in _suspects(measured)[:5])


def _lead(measured: Measurement, test_error: Estimate | None) -> str:
    now, without = (
        format_number(measured.estimate("mean_loss", when=when).value)
        for when in ("now", "left out")
    )
    if "memorized_share" not in measured.names:
        return f"The mean loss of the training rows is {now}, and would be {without} left out."
    if not _trusted(measured, test_error):
        return (
            "What the Newton step says of rows left out was not checked and does not agree with "
            "unseen data, so that no row is called memorized."
        )
    if measured.estimate("right", when="now").value < FITTED:
        return "It gets most of its training rows wrong, so that none of them is memorized."
    text = _numbers(measured, test_error).replace("**", "")
    if test_error is not None:
        text += " Their labels are contradicted no more often than those of unseen data."
    return text


def _figure(measured: Measurement) -> Figure:
    influence = np.sort(measured.values("self_influence"))[::-1]
    marked = 0
    if "memorized" in measured.names:
        marked = int(measured.estimate("memorized").value)
    return Figure(
        "self-influence",
        partial(
            figures.influence_ranks,
            influence=influence,
            marked=marked,
            unit="nats" if "memorized" in measured.names else "squared error",
        ),
        "By how much the loss of each training row would rise had it been left out, largest "
        "first. Predicted by one Newton step each; no bars are known for it.",
        f"Self-influence of {len(influence):,} rows: largest {influence[0]:.3g}, median "
        f"{np.median(influence):.3g}; {marked:,} rows are memorized.",
    )


def _tables(measured: Measurement, removal: Measurement | None) -> tuple[Table, ...]:
    tables = [] if not _suspects(measured) else [_listed(measured)]
    if removal is not None:
        names = [name for name in ("accuracy", "loss") if f"{name}_change" in removal.names]
        rows: list[tuple[Cell, ...]] = [
            (
                f"change of {name}",
                *(
                    removal.estimate(f"{name}_change", rows=which)
                    for which in ("suspects", "random")
                ),
                removal.estimate(f"{name}_contrast"),
            )
            for name in names
        ]
        columns = ("trained without", "the suspects", "as many random rows", "difference")
        tables.append(Table(columns, tuple(rows), " ".join(removal.notes)))
    return tuple(tables)


def _listed(measured: Measurement) -> Table:
    rows: list[tuple[Cell, ...]] = []
    classes = "label" in measured.names
    for row in _suspects(measured):
        cells: list[Cell] = [str(row)]
        if classes:
            label = measured.estimate("label", row=row).value
            said = measured.estimate("answer", row=row, when="left out").value
            cells += [f"{label:.0f}", f"{said:.0f}"]
            cells += [
                format_number(measured.estimate("chance", row=row, when=when).value, "fraction")
                for when in ("now", "left out")
            ]
        cells.append(format_number(measured.estimate("self_influence", row=row).value))
        rows.append(tuple(cells))
    columns = ["row", "loss rises by"]
    if classes:
        columns[1:1] = ["label", "without it: class", "chance now", "chance without it"]
    caption = (
        "Rows that would be wrong left out, the largest loss first; rows are counted from 0."
        if classes
        else "Rows with the largest loss left out, counted from 0."
    )
    return Table(tuple(columns), tuple(rows), caption)
