"""Does its step size carry over to another width?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.dynamics import width_figures as figures
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
    title="Does its step size carry over to another width?",
    short="Step size and width",
    uses=("coordinate-check",),
    order=86,
)

STEADY = 0.25
"""Largest slope that counts as none: four times the width changes the number by a factor √2."""

MOST_SHOWN = 4
CITES = ("yang2021", "yang2022")


def ask(results: Results) -> Panel:
    """Say whether a step size tuned at one width is the right one at another."""
    measured: Measurement = results.measured["coordinate-check"]
    finding = _of_rates(measured) or _of_divergence(measured) or _of_activations(measured)
    return Panel(
        lead=finding.numbers.replace("**", "") if finding is not None else _lead(measured),
        method="Networks of several widths are trained for a short while from several seeds, at "
        "this network's step size and, where it can be scaled, at others. How far each layer's "
        "outputs have moved since initialization is compared on fixed training examples: a slope "
        "of 0 against width, both on logarithmic axes, means that one step size suits all widths.",
        figures=_figures(measured),
        tables=_tables(measured),
        assumptions=(
            Assumption(
                "The training function is the one this network was trained with",
                "cannot be checked",
            ),
            Assumption(
                "What holds after a short while holds at the end of training", "cannot be checked"
            ),
        ),
        findings=() if finding is None else (finding,),
    )


def _of_rates(measured: Measurement) -> Finding | None:
    """Say how the best step size depends on the width, where the seeds can tell."""
    if "rate_slope" not in measured.names:
        return None
    law, cost = measured.estimate("rate_slope"), measured.estimate("carry_cost")
    if not np.isfinite(law.value) or law.kind != "interval":
        return None
    if law.low > -STEADY and law.high < STEADY:
        return _finding(
            "step_size_carries_over",
            "A step size tuned at one width carries over to another.",
            f"The best step size after {_share(measured)} of training changes as width to the "
            f"power **{format_interval(law)}**, where 0 means that it stays.",
            "Tune the step size on a narrow network and train the wide one with it.",
            law,
            0.3,
        )
    if law.excludes(-STEADY, STEADY):
        factor = 2**law.value
        known = np.isfinite(cost.value)
        kept = (
            f"; kept from half the width to twice the width, it makes the training loss "
            f"{format_interval(cost)} times as large"
        )
        return _finding(
            "step_size_depends_on_width",
            "Its step size will not carry over to another width.",
            f"The best step size after {_share(measured)} of training changes as width to the "
            f"power **{format_interval(law)}**, where 0 means that it stays"
            f"{kept if known else ''}.",
            f"For each doubling of the width, multiply the step size by about "
            f"{format_number(factor, digits=2)} and tune it again, or use a parametrization in "
            "which it stays (maximal update).",
            law,
            0.5 if known and cost.low > 1 else 0.4,
        )
    return None


def _of_divergence(measured: Measurement) -> Finding | None:
    """Say that wider networks diverge at this step size, where this width never does."""
    counts = dict(
        zip(_widths(measured), (int(n) for n in measured.values("diverged")), strict=True)
    )
    wide = [width for width in counts if width > 1 and counts[width]]
    if counts[1.0] or not wide:
        return None
    runs = measured.estimate("diverged", width=wide[0])
    return _finding(
        "wider_diverges",
        "At its step size a wider network diverges.",
        f"At **{wide[0]:g} times the width**, {counts[wide[0]]} runs ended in weights that are not "
        "finite; at this width none did.",
        "Lower the step size before widening the network.",
        runs,
        0.6,
    )


def _of_activations(measured: Measurement) -> Finding | None:
    """Say that activations of some layer move more the wider the network is."""
    if "rate_slope" in measured.names:
        return None  # what the loss says comes before what activations hint at
    growing = [law for _, law in _slopes(measured) if law.kind == "interval" and law.low > STEADY]
    # One interval for each layer: the finding needs one that survives looking at all of them.
    if len(growing) < max(1, round(0.2 * len(_slopes(measured)))):
        return None
    name, law = max(_slopes(measured), key=lambda pair: pair[1].low)
    return _finding(
        "activations_grow_with_width",
        "At one step size, training moves a wider network further.",
        f"The outputs of layer {layer_name(name)} move as width to the power "
        f"**{format_interval(law)}**; 0 means that one step size suits all widths.",
        "Tune the step size again at each width, beginning with smaller ones for wider networks.",
        law,
        0.3,
    )


def _finding(
    key: str, headline: str, numbers: str, advice: str, estimate: Estimate, importance: float
) -> Finding:
    power = estimate.unit == ""
    return Finding(
        key=key,
        headline=headline,
        numbers=numbers,
        advice=advice,
        estimate=estimate,
        label="power of the width" if power else "runs that diverged",
        references=(Reference("stays", -STEADY, STEADY),) if power else (),
        importance=importance,
        instrument="coordinate-check",
        cites=CITES,
        regardless=True,
    )


def _share(measured: Measurement) -> str:
    return format_number(measured.estimate("steps").value, "fraction")


def _widths(measured: Measurement) -> list[float]:
    return [float(width) for width in measured.dataset["width"].values]


def _slopes(measured: Measurement) -> list[tuple[str, Estimate]]:
    names = [str(name) for name in measured.dataset["layer"].values]
    every = [(name, measured.estimate("slope", layer=name)) for name in names]
    return [(name, law) for name, law in every if np.isfinite(law.value)]


def _lead(measured: Measurement) -> str:
    slopes = _slopes(measured)
    if not slopes:
        return "At this step size some of the wider or narrower networks did not train."
    name, law = slopes[-1]
    text = (
        f"In {_share(measured)} of training, the outputs of layer {layer_name(name)} move as "
        f"width to the power {format_interval(law)}, where 0 means that one step size suits "
        "all widths."
    )
    if "rate_slope" not in measured.names:
        return text
    best = measured.estimate("rate_slope")
    if np.isfinite(best.value):
        return (
            f"The best step size changes as width to the power {format_interval(best)}: too wide "
            f"an interval to act on. {text}"
        )
    return f"The best step size lies at an end of those tried, or beyond. {text}"


def _figures(measured: Measurement) -> tuple[Figure, ...]:
    slopes = _slopes(measured)
    places = np.linspace(0, len(slopes) - 1, min(MOST_SHOWN, len(slopes)))
    shown = [slopes[i] for i in sorted({int(place) for place in places})]
    changes = [
        figures.Changes(
            layer_name(name), law.value, measured.values("change", layer=name),
            *measured.bounds("change", layer=name),
        )
        for name, law in shown
    ]  # fmt: skip
    losses = None
    if "loss" in measured.names:
        losses = figures.Losses(
            [float(x) for x in measured.dataset["rate"].values],
            [float(x) for x in measured.dataset["tried_width"].values],
            measured.values("loss"),
        )
    caption = "Left: how far" if losses is not None else "How far"
    caption += (
        " outputs of layers moved, against the factor on the width; bars: t over seeds, the dotted "
        "line is slope 0."
    )
    if losses is not None:
        caption += " Right: training loss against the factor on the step size, for each width."
    return (
        Figure(
            "width-transfer",
            partial(
                figures.width_transfer, widths=_widths(measured), changes=changes, losses=losses
            ),
            caption,
            "; ".join(
                f"layer {layer_name(name)}: slope {format_interval(law)}" for name, law in shown
            )
            if slopes
            else "No layer moved at every width.",
            height=3.6,
        ),
    )  # fmt: skip


def _tables(measured: Measurement) -> tuple[Table, ...]:
    rows: list[tuple[Cell, ...]] = [(layer_name(name), law) for name, law in _slopes(measured)]
    tables = [
        Table(("layer", "slope of its change against width"), tuple(rows), " ".join(measured.notes))
    ]
    if "best_rate" in measured.names:
        found = [
            (float(w), measured.estimate("best_rate", tried_width=w))
            for w in measured.dataset["tried_width"].values
        ]
        tables.append(
            Table(
                ("factor on the width", "best factor on the step size"),
                tuple(
                    (f"{width:g}", rate if np.isfinite(rate.value) else "at an end of those tried")
                    for width, rate in found
                ),
                "Lowest training loss after the short run; intervals: t over seeds.",
            )
        )
    return tuple(tables)
