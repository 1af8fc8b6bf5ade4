"""How far do its weights move as it grows wider, and what would another start do?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.condensation import ladder_figures as figures
from whynet.concepts.condensation.theory.width_exponents import BAND, trend
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
    title="How far do its weights move, and what would another start do?",
    short="Start and width",
    uses=("weight-change",),
    order=87,
)

FEWER = 0.75
"""Share of the directions from the usual start below which another start condenses more."""
ALIKE = 2.0
"""Factor between training losses of two widths up to which training got equally far."""
FITTED = 0.01
"""Share of its training loss that a network may keep and count as fitted."""
CITES = ("luo2021", "zhou2022", "yang2023")


def ask(results: Results) -> Panel:
    """Say how movement depends on the width, and what scaling the start does to the network."""
    measured: Measurement = results.measured["weight-change"]
    words = "accuracy" if "classification" in results.facts.task else "R²"
    found = (_better(measured, words), _condenses(measured, words), _still(measured))
    findings = [finding for finding in found if finding is not None]
    return Panel(
        lead=" ".join([_regime(measured), *_other_starts(measured, words)]),
        method="Copies are built and trained as this network was, at several widths and from "
        "starts whose weights are all multiplied by one number. How far a layer moved is the part "
        "of its change that is not along its start (weight decay shrinks every start alike), "
        "over the start; in spectral norms where both sides of the matrix grow with the width.",
        figures=_figures(measured, words),
        tables=_tables(measured),
        assumptions=(
            Assumption(
                "The training function is the one this network was trained with, and does not "
                "draw the weights anew",
                "cannot be checked",
            ),
            _equally_far(measured),
            Assumption(
                f"What holds over widths of {_widths(measured)} holds beyond", "cannot be checked"
            ),
        ),
        findings=tuple(findings[:2]),
    )


# ---- the regime, from the slope over widths alone ---------------------------------------


def _regime(measured: Measurement) -> str:
    """Name a regime from the interval of the exponent, or say that it cannot be told."""
    if len(measured.dataset["width"]) < 2:
        return (
            "No regime can be named: one width was trained, and one width has no exponent (the "
            "function that builds the network takes no argument width_factor)."
        )
    law = measured.estimate("furthest_slope", scale=1.0)
    if not np.isfinite(law.value):
        return "No regime can be named: not every width could be trained from the usual start."
    over = f"over widths of {_widths(measured)}"
    power = f"as width to the power {format_interval(law)} {over}"
    named = trend(law.low, law.high)
    told = {
        "linear": f"The wider the network, the less its features move: {power}, as in the linear "
        "regime.",
        "condensed": f"The wider the network, the further its features move: {power}, as in the "
        "condensed regime.",
        "critical": f"Features move as far at every width: {power}, as between the linear and the "
        "condensed regime.",
    }
    return told.get(
        named,
        f"The regime cannot be told: features move {power}, where below −{BAND} is the linear "
        f"regime and above {BAND} the condensed one. More rounds make the interval shorter.",
    )


def _widths(measured: Measurement) -> str:
    widths = [float(width) for width in measured.dataset["width"].values]
    return f"×{widths[0]:g} to ×{widths[-1]:g}" if len(widths) > 1 else f"×{widths[0]:g}"


def _equally_far(measured: Measurement) -> Assumption:
    """Check that training got as far at every width: else movement means length of training."""
    text = "Training from the usual start gets equally far at every width"
    left = measured.values("train_loss", scale=1.0)
    first = measured.values("first_train_loss", scale=1.0)
    if not (np.isfinite(left).all() and np.isfinite(first).all()) or len(left) < 2:
        return Assumption(text, "cannot be checked")
    met = bool((left <= FITTED * first).all()) or float(left.max() / left.min()) <= ALIKE
    losses = ", ".join(format_number(float(loss)) for loss in left)
    return Assumption(f"{text} (training losses {losses})", "met" if met else "not met")


# ---- other starts -----------------------------------------------------------------------


def _others(measured: Measurement) -> list[float]:
    if "other" not in measured.dataset.coords:
        return []
    return [float(scale) for scale in measured.dataset["other"].values]


def _times(scale: float) -> str:
    return f"×{scale:g}"


def _effect(measured: Measurement, score: str) -> tuple[str, str, bool] | None:
    """Return quantity of what another start changes, its words, and whether more is better."""
    if "score_change" in measured.names:
        return "score_change", score, True
    return ("loss_change", "test loss", False) if "loss_change" in measured.names else None


def _other_starts(measured: Measurement, score: str) -> list[str]:
    """Say of every other start what it changes, one sentence each."""
    found = []
    effect = _effect(measured, score)
    for scale in _others(measured):
        parts = []
        if effect is not None:
            change = measured.estimate(effect[0], other=scale)
            if not np.isfinite(change.value):
                found.append(f"From a start {_times(scale)} a run diverged.")
                continue
            parts.append(f"{effect[1]} changes by {format_interval(change)}")
        if "direction_ratio" in measured.names:
            ratio = measured.estimate("direction_ratio", other=scale)
            if np.isfinite(ratio.value):
                parts.append(f"neurons keep {format_interval(ratio)} times the directions")
        if parts:
            found.append(f"From a start {_times(scale)}, {' and '.join(parts)}.")
    return found


def _better(measured: Measurement, score: str) -> Finding | None:
    """Say that another start predicts better, where its interval for all of them lies above 0."""
    effect = _effect(measured, score)
    if effect is None:
        return None
    name, words, more = effect
    sign = 1.0 if more else -1.0
    known = [
        (scale, measured.estimate(f"{name}_joint", other=scale)) for scale in _others(measured)
    ]
    gains = [(s, e) for s, e in known if (e.low if more else -e.high) > 0]
    if not gains:
        return None
    scale, change = max(gains, key=lambda pair: sign * pair[1].value)
    return _finding(
        "another_start_predicts_better",
        f"From weights of {_times(scale)} the size it would predict better.",
        f"Copies trained from such a start change {words} by **{format_interval(change)}**, paired "
        "by seed and example, at the level for all starts tried.",
        f"Multiply the weights by {scale:g} before training.",
        change,
        f"change of {words}",
        Reference("no change", 0.0, 0.0),
        0.55,
    )


def _condenses(measured: Measurement, score: str) -> Finding | None:
    """Say that a smaller start condenses it, where no loss on the test data is shown."""
    if "direction_ratio" not in measured.names or "score_change" not in measured.names:
        return None
    for scale in sorted(_others(measured)):
        ratio = measured.estimate("direction_ratio", other=scale)
        change = measured.estimate("score_change_joint", other=scale)
        if scale < 1 and ratio.high < FEWER and change.high >= 0:
            after, before = (_directions(measured, s) for s in (scale, 1.0))
            return _finding(
                "smaller_start_condenses",
                f"From weights of {_times(scale)} the size its neurons would condense.",
                f"Copies trained from such a start end with **{format_interval(ratio)}** times "
                f"the directions, {after} in place of {before}, paired by seed; {score} "
                f"changes by {format_interval(change)}.",
                f"Multiply the weights by {scale:g} before training, then let `whynet condense` "
                "take what is alike out of the trained network.",
                ratio,
                "ratio of directions",
                Reference("usual start", FEWER, 1.0),
                0.4,
            )
    return None


def _directions(measured: Measurement, scale: float) -> str:
    values = measured.values("directions", scale=scale, width=1.0)
    return format_number(float(values.sum()))


def _still(measured: Measurement) -> Finding | None:
    """Say that movement depends on the width, where the interval leaves the band."""
    law = measured.estimate("furthest_slope", scale=1.0)
    named = trend(law.low, law.high)
    if named not in ("linear", "condensed"):
        return None
    less = named == "linear"
    return _finding(
        "features_move_less" if less else "features_move_more",
        f"The wider this network, the {'less' if less else 'further'} its features move.",
        "The layer before the last that training moves furthest moves as width to the power "
        f"**{format_interval(law)}** over widths of {_widths(measured)}; 0 is the same at all.",
        "Widening it takes it towards its kernel: start from smaller weights, or raise the step "
        "size with the width (maximal update), if features are to be learned."
        if less
        else "Widening it adds few new directions: see what `whynet condense` leaves of it first.",
        law,
        "power of the width",
        Reference("the same at all", -BAND, BAND),
        0.3,
    )


def _finding(
    key: str,
    headline: str,
    numbers: str,
    advice: str,
    estimate: Estimate,
    label: str,
    reference: Reference,
    importance: float,
) -> Finding:
    return Finding(
        key=key,
        headline=headline,
        numbers=numbers,
        advice=advice,
        estimate=estimate,
        label=label,
        references=(reference,),
        importance=importance,
        instrument="weight-change",
        cites=CITES,
        regardless=True,
    )


# ---- pictures and tables ----------------------------------------------------------------


def _figures(measured: Measurement, score: str) -> tuple[Figure, ...]:
    widths = [float(width) for width in measured.dataset["width"].values]
    scales = [float(scale) for scale in measured.dataset["scale"].values]
    changes = [
        figures.Line(
            f"start {_times(s)}",
            measured.values("furthest", scale=s),
            *measured.bounds("furthest", scale=s),
        )
        for s in scales
    ]
    lines = []
    if "directions" in measured.names:
        for s in scales:
            after = measured.values("directions", scale=s).sum(0)
            low, high = (bound.sum(0) for bound in measured.bounds("directions", scale=s))
            before = measured.values("directions_before", scale=s).sum(0) if s == 1 else None
            lines.append(figures.Line(f"start {_times(s)}", after, low, high, before))
    caption = (
        "Left: how far" if lines else "How far"
    ) + " the layer before the last that moved furthest moved, relative to its start."
    if lines:
        caption += " Right: directions that hold 99 % of what units contribute, over all layers."
    caption += " Bars: t over seeds, cut at a factor of two."
    made = [
        Figure(
            "weight-change",
            partial(figures.ladder, widths=widths, changes=changes, directions=lines),
            caption,
            "; ".join(
                f"start {_times(s)}: power {format_interval(law)}"
                if np.isfinite((law := measured.estimate("furthest_slope", scale=s)).value)
                else f"start {_times(s)}: no power"
                for s in scales
            ),
            height=2.9,
        )
    ]
    return (*made, *_effect_figure(measured, score))


def _effect_figure(measured: Measurement, score: str) -> tuple[Figure, ...]:
    effect, others = _effect(measured, score), _others(measured)
    if effect is None or not others:
        return ()
    name, words, _ = effect
    # Accuracy in points, as the sentences have it.
    unit, factor = (" in %", 100.0) if words == "accuracy" else ("", 1.0)
    low, high = (factor * bound for bound in measured.bounds(name))
    return (
        Figure(
            "starting-scale",
            partial(
                figures.effects, names=[f"start {_times(s)}" for s in others],
                values=factor * measured.values(name), low=low, high=high,
                words=f"change of {words}{unit}",
            ),
            f"Change of {words} on test data at this width, less that from the usual start; bars: "
            "over training seeds and test examples.",
            "; ".join(
                f"start {_times(s)}: {format_interval(measured.estimate(name, other=s))}"
                for s in others
            ),
            height=0.9 + 0.4 * len(others),
        ),
    )  # fmt: skip


def _tables(measured: Measurement) -> tuple[Table, ...]:
    scales = [float(scale) for scale in measured.dataset["scale"].values]
    rows: list[tuple[Cell, ...]] = []
    for layer, norm in zip(
        measured.dataset["layer"].values, measured.dataset["norm"].values, strict=True
    ):
        last = layer == measured.dataset["layer"].values[-1]
        kind = ", spectral" if norm == "spectral" else ""
        name = f"{layer_name(str(layer))}{' (the last)' if last else ''}{kind}"
        cells = [_known(measured.estimate("slope", layer=layer, scale=s)) for s in scales]
        here = _known(measured.estimate("change", layer=layer, scale=1.0, width=1.0))
        rows.append((name, here, *cells))
    slopes = Table(
        ("layer", "change at this width", *(f"power, start {_times(s)}" for s in scales)),
        tuple(rows),
        " ".join(measured.notes),
    )
    lost = measured.values("diverged", width=1.0)
    starts = Table(
        ("start", "training loss", "runs that diverged"),
        tuple(
            (
                _times(s),
                _known(measured.estimate("train_loss", scale=s, width=1.0)),
                f"{int(count)}",
            )
            for s, count in zip(scales, lost, strict=True)
        ),
        "At this width; from another start the same length of training may fit less. How many "
        "units a smaller network needs from each start: `whynet measure weight-change TARGET "
        "--condense 0.05`.",
    )
    return slopes, starts


def _known(estimate: Estimate) -> Cell:
    return estimate if np.isfinite(estimate.value) else "–"
