"""How small could it be?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from whynet.concepts.condensation import figures
from whynet.core.estimate import Estimate, format_interval, format_number
from whynet.core.measurement import Measurement
from whynet.core.plain_text import layer_name
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
    title="How small could it be?",
    short="Size",
    uses=("size-error",),
    references=("size-error",),
    order=54,
)

TOLERATED = -0.01
"""Change of accuracy that the paired interval must stay above."""

WORDS = {
    "chosen": "chosen and refitted",
    "magnitude": "largest weights, not refitted",
    "random": "random and refitted",
}


@dataclass(frozen=True)
class Smaller:
    """A layer at one of its sizes."""

    layer: str
    share: float
    kept: int
    width: int


def ask(results: Results) -> Panel:
    """Say how many units of a layer reproduce the outputs, beside the network before training."""
    measured: Measurement = results.measured["size-error"]
    initial: Measurement | None = results.initial.get("size-error")
    small = smallest(measured)
    findings = () if small is None else _finding(measured, initial, small)
    shown = small or _half(measured)
    return Panel(
        lead=findings[0].numbers.replace("**", "") if findings else _lead(measured, shown),
        method="Units are chosen one after the other, each the one that those before explain least "
        "on the training data; the next layer is refitted to them by least squares there. "
        "Outputs and accuracy are judged on the test data. One layer is reduced at a time and "
        "nothing is trained.",
        figures=(_figure(measured, initial, shown),),
        tables=_tables(measured, shown),
        assumptions=(
            Assumption("The examples are independent draws of one population", "cannot be checked"),
            Assumption("What reproduces it on these data does so elsewhere", "cannot be checked"),
            Assumption(
                "It was measured before training too", "met" if initial is not None else "not met"
            ),
        ),
        findings=findings,
    )


def smallest(measured: Measurement) -> Smaller | None:
    """Find the layer that can lose most units, and its least size at which accuracy holds.

    Sizes are tried from large to small and the first that fails ends the search of a layer, so
    that looking at several sizes does not widen the error of its interval.
    """
    if "accuracy_change" not in measured.names:
        return None
    found: list[Smaller] = []
    for layer in (str(name) for name in measured.dataset["layer"].values):
        last = None
        for share in (float(share) for share in measured.dataset["share"].values):
            change = measured.estimate("accuracy_change", layer=layer, share=share)
            here = _at(measured, layer, share)
            if change.low <= TOLERATED or change.kind != "interval":
                break
            if here.kept < here.width:
                last = here
        if last is not None:
            found.append(last)
    return max(found, key=lambda one: one.width - one.kept, default=None)


def _at(measured: Measurement, layer: str, share: float) -> Smaller:
    kept = measured.estimate("kept", layer=layer, share=share).value
    return Smaller(layer, share, int(kept), int(measured.estimate("width", layer=layer).value))


def _half(measured: Measurement) -> Smaller:
    """Return the widest layer at half its units."""
    widest = int(np.argmax(measured.values("width")))
    return _at(measured, str(measured.dataset["layer"].values[widest]), 0.5)


def _error(measured: Measurement, small: Smaller, method: str = "chosen") -> Estimate:
    return measured.estimate("relative_error", layer=small.layer, share=small.share, method=method)


def _before(initial: Measurement | None, small: Smaller) -> Estimate | None:
    """Return the error of as many units of the same layer before training, where it is known."""
    if initial is None or small.layer not in initial.dataset["layer"].values:
        return None
    found = _error(initial, small)
    return found if np.isfinite(found.value) else None


def _finding(
    measured: Measurement, initial: Measurement | None, small: Smaller
) -> tuple[Finding, ...]:
    """Make a finding only where as many units did worse before training."""
    error, before = _error(measured, small), _before(initial, small)
    if before is None or not np.isfinite(error.value) or before.low <= error.high:
        return ()
    others = {name: _error(measured, small, name) for name in ("magnitude", "random")}
    return (
        Finding(
            key="could_be_smaller",
            headline="It could be smaller.",
            numbers=f"**{small.kept} of the {small.width}** units of layer "
            f"{layer_name(small.layer)} reproduce its outputs on unseen data to "
            f"{format_interval(error)} of their spread, with {_accuracies(measured, small)}. "
            "Before training as many units leave "
            f"{format_interval(before)}; {_others(others)}.",
            advice=f"Train a network with about {small.kept} units in this layer and compare it on "
            "unseen data: nothing was trained here, other layers were left whole, and off these "
            "data the two may differ.",
            estimate=error,
            label=f"error with {small.kept} units",
            references=(
                Reference("at initialization", before.low, before.high),
                *(Reference(name, e.low, e.high) for name, e in others.items()),
            ),
            importance=0.5 + 0.2 * (1 - small.kept / small.width),
            instrument="size-error",
            cites=("chee2022", "he2017"),
            read=lambda other: _error(other, small),
        ),
    )


def _others(others: dict[str, Estimate]) -> str:
    first, second = (
        format_number(others[name].value, "fraction") for name in WORDS if name in others
    )
    return f"of this network, those with the largest weights {first}, random ones {second}"


def _accuracies(measured: Measurement, small: Smaller) -> str:
    where = {"layer": small.layer, "share": small.share}
    now = measured.estimate("accuracy", method="chosen", **where)
    full = measured.estimate("full_accuracy")
    return (
        f"accuracy {format_interval(now)} against {format_interval(full)} "
        f"[paired: {_points(measured.estimate('accuracy_change', **where))}]"
    )


def _points(change: Estimate) -> str:
    low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in (change.low, change.high))
    return f"{low} to {high} points"


def _lead(measured: Measurement, small: Smaller) -> str:
    error = _error(measured, small)
    if not np.isfinite(error.value):
        return "The outputs do not vary over the test data, so that any size reproduces them."
    text = (
        f"With {small.kept} of the {small.width} units of layer {layer_name(small.layer)} and the "
        f"next layer refitted, outputs on unseen data are off by {format_interval(error)} of their "
        "spread"
    )
    if "accuracy_change" in measured.names:
        text += f", with {_accuracies(measured, small)}"
    return text + "."


def _figure(measured: Measurement, initial: Measurement | None, small: Smaller) -> Figure:
    kept = measured.values("kept", layer=small.layer)
    curves = []
    for method, word in WORDS.items():
        at = {"layer": small.layer, "method": method}
        curves.append(
            (word, measured.values("relative_error", **at), measured.bounds("relative_error", **at))
        )
    if _before(initial, small) is not None:
        assert initial is not None
        at = {"layer": small.layer, "method": "chosen"}
        curves.append(
            (
                "chosen, at initialization",
                initial.values("relative_error", **at),
                initial.bounds("relative_error", **at),
            )
        )
    return Figure(
        "size-error",
        partial(figures.size_curves, kept=kept, curves=curves),
        "Error of the outputs on the test data with fewer units of layer "
        f"{layer_name(small.layer)}, relative to their spread. Bands: 95 % over examples.",
        "; ".join(
            f"{word}: "
            + ", ".join(f"{k:.0f} units {100 * e:.2g} %" for k, e in zip(kept, y, strict=True))
            for word, y, _ in curves[:1]
        ),
        height=3.1,
    )


def _tables(measured: Measurement, small: Smaller) -> tuple[Table, ...]:
    shares = [float(share) for share in measured.dataset["share"].values]
    places = [(small.layer, share) for share in shares]
    others = [str(name) for name in measured.dataset["layer"].values if str(name) != small.layer]
    places += [(layer, share) for layer in others for share in (0.5, 0.25)]
    rows: list[tuple[Cell, ...]] = []
    for layer, share in places:
        here = _at(measured, layer, share)
        cells: list[Cell] = [f"{layer_name(layer)}: {here.kept} of {here.width}"]
        errors = [_error(measured, here, method) for method in WORDS]
        cells += [error if np.isfinite(error.value) else "unknown" for error in errors]
        if "accuracy_change" in measured.names:
            cells.append(measured.estimate("accuracy_change", layer=layer, share=share))
        rows.append(tuple(cells))
    columns = ["units of layer", *(f"error, {word}" for word in WORDS.values())]
    if "accuracy_change" in measured.names:
        columns.append("change of accuracy, chosen")
    return (
        Table(
            tuple(columns),
            tuple(rows),
            " ".join(("Errors are relative to the outputs' spread.", *measured.notes)),
        ),
    )
