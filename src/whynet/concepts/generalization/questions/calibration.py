"""Can its probabilities be taken at their word?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.generalization import figures
from whynet.core.estimate import format_interval, format_number
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
    title="Can its probabilities be trusted?",
    short="Calibration",
    uses=("calibration",),
    may_use=("fit",),
    references=("calibration",),
    order=20,
)


def ask(results: Results) -> Panel:
    """Say whether confidence matches accuracy, and what a temperature would mend."""
    measured: Measurement = results.measured["calibration"]
    over = measured.estimate("overconfidence")
    temperature = measured.estimate("temperature")
    finding = (*_finding(measured), *_empty_finding(measured), *_sure_finding(measured))
    if finding and finding[0].key == "calibration":
        lead = finding[0].numbers.replace("**", "")
    elif over.low <= 0 <= over.high:
        lead = (
            f"Confidence and accuracy agree within their error: they differ by "
            f"{format_interval(over)}. A temperature would save nothing that can be resolved."
        )
    else:
        lead = (
            f"Confidence minus accuracy is {format_interval(over)}, but no temperature lowers "
            "the log-loss by an amount that can be resolved on these data."
        )
    rows = tuple(
        (words, measured.estimate(name))
        for name, words in (
            ("overconfidence", "mean confidence minus accuracy"),
            ("temperature", "best temperature"),
            ("loss", "log-loss"),
            ("loss_at_temperature", "log-loss at a temperature fitted on other rows"),
            ("loss_saved", "saved by it, paired"),
            ("sure_mistakes", "wrong among predictions of at least 90 % confidence"),
            ("sure_mistakes_promised", "as many as their confidence allows for"),
            ("calibration_error", "expected calibration error (plug-in, biased upward)"),
        )
        if name in measured.names
    )
    return Panel(
        lead=lead,
        method="The temperature minimizes the log-loss of the test data; what it saves is "
        "measured on rows that did not choose it (5 folds).",
        figures=(_figure(measured),),
        tables=(
            Table(("", "over the test examples"), rows, "Confidence held against being right."),
        ),
        assumptions=(
            Assumption("The examples are independent draws of one population", "cannot be checked"),
            Assumption(
                "The log-loss has a minimum at a finite temperature",
                "met" if temperature.kind == "interval" else "not met",
            ),
        ),
        findings=finding,
    )


def _finding(measured: Measurement) -> tuple[Finding, ...]:
    """Make a finding only where a temperature measurably lowers the loss on unseen rows."""
    saved, temperature = measured.estimate("loss_saved"), measured.estimate("temperature")
    if saved.low <= 0 or not temperature.excludes(1.0, 1.0) or temperature.kind != "interval":
        return ()
    before, after = measured.estimate("loss"), measured.estimate("loss_at_temperature")
    over = measured.estimate("overconfidence")
    confident = temperature.value > 1
    share = saved.value / before.value
    return (
        Finding(
            key="calibration",
            headline="It is overconfident." if confident else "It is less sure than it could be.",
            numbers=f"Its log-loss falls from {format_number(before.value)} to "
            f"**{format_number(after.value)}** when its logits are divided by "
            f"{format_interval(temperature)}; paired saving {format_interval(saved)}. Mean "
            f"confidence minus accuracy is {format_interval(over)}.",
            advice=f"Divide its logits by {format_number(temperature.value, digits=2)} before its "
            "probabilities are used; its decisions do not change.",
            estimate=temperature,
            label="best temperature",
            references=(Reference("calibrated", 1.0, 1.0),),
            importance=min(0.8, 0.5 + 0.6 * share),
            instrument="calibration",
            cites=("guo2017", "kumar2019"),
            regardless=True,
        ),
    )


def _empty_finding(measured: Measurement) -> tuple[Finding, ...]:
    """The best temperature has no end: its logits say nothing about the labels."""
    saved, temperature = measured.estimate("loss_saved"), measured.estimate("temperature")
    over = measured.estimate("overconfidence")
    if saved.low <= 0 or over.low <= 0 or temperature.kind == "interval" or temperature.value < 100:
        return ()
    return (
        Finding(
            key="calibration",
            headline="It is overconfident, and its probabilities say nothing.",
            numbers=f"Its log-loss of {format_number(measured.estimate('loss').value)} is lowest "
            "when all classes get the same probability. Mean confidence minus accuracy is "
            f"**{format_interval(over)}**.",
            advice="Do not use its probabilities: no temperature makes them better than a guess.",
            estimate=over,
            label="overconfidence",
            references=(Reference("calibrated", 0.0, 0.0),),
            importance=0.8,
            instrument="calibration",
            cites=("guo2017",),
            regardless=True,
        ),
    )


def _sure_finding(measured: Measurement) -> tuple[Finding, ...]:
    """Sure predictions that fail more often than their confidence allows for."""
    if "sure_mistakes" not in measured.names:
        return ()
    share = measured.estimate("sure_mistakes")
    promised = measured.estimate("sure_mistakes_promised").value
    if share.low <= promised:
        return ()
    rows = [str(int(row)) for row in measured.values("surest_mistakes") if not np.isnan(row)]
    return (
        Finding(
            key="sure_mistakes",
            headline="Where it is sure, it is wrong more often than it says.",
            numbers=f"Of its predictions with a confidence of at least 90 %, "
            f"**{format_interval(share)}** are wrong; their confidence allows for "
            f"{format_number(promised, 'fraction')}.",
            advice=f"Look at these test rows first, counted from 0: {', '.join(rows)}. Wrong "
            "labels and inputs of another kind gather there.",
            estimate=share,
            label="sure and wrong",
            references=(Reference("as it says", promised, promised),),
            importance=0.65,
            instrument="calibration",
            cites=("guo2017",),
            regardless=True,
        ),
    )


def _figure(measured: Measurement) -> Figure:
    confidence = measured.values("bin_confidence")
    accuracy = measured.values("bin_accuracy")
    bounds = np.stack(measured.bounds("bin_accuracy"))
    return Figure(
        "calibration-reliability",
        partial(figures.reliability, confidence=confidence, accuracy=accuracy, bounds=bounds),
        "Share right against mean confidence, in bins of equal numbers of test examples. Bars: "
        "95 % over examples, Clopper–Pearson.",
        "Bins from low to high confidence: "
        + "; ".join(
            f"confidence {100 * c:.0f} %, right {100 * a:.0f} %"
            for c, a in zip(confidence, accuracy, strict=True)
        ),
    )
