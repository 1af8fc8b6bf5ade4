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
    may_use=("fit", "baselines"),
    references=("segment-pieces",),
    order=60,
)


def ask(results: Results) -> Panel:
    """Count pieces between examples, beside the same count before training."""
    measured: Measurement = results.measured["segment-pieces"]
    initial: Measurement | None = results.initial.get("segment-pieces")
    kinds = [str(kind) for kind in measured.dataset["pair"].values]
    rows = [
        (kind, measured.estimate("pieces", pair=kind), _initial_pieces(initial, kind))
        for kind in kinds
    ]
    return Panel(
        lead=_lead(rows),
        method="The network is piecewise linear: along a segment it is affine between knots, "
        "which are found exactly, in float64. The bars are over the segments that were drawn.",
        figures=_figures(results, measured, rows),
        tables=(_table(measured, initial, kinds),),
        assumptions=(
            Assumption("Every operation of the network is piecewise linear", "met"),
            Assumption(
                "Segments between examples are where complexity matters", "cannot be checked"
            ),
        ),
        findings=_findings(measured, initial),
    )


def _initial_pieces(initial: Measurement | None, kind: str) -> Estimate | None:
    if initial is None or kind not in initial.dataset["pair"].values:
        return None
    return initial.estimate("pieces", pair=kind)


def _lead(rows: list[tuple[str, Estimate, Estimate | None]]) -> str:
    parts = []
    for kind, trained, initial in rows:
        words = {"any": "two examples"}.get(kind, f"two examples of {kind}").replace(
            "of same class", "of the same class"
        )
        text = f"Between {words} it is made of {format_interval(trained)} straight pieces"
        if initial is not None:
            text += f" (before training {format_interval(initial)})"
        parts.append(text + ".")
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
    rows: list[tuple[str, Estimate, Estimate | None]],
) -> tuple[Figure, ...]:
    drawn = [
        Figure(
            "pieces-counts",
            partial(figures.counts, rows=rows),
            "Straight pieces on segments between two examples. Bars: 95 % over segments.",
            _lead(rows),
            height=0.8 + 0.55 * len(rows),
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


def _table(measured: Measurement, initial: Measurement | None, kinds: list[str]) -> Table:
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
            if initial is not None and name in initial.names and name != "length":
                rows.append(
                    (
                        f"{words}, at initialization",
                        *(initial.estimate(name, pair=kind) for kind in kinds),
                    )
                )
    return Table(("mean a segment", *kinds), tuple(rows), "Means over segments between examples.")
