"""What the question of robustness shows: swapped tokens, gradients, and when it is silent."""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.robustness import figures
from whynet.core.estimate import Estimate, format_interval
from whynet.core.measurement import Measurement
from whynet.core.question import (
    Assumption,
    Cell,
    Figure,
    Finding,
    Panel,
    Reference,
    Results,
    Table,
)

ROBUST = 0.8
"""Share of its accuracy that attacks must leave for a network to be said to withstand them."""


def has_learned(results: Results, measured: Measurement) -> bool:
    """Whether the network is measurably better than a constant answer on these rows."""
    baselines: Measurement | None = results.measured.get("baselines")
    if baselines is not None and "accuracy" in baselines.names:
        return baselines.estimate("advantage", baseline="constant").low > 0
    accuracy = measured.estimate("accuracy")
    return accuracy.low > measured.estimate("constant_accuracy").value


def gradient_tables(results: Results) -> tuple[Table, ...]:
    """Return the table of gradients and first-order distances, where they were measured."""
    gradient: Measurement | None = results.measured.get("input-gradient")
    if gradient is None:
        return ()
    words = {
        "loss_gradient_median": "norm of the gradient of the loss",
        "margin_gradient_median": "norm of the gradient of the margin",
        "output_gradient_median": "norm of the gradients of the outputs",
    }
    lines: list[tuple[Cell, ...]] = [
        (label, *(gradient.estimate(name, norm=norm) for norm in ("l1", "l2")))
        for name, label in words.items()
        if name in gradient.names
    ]
    if "distance" in gradient.names and np.isfinite(gradient.values("distance")).all():
        distance = tuple(gradient.estimate("distance", change=c) for c in ("linf", "l2"))
        lines.append(("distance to the decision boundary, to first order", *distance))
    caption = (
        "How steeply loss and decision depend on the input: medians over the test examples; bars "
        "from order statistics."
    )
    if "token_distance" in gradient.names:
        lines.append(
            ("distance of a token from the nearest other", "", gradient.estimate("token_distance"))
        )
    head = ("", "for the largest change of an entry", "for the Euclidean change")
    return (Table(head, tuple(lines), caption),)


def swaps_panel(results: Results, measured: Measurement, gradient: tuple[Table, ...]) -> Panel:
    """Put accuracy with the worst of some swapped tokens beside accuracy with random ones."""
    clean, swapped, random = (
        measured.estimate(name) for name in ("accuracy", "swapped_accuracy", "random_accuracy")
    )
    finding = _swaps_finding(results, measured)
    if not has_learned(results, measured):
        lead = (
            f"Its accuracy of {format_interval(clean)} is no better than a constant answer's, so "
            "that there is nothing to fool: robustness says nothing here."
        )
    else:
        lead = (
            f"As it is, it is right on {format_interval(clean)}; the worst of some swaps of one "
            f"token leaves at most {format_interval(swapped)}, the worst of as many random ones "
            f"{format_interval(random)}."
        )
    bars = (("no swap", clean), ("worst random swap", random), ("worst swap", swapped))
    constant = measured.estimate("constant_accuracy").value
    return Panel(
        lead=finding.numbers.replace("**", "") if finding else lead,
        method="One token of an example is replaced by another of the data. Which ones lower the "
        "lead of the right answer most is read off its gradient in the vectors of the tokens, to "
        "first order; the swaps are then made and the network answers. Of these and as many random "
        "ones the worst counts. Bars: Clopper–Pearson over examples.",
        figures=(
            Figure(
                "sensitivity-swaps",
                partial(figures.accuracy_bars, bars=bars, constant=constant),
                "Accuracy when one token of each example is swapped. Bars: 95 % over examples, "
                "Clopper–Pearson.",
                "; ".join(f"{name} {100 * one.value:.0f} %" for name, one in bars),
                height=1.9,
            ),
        ),
        tables=(
            Table(("", "accuracy"), bars, "Accuracy with and without one token swapped."),
            *gradient,
        ),
        assumptions=(
            Assumption(
                "One token that is swapped should not change the answer", "cannot be checked"
            ),
            Assumption(
                "No better swap exists: accuracy with swaps is an upper bound", "cannot be checked"
            ),
            Assumption("The examples are independent draws of one population", "cannot be checked"),
        ),
        findings=() if finding is None else (finding,),
    )


def _swaps_finding(results: Results, measured: Measurement) -> Finding | None:
    """Call a network fragile or robust only beside random swaps and its own accuracy."""
    if not has_learned(results, measured):
        return None
    clean, swapped, random = (
        measured.estimate(name) for name in ("accuracy", "swapped_accuracy", "random_accuracy")
    )
    if swapped.value < clean.value / 2 and swapped.high < random.low:
        return Finding(
            key="one_token_decides",
            headline="A single token turns its answer.",
            numbers=f"A swap of one token leaves at most **{format_interval(swapped)}** right; the "
            f"worst of as many random swaps {format_interval(random)}, no swap "
            f"{format_interval(clean)}.",
            advice="Look at the tokens that decide: if they should not, train on examples with "
            "tokens swapped or left out and measure again.",
            estimate=swapped,
            label="with one token swapped",
            references=_references(random, clean),
            axis=(0.0, 1.0),
            importance=0.6,
            instrument="token-swaps",
            cites=("ebrahimi2018",),
            read=lambda other: other.estimate("swapped_accuracy"),
            regardless=True,
        )
    if swapped.low > ROBUST * clean.value:
        return Finding(
            key="withstands_swaps",
            headline="No single token that was tried turns its answer.",
            numbers=f"With the worst of some swaps of one token it is right on "
            f"**{format_interval(swapped)}**, without any on {format_interval(clean)}.",
            advice="Nothing is guaranteed: this is an upper bound. Where safety depends on it, try "
            "more swaps, and several tokens at once.",
            estimate=swapped,
            label="with one token swapped",
            references=_references(random, clean),
            axis=(0.0, 1.0),
            importance=0.4,
            instrument="token-swaps",
            cites=("ebrahimi2018",),
            read=lambda other: other.estimate("swapped_accuracy"),
        )
    return None


def _references(random: Estimate, clean: Estimate) -> tuple[Reference, ...]:
    return (
        Reference("random swaps", random.low, random.high),
        Reference("no swap", clean.low, clean.high),
    )
