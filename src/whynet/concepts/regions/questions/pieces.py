"""How complex is the function it became, piece by piece?"""

from __future__ import annotations

from functools import partial

from whynet.concepts.regions import figures
from whynet.core.estimate import Estimate, format_interval
from whynet.core.measurement import Measurement
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
    title="How many straight pieces is it made of?",
    short="Pieces",
    uses=("segment-pieces",),
    may_use=("wall-density", "fit", "baselines"),
    references=("segment-pieces", "wall-density"),
    order=60,
)


Numbers = tuple[tuple[str, Estimate], ...]
"""What each network shows: the examined one first."""


def ask(results: Results) -> Panel:
    """Count pieces between examples, beside the same count on the reference networks."""
    measured: Measurement = results.measured["segment-pieces"]
    others = _others(results, "segment-pieces")
    kinds = [str(kind) for kind in measured.dataset["pair"].values]
    rows = [(kind, _beside(measured, others, "pieces", "pair", kind)) for kind in kinds]
    return Panel(
        lead=_lead(rows),
        method="The network is piecewise linear: along a segment it is affine between knots, "
        "which are found exactly, in float64. The bars are over the segments that were drawn.",
        figures=_figures(results, measured, rows),
        tables=(_table(measured, others, kinds), *_density_tables(results)),
        assumptions=(
            Assumption("Every operation of the network is piecewise linear", "met"),
            Assumption(
                "Segments between examples are where complexity matters", "cannot be checked"
            ),
        ),
        findings=_findings(measured, results.initial.get("segment-pieces")),
    )


def _others(results: Results, instrument: str) -> tuple[tuple[str, Measurement], ...]:
    """Return the same measurement of the network before training and with shuffled labels."""
    held = (("at initialization", results.initial), ("shuffled labels", results.shuffled))
    return tuple((name, found[instrument]) for name, found in held if instrument in found)


def _beside(
    measured: Measurement,
    others: tuple[tuple[str, Measurement], ...],
    name: str,
    axis: str,
    label: str,
) -> Numbers:
    return tuple(
        (word, held.estimate(name, **{axis: label}))
        for word, held in (("trained", measured), *others)
        if name in held.names and label in held.dataset[axis].values
    )


def _lead(rows: list[tuple[str, Numbers]]) -> str:
    parts = []
    for kind, numbers in rows:
        words = {"any": "two examples"}.get(kind, f"two examples of {kind}").replace(
            "of same class", "of the same class"
        )
        (_, trained), *rest = numbers
        text = f"Between {words} it is made of {format_interval(trained)} straight pieces"
        names = {"at initialization": "before training", "shuffled labels": "with shuffled labels"}
        beside = [f"{names[word]} {format_interval(estimate)}" for word, estimate in rest]
        parts.append(text + (f" ({', '.join(beside)})" if beside else "") + ".")
    return " ".join(parts)


def _findings(measured: Measurement, initial: Measurement | None) -> tuple[Finding, ...]:
    """Only where segments inside a class leave it more often than a network should."""
    if "leaves_class" not in measured.names:
        return ()
    leaves = measured.estimate("leaves_class")
    if leaves.low < 0.25:
        return ()
    references = []
    if initial is not None and "leaves_class" in initial.names:
        before = initial.estimate("leaves_class")
        references.append(Reference("at initialization", before.low, before.high))
    return (
        Finding(
            key="class_interior",
            headline="Between two examples of one class it often sees another class.",
            numbers=f"On **{format_interval(leaves)}** of the straight lines between two examples "
            "of the same class, the predicted class changes on the way.",
            advice="Do not read its answers on averages of examples; training on mixed examples "
            "(mixup) is the usual remedy.",
            estimate=leaves,
            label="this network",
            references=tuple(references),
            importance=0.35,
            instrument="segment-pieces",
            cites=("raghu2017",),
            read=lambda other: other.estimate("leaves_class"),
        ),
    )


def _figures(
    results: Results,
    measured: Measurement,
    rows: list[tuple[str, Numbers]],
) -> tuple[Figure, ...]:
    drawn = [
        Figure(
            "pieces-counts",
            partial(figures.counts, rows=rows, label="straight pieces on a segment, mean"),
            "Straight pieces on segments between two examples. Bars: 95 % over segments.",
            _lead(rows),
            height=0.8 + (0.25 + 0.16 * max(len(numbers) for _, numbers in rows)) * len(rows),
        )
    ]
    if "profile" in measured.names:
        position = measured.dataset["position"].values
        curve = measured.values("profile")
        label = "output" if results.facts.classes == 0 else "lead of the second class (logits)"
        drawn.append(
            Figure(
                "pieces-profile",
                partial(figures.profile, position=position, curve=curve, label=label),
                "The network along one segment, exactly. Each tick below marks a place where a "
                "unit switches; between two ticks everything is a straight line.",
                f"A broken line of {len(position) - 1} pieces from {curve[0]:.2f} to "
                f"{curve[-1]:.2f}.",
            )
        )
    return tuple(drawn)


def _table(
    measured: Measurement, others: tuple[tuple[str, Measurement], ...], kinds: list[str]
) -> Table:
    names = (
        ("pieces", "pieces: a unit switches"),
        ("output_pieces", "pieces of the output"),
        ("class_changes", "changes of the predicted class"),
        ("length", "length, in units of the input"),
    )
    rows: list[tuple[str | Estimate, ...]] = []
    for name, words in names:
        if name in measured.names:
            rows.append((words, *(measured.estimate(name, pair=kind) for kind in kinds)))
        for word, other in others if name != "length" else ():
            # A reference may predict one class alone, and then knows other kinds of pairs.
            if name in other.names and set(kinds) <= set(other.dataset["pair"].values):
                numbers = (other.estimate(name, pair=kind) for kind in kinds)
                rows.append((f"{words}, {word}", *numbers))
    return Table(("mean a segment", *kinds), tuple(rows), "Means over segments between examples.")


def _density_tables(results: Results) -> tuple[Table, ...]:
    """Say how densely walls stand around examples, where it was measured."""
    measured: Measurement | None = results.measured.get("wall-density")
    if measured is None:
        return ()
    places = [str(place) for place in measured.dataset["place"].values]
    others = _others(results, "wall-density")
    rows: tuple[tuple[str | Estimate, ...], ...] = tuple(
        (word, *(held.estimate("wall_density", place=place) for place in places))
        for word, held in (("this network", measured), *others)
    )
    return (
        Table(
            ("walls a unit of length", *places),
            rows,
            "Walls on short segments of random direction, around examples and around the middle "
            "of two.",
        ),
    )
