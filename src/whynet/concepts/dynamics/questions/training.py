"""What happened in training, and what of it should be changed?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.dynamics import figures
from whynet.concepts.dynamics.figures import Line
from whynet.concepts.dynamics.films import film
from whynet.core.estimate import Estimate, format_interval, format_number
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
    title="What happened in training?",
    short="Training",
    uses=("training-record",),
    order=58,
)

INSTRUMENT = "training-record"

NEAR = 0.8
"""Share of the stability limit from which full-batch training counts as at its edge."""

ROOM = 0.5
"""Share of the limit that the sharpness of full-batch training must stay below to leave room."""

FACTOR = 2.0
"""How far batch size and noise scale must lie apart at every step that is looked at."""

LEFT = 0.1
"""Share of the fall of the loss that is still to come where the noise scale is looked at: near
the end the mean gradient vanishes, and the noise scale grows whatever the batch is."""

STILL = 0.05
"""Share of the whole fall of the loss that must lie in the last half of the steps."""

ROWS = {
    "loss": "training loss",
    "gradient_norm": "gradient norm",
    "noise_scale": "noise scale (examples)",
    "sharpness": "sharpness",
    "sharpness_over_limit": "sharpness over its limit",
    "trace": "trace of the Hessian",
    "kernel_shape_drift": "kernel: 1 − CKA to the start",
    "kernel_trace_ratio": "kernel: trace over the start's",
    "feature_rank": "effective rank of the last features",
    "pieces_between_rows": "straight pieces between two rows",
    "cells_of_triangle": "cells of the triangle of three rows",
    "weight_norm": "norm of the weights",
    "distance_from_start": "distance from the start",
}


def ask(results: Results) -> Panel:
    """Show the run, and say where its step size, batch size or length should be changed."""
    measured: Measurement = results.measured[INSTRUMENT]
    full = _full_batch(measured, results.facts.train_examples)
    asked = (_edge(measured, full), _room(measured, full), _batch(measured), _end(measured))
    findings = [found for found in asked if found is not None and trained(measured)]
    return Panel(
        lead=_lead(measured),
        method="Measured on a copy in the course of training, on the same training rows at every "
        "step: the largest eigenvalue of the Hessian of the training objective by Lanczos, the "
        "noise scale from the gradients of groups of rows, the neural tangent kernel against that "
        "of the start.",
        figures=_figures(measured),
        tables=(_table(measured),),
        assumptions=(
            Assumption(
                "Second moments of Adam and the batch's curvature stand still for a few steps",
                "cannot be checked",
            ),
            Assumption(
                "Steps use all rows, so that the stability limit is one to be reached",
                "met" if full else "not met" if batch_size(measured) else "cannot be checked",
            ),
        ),
        findings=tuple(findings),
    )


def steps_of(measured: Measurement) -> np.ndarray:
    """Return the recorded steps."""
    return np.asarray(measured.dataset["step"].values)


def trained(measured: Measurement) -> bool:
    """Whether the record holds a step at which the weights had moved, as far as is known."""
    if len(steps_of(measured)) < 2:
        return False
    moved = _last(measured, "distance_from_start")
    return moved is None or moved.value > 0


def batch_size(measured: Measurement) -> float | None:
    """Return the rows of a training step, where they were logged."""
    found = _last(measured, "batch_size")
    return None if found is None else found.value


def _ended_well(measured: Measurement) -> bool:
    """Whether the loss at the last step is a number; unknown where losses were not recorded."""
    return "loss" not in measured.names or bool(np.isfinite(measured.values("loss")[-1]))


def _full_batch(measured: Measurement, rows: int) -> bool:
    size = batch_size(measured)
    return size is not None and 0 < rows <= size


def _points(measured: Measurement, name: str) -> list[tuple[int, Estimate]]:
    """Return the steps after the start at which a quantity is known."""
    if name not in measured.names:
        return []
    every = [(int(s), measured.estimate(name, step=s)) for s in steps_of(measured)]
    return [(step, found) for step, found in every if step > 0 and np.isfinite(found.value)]


def _last(measured: Measurement, name: str) -> Estimate | None:
    points = _points(measured, name)
    return points[-1][1] if points else None


def _half(points: list[tuple[int, Estimate]]) -> list[Estimate]:
    """Keep what was recorded in the last half of the steps."""
    return [found for step, found in points if step >= points[-1][0] / 2]


def _edge(measured: Measurement, full: bool) -> Finding | None:
    """Sharpness at its limit: with all rows a step near it, with fewer beyond it."""
    late = _half(_points(measured, "sharpness_over_limit"))
    if not _ended_well(measured) or len(late) < 2:
        return None
    if min(found.low for found in late) <= (NEAR if full else 1.0):
        return None
    last = late[-1]
    return Finding(
        key="edge_of_stability",
        headline="It was trained at the edge of stability.",
        numbers=f"In the last half of the steps the sharpness of the training objective was at "
        f"least **{format_number(min(f.low for f in late))}** of the largest at which these steps "
        f"are stable, at the last one {format_interval(last)}.",
        advice="Expect a loss that goes up and down: the step size, not the data, holds the "
        "sharpness there. Lower it, or let it decay, where a steady end matters, and do not read "
        "the sharpness as a property of the solution.",
        estimate=last,
        label="sharpness over its limit",
        references=(Reference("limit", 1.0, 1.0),),
        importance=0.5,
        instrument=INSTRUMENT,
        cites=("cohen2021", "cohen2022"),
    )


def _room(measured: Measurement, full: bool) -> Finding | None:
    """Full-batch training far below its limit; with minibatches that would say nothing."""
    points = [found for _, found in _points(measured, "sharpness_over_limit")]
    if not _ended_well(measured) or not full or len(points) < 3:
        return None
    most = max(points, key=lambda found: found.high)
    if most.high >= ROOM:
        return None
    return Finding(
        key="step_size_has_room",
        headline="The step size has room.",
        numbers="Each step used all training rows, and the sharpness of the training objective "
        f"stayed below **{format_number(most.high)}** of the largest at which such steps are "
        "stable, at every recorded step.",
        advice="Try twice the step size: as far as stability goes it reaches the same loss in "
        "fewer steps. Compare the two on unseen data.",
        estimate=most,
        label="largest sharpness over its limit",
        references=(Reference("limit", 1.0, 1.0),),
        axis=(0.0, 1.1),
        importance=0.55,
        instrument=INSTRUMENT,
        cites=("cohen2021",),
    )


def falling(measured: Measurement) -> list[Estimate]:
    """Noise scales at the recorded steps at which most of the fall of the loss was to come."""
    if "loss" not in measured.names or "noise_scale" not in measured.names:
        return []
    loss = measured.values("loss")
    if not np.isfinite(loss[[0, -1]]).all() or loss[0] <= loss[-1]:
        return []
    enough = loss[-1] + LEFT * (loss[0] - loss[-1])
    chosen = [s for s, value in zip(steps_of(measured), loss, strict=True) if s and value > enough]
    found = [measured.estimate("noise_scale", step=step) for step in chosen]
    return found if all(np.isfinite(one.value) for one in found) else []


def _batch(measured: Measurement) -> Finding | None:
    """Compare the batch size with the noise scale while the loss falls."""
    size, scales = batch_size(measured), falling(measured)
    if size is None or len(scales) < 3:
        return None
    larger = min(one.low for one in scales) > FACTOR * size
    smaller = max(one.high for one in scales) < size / FACTOR
    if not larger and not smaller:
        return None
    least = min(scales, key=lambda one: one.low)
    shown = least if larger else max(scales, key=lambda one: one.high)
    if not np.isfinite(shown.high):
        return None
    way = "at least" if larger else "at most"
    edge = format_number(least.low if larger else shown.high)
    return Finding(
        key="batch_could_grow" if larger else "batch_larger_than_noise",
        headline="Larger batches would save steps."
        if larger
        else "Its batches are larger than its gradient noise asks for.",
        numbers=f"While the loss fell the gradient noise scale was {way} **{edge}** examples, and "
        f"a step used {format_number(size)}.",
        advice=f"Where machines are free to work side by side, raise the batch size to about {edge}"
        " and the step size with it: the number of steps falls nearly as fast as the batch grows."
        if larger
        else f"Try batches of about {edge}: nearly as much progress a step, for fewer examples.",
        estimate=shown,
        label="gradient noise scale",
        references=(Reference("batch size", size, size),),
        importance=0.45,
        instrument=INSTRUMENT,
        cites=("mccandlish2018",),
    )


def _end(measured: Measurement) -> Finding | None:
    """Say so where a good part of the fall of the loss lies in the last half of the steps."""
    change, loss = _last(measured, "loss_change"), _last(measured, "loss")
    if change is None or loss is None or not np.isfinite(measured.values("loss")[[0, -1]]).all():
        return None
    steps = steps_of(measured)
    since = max((int(step) for step in steps if 2 * step <= steps[-1]), default=0)
    if 4 * since < steps[-1]:  # Nothing near the middle was recorded: that would be the whole fall.
        return None
    whole = float(measured.values("loss")[0] - loss.value)
    if whole <= 0 or -change.high < STILL * whole or not np.isfinite(change.low):
        return None
    ends = (-change.value / whole, -change.high / whole, -change.low / whole)
    share = Estimate(
        ends[0], ends[1], ends[2], change.kind, change.level, "fraction",
        "fall of the loss since at most half the steps, over the whole fall", change.over,
    )  # fmt: skip
    return Finding(
        key="loss_still_falling",
        headline="Training stopped while the loss was falling.",
        numbers=f"**{format_interval(share)}** of the whole fall of the training loss came in the "
        f"last half of the steps; it ended at {format_interval(loss)}.",
        advice="Train it longer, or with a larger step size, and judge on unseen data whether that "
        "helps.",
        estimate=share,
        label="fall in the last half",
        references=(Reference("settled", 0.0, STILL),),
        axis=(0.0, 1.0),
        importance=0.58,
        instrument=INSTRUMENT,
    )


def _lead(measured: Measurement) -> str:
    steps = steps_of(measured)
    if not trained(measured):
        return "The record holds no step at which the weights had moved: nothing was trained."
    words = [f"{len(steps)} of {int(steps[-1]):,} steps were measured."]
    loss, drift = _last(measured, "loss"), _last(measured, "kernel_shape_drift")
    if loss is not None and np.isfinite(measured.values("loss")[0]):
        first = format_number(float(measured.values("loss")[0]))
        words.append(
            f"The training loss went from {first} to {format_number(loss.value)}."
        )  # fmt: skip
    if drift is not None:
        words.append(f"The shape of the kernel moved by {format_number(drift.value)} (1 − CKA).")
    ratio = _points(measured, "sharpness_over_limit")
    if ratio:
        most = format_number(max(found.value for _, found in ratio))
        words.append(
            f"The sharpness of the training objective reached {most} of its stability limit; "
            "where steps use a part of the rows it settles below, so that this alone says little."
        )
    return " ".join(words)


def _line(measured: Measurement, name: str, label: str, logarithmic: bool) -> Line | None:
    if name not in measured.names or not np.isfinite(measured.values(name)).any():
        return None
    low, high = measured.bounds(name)
    reference: tuple[float, str] | None = None
    if name == "sharpness_over_limit":
        reference = (1.0, "limit")
    size = batch_size(measured)
    if name == "noise_scale" and size is not None:
        reference = (size, "batch size")
    return Line(label, measured.values(name), low, high, logarithmic, reference)


_PICTURES = (
    (
        "training",
        (("loss", "loss", True), ("sharpness_over_limit", "sharpness /\nlimit", False)),
        "Training loss, and the largest eigenvalue of the Hessian of the training objective over "
        "the largest at which the optimizer's steps are stable. Bands: 95 % over draws of training "
        "rows; 99.99 % over start vectors, mostly too narrow to see.",
        "Training loss and sharpness over its stability limit against the step.",
    ),
    (
        "training-pieces",
        (
            ("pieces_between_rows", "pieces between\ntwo rows", False),
            ("cells_of_triangle", "cells of a\ntriangle", False),
        ),
        "Straight pieces of the network along segments between training rows, in the mean with its "
        "95 % interval over segments, and cells of the triangle of three training rows. Segments "
        "and triangle are the same at every step; all counts are exact.",
        "Pieces between rows and cells of a triangle against the step.",
    ),
    (
        "training-inside",
        (
            ("noise_scale", "noise scale", True),
            ("kernel_shape_drift", "1 − CKA", False),
            ("feature_rank", "feature rank", False),
        ),
        "Gradient noise scale in examples, drift of the neural tangent kernel from the start, and "
        "effective rank of the last features. Bands: 95 % over draws of training rows (of the "
        "kernel a hint only); one that reaches the upper edge has no upper end.",
        "Noise scale, kernel drift and feature rank against the step.",
    ),
)
"""Name, quantities with label and scale, caption and words for those who cannot see it."""


def _figures(measured: Measurement) -> tuple[Figure, ...]:
    found = []
    for name, wanted, caption, alt in _PICTURES:
        lines = [line for one in wanted if (line := _line(measured, *one)) is not None]
        if lines:
            draw = partial(figures.over_steps, steps=steps_of(measured), lines=lines)
            found.append(Figure(name, draw, caption, alt, height=0.7 + 1.4 * len(lines)))
        if name == "training-pieces":
            found += film(measured)
    return tuple(found)


def _table(measured: Measurement) -> Table:
    steps = steps_of(measured)
    middle = int(steps[np.searchsorted(steps, steps[-1] / 2)])
    chosen = list(dict.fromkeys((int(steps[0]), middle, int(steps[-1]))))
    rows = []
    for name, words in ROWS.items():
        if name in measured.names:
            found = [measured.estimate(name, step=step) for step in chosen]
            cells = [one if np.isfinite(one.value) else "unknown" for one in found]
            rows.append((words, *cells))
    missing = dict.fromkeys(_missing(measured, name) for name in ROWS if name in measured.names)
    titles = tuple(f"step {step:,}" for step in chosen)
    return Table(("", *titles), tuple(rows), " ".join(filter(None, missing)))


def _missing(measured: Measurement, name: str) -> str:
    """Say why a quantity has no number, and at which steps where it has one at others."""
    reason = str(measured.dataset[name].attrs.get("missing", ""))
    gaps = steps_of(measured)[~np.isfinite(measured.values(name))]
    if not reason or not len(gaps) or len(gaps) == len(measured.values(name)):
        return reason
    where = ", ".join(f"{int(step):,}" for step in gaps[:3]) + (" …" if len(gaps) > 3 else "")
    return f"{ROWS[name].capitalize()}, at step {where}: {reason[:1].lower()}{reason[1:]}"
