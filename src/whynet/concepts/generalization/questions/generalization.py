"""Does it carry over to data it has not seen, and does it earn its size?"""

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
    title="Does it generalize?",
    short="Generalization",
    uses=("fit",),
    may_use=("baselines", "margins"),
    references=("fit", "baselines"),
    order=10,
)

SEEN = 0.01
"""Share of the test rows that were trained on from which on nothing else is more urgent."""


def ask(results: Results) -> Panel:
    """Put the scores on unseen data beside those of cheap models and of the untrained network."""
    fit: Measurement = results.measured["fit"]
    score = _score_name(fit)
    lead = "Scores are means over examples; the test data chose nothing about the network."
    if score is None or "test" not in fit.dataset["split"].values:
        finding: tuple[Finding, ...] = ()
        lead = "Only the loss can be compared here: " + (
            "no test data were given." if score else "the loss defines no accuracy."
        )
    else:
        finding = (_finding(results, fit, score), *_seen(fit, results.facts.test_examples))
        lead = finding[0].numbers.replace("**", "")
    return Panel(
        lead=lead,
        method="One forward pass over all data; shares with Clopper–Pearson intervals, means "
        "with Student's t, differences on the same examples paired.",
        figures=_figures(results, fit, score),
        tables=_tables(results, fit),
        assumptions=(
            Assumption("The examples are independent draws of one population", "cannot be checked"),
            Assumption("The test data chose nothing about the network", "cannot be checked"),
            Assumption(
                "No test row is a training row",
                "cannot be checked"
                if "seen_test_rows" not in fit.names
                else "met"
                if fit.estimate("seen_test_rows").value == 0
                else "not met",
            ),
        ),
        findings=finding,
    )


def _seen(fit: Measurement, rows: int) -> tuple[Finding, ...]:
    """Warn where test rows were trained on: their scores say nothing about unseen data."""
    if "seen_test_rows" not in fit.names or not fit.estimate("seen_test_rows").value:
        return ()
    seen = fit.estimate("seen_test_rows")
    share = seen.value / rows
    return (
        Finding(
            key="seen_test_rows",
            headline="Some of the test data were trained on.",
            numbers=f"The inputs of **{int(seen.value):,} of {rows:,}** test rows occur among the "
            "training rows, entry by entry.",
            advice="Split again without repeated rows; until then read what is said of unseen "
            "data as too good.",
            estimate=seen,
            label="test rows that were seen",
            axis=(0.0, float(rows)),
            importance=0.96 if share > SEEN else 0.5,
            instrument="fit",
            regardless=True,
        ),
    )


def _score_name(fit: Measurement) -> str | None:
    return next((name for name in ("accuracy", "r_squared") if name in fit.names), None)


def _noun(score: str) -> str:
    return "accuracy" if score == "accuracy" else "R²"


def _finding(results: Results, fit: Measurement, score: str) -> Finding:
    test = fit.estimate(score, split="test")
    train = fit.estimate(score, split="train") if "train" in fit.dataset["split"] else None
    baselines = results.measured.get("baselines")
    references = _references(results, score)
    headline, advice, importance = _verdict(test, train, baselines, score)
    noun = "Accuracy" if score == "accuracy" else "R²"
    numbers = f"{noun} on unseen data is **{format_interval(test)}**"
    if train is not None:
        numbers += f", on the training data {format_interval(train)}"
    numbers += "."
    if baselines is not None:
        name = _best(baselines, score)
        ahead = baselines.estimate("advantage", baseline=name)
        numbers += (
            f" On the same examples its lead over the best cheap model, the {name}, is "
            f"{_points(ahead)}."
        )
    return Finding(
        key="generalization",
        headline=headline,
        numbers=numbers,
        advice=advice,
        estimate=test,
        label="this network",
        references=references,
        axis=_axis(test, references) if score == "accuracy" else None,
        importance=importance,
        instrument="fit",
        cites=("zhang2017", "clopper1934"),
        read=lambda other: other.estimate(score, split="test"),
        regardless=True,
    )


def _axis(test: Estimate, references: tuple[Reference, ...]) -> tuple[float, float]:
    """Zoom in on the network and the cheap models; the untrained network may lie off the axis."""
    near = [r.low for r in references if r.name != "at initialization"]
    lowest = min([test.low, *near])
    return max(0.0, round(lowest - 0.25 * (1 - lowest), 2) - 0.01), 1.0


_SENTENCES = {
    "memorized": (
        "It memorized the training data and learned nothing that carries over.",
        "Check the labels and the split first: on unseen data it is no better than a constant "
        "answer. More training cannot help.",
        1.0,
    ),
    "nothing": (
        "It has not learned anything that carries over to unseen data.",
        "Train it (longer, or at another step size) or check that inputs and labels belong "
        "together: a constant answer does as well.",
        1.0,
    ),
    "beaten": (
        "A {name} does better.",
        "Use the {name}, or regularize: the network has not earned its size on these data.",
        0.97,
    ),
    "overfit": (
        "It overfits: what it gained on the training data it does not keep on unseen ones.",
        "Regularize, stop earlier or collect more data before making it larger.",
        0.95,
    ),
    "tied": (
        "It is not clearly better than a {name} on these data.",
        "Collect enough test data to tell them apart, or prefer the {name}, which is simpler: the "
        "paired difference is {difference}.",
        0.9,
    ),
    "gap": (
        "It generalizes, and it fits the training data much better than unseen ones.",
        "More data or regularization is the next thing to try; a larger network is not.",
        0.88,
    ),
    "alone": (
        "How it does on unseen data.",
        "{missing}",
        0.7,
    ),
    "better": (
        "It generalizes, and better than cheap models do.",
        "Its size is earned on these data; judge what to improve by the panels below.",
        0.85,
    ),
}
"""Headline, advice and importance of each verdict."""


_MISSING = {
    False: "Give training data as well, so that cheap models can be put beside it.",
    True: "No cheap model could be put beside it: hold a simple method of your field against it "
    "before you call this good.",
}
"""Whether there are training data, to what to do where there is nothing to compare with."""


def _verdict(
    test: Estimate, train: Estimate | None, baselines: Measurement | None, score: str
) -> tuple[str, str, float]:
    """Choose the sentence: useless, memorized, beaten, no better, or better than cheap models."""
    gap = train.low - test.high if train is not None else 0.0
    name, ahead, constant = "", None, None
    if baselines is not None:
        name = _best(baselines, score)
        ahead = baselines.estimate("advantage", baseline=name)
        constant = baselines.estimate("advantage", baseline="constant")
    if (constant is not None and constant.low <= 0) or (score == "r_squared" and test.low <= 0):
        verdict = "memorized" if gap > 0.2 else "nothing"
    elif ahead is not None and ahead.high < 0:
        verdict = "beaten"
    elif gap > 0.05 and (ahead is None or ahead.low <= 0):
        verdict = "overfit"
    elif ahead is not None and ahead.low <= 0:
        verdict = "tied"
    elif gap > 0.05:
        verdict = "gap"
    else:
        verdict = "alone" if ahead is None else "better"
    headline, advice, importance = _SENTENCES[verdict]
    words = {
        "name": name,
        "difference": "" if ahead is None else _points(ahead),
        "missing": _MISSING[train is not None],
    }
    return headline.format(**words), advice.format(**words), importance


def _best(baselines: Measurement, score: str) -> str:
    names = [str(name) for name in baselines.dataset["baseline"].values]
    return max(names, key=lambda name: baselines.estimate(score, baseline=name).value)


def _points(difference: Estimate) -> str:
    if difference.unit == "fraction":
        value, low, high = (
            f"{100 * x:+.1f}".replace("-", "−")
            for x in (difference.value, difference.low, difference.high)
        )
        return f"{value} points [{low}, {high}]"
    value, low, high = (
        f"{x:+.2f}".replace("-", "−") for x in (difference.value, difference.low, difference.high)
    )
    return f"{value} [{low}, {high}]"


def _references(results: Results, score: str) -> tuple[Reference, ...]:
    references = []
    baselines = results.measured.get("baselines")
    if baselines is not None:
        for name in ("nearest neighbor", "linear model"):
            estimate = baselines.estimate(score, baseline=name)
            references.append(Reference(name, estimate.low, estimate.high))
    initial = results.initial.get("fit")
    if initial is not None and score in initial.names:
        estimate = initial.estimate(score, split="test")
        if score == "accuracy":
            references.append(Reference("at initialization", estimate.low, estimate.high))
    return tuple(references)


def _figures(results: Results, fit: Measurement, score: str | None) -> tuple[Figure, ...]:
    drawn = []
    if score is not None:
        rows = _rows(results, fit, score)
        drawn.append(
            Figure(
                "generalization-scores",
                partial(figures.forest, rows=rows, label=_noun(score)),
                f"{_noun(score).capitalize()} of the network and of its references. Bars: 95 % "
                "over examples.",
                "; ".join(f"{name} {format_interval(estimate)}" for name, estimate, _ in rows),
                height=0.75 + 0.31 * len(rows),
            )
        )
    margins = results.measured.get("margins")
    if margins is not None:
        splits = [str(s) for s in margins.dataset["split"].values]
        levels = margins.dataset["quantile"].values
        curves = [
            (
                {"train": "training data", "test": "unseen data"}[split],
                margins.values("margin", split=split),
                np.stack(margins.bounds("margin", split=split)),
            )
            for split in splits
        ]
        drawn.append(
            Figure(
                "generalization-margins",
                partial(figures.margin_curves, levels=levels, curves=curves),
                "Quantiles of the margin, the lead of the right class over the best wrong one. "
                "Bands: 95 % over examples.",
                "Median margin: "
                + "; ".join(f"{name} {values[len(levels) // 2]:.3g}" for name, values, _ in curves),
            )
        )
    return tuple(drawn)


def _rows(results: Results, fit: Measurement, score: str) -> list[tuple[str, Estimate, bool]]:
    names = {"train": "training data", "test": "unseen data"}
    rows = [
        (names[str(split)], fit.estimate(score, split=split), True)
        for split in reversed(fit.dataset["split"].values)
    ]
    baselines = results.measured.get("baselines")
    if baselines is not None:
        rows += [
            (str(name), baselines.estimate(score, baseline=name), False)
            for name in baselines.dataset["baseline"].values
        ]
    initial = results.initial.get("fit")
    if initial is not None and score == "accuracy" and "test" in initial.dataset["split"]:
        rows.append(("at initialization", initial.estimate(score, split="test"), False))
    return rows


def _tables(results: Results, fit: Measurement) -> tuple[Table, ...]:
    splits = [str(split) for split in fit.dataset["split"].values]
    names = {"loss": "loss", "accuracy": "accuracy", "rmse": "RMSE", "r_squared": "R²"}
    rows: list[tuple[Cell, ...]] = [
        (words, *(fit.estimate(name, split=split) for split in splits))
        for name, words in names.items()
        if name in fit.names
    ]
    initial = results.initial.get("fit")
    if initial is not None:
        rows += [
            (f"{words} at initialization", *(initial.estimate(name, split=s) for s in splits))
            for name, words in names.items()
            if name in initial.names
        ]
    heads = {"train": "training data", "test": "unseen data"}
    tables = [Table(("", *(heads[s] for s in splits)), tuple(rows))]
    baselines = results.measured.get("baselines")
    if baselines is not None:
        score = "accuracy" if "accuracy" in baselines.names else "r_squared"
        tables.append(
            Table(
                ("cheap model", _noun(score), "the network's lead, paired"),
                tuple(
                    (
                        str(name),
                        baselines.estimate(score, baseline=name),
                        _points(baselines.estimate("advantage", baseline=name)),
                    )
                    for name in baselines.dataset["baseline"].values
                ),
                "Cheap models, fitted to the same training data, judged on the same unseen data.",
            )
        )
    if "loss_gap" in fit.names:
        gap = fit.estimate("loss_gap")
        tables[0] = Table(
            tables[0].columns,
            tables[0].rows,
            f"Loss on unseen data exceeds that on training data by {format_interval(gap)}; "
            f"intervals over {format_number(float(results.facts.train_examples))} and "
            f"{format_number(float(results.facts.test_examples))} examples.",
        )
    return tuple(tables)
