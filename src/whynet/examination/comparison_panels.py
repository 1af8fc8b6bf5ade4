"""The panels of a comparison: measured differences in, sentences out."""

from __future__ import annotations

from functools import partial
from typing import Any

from whynet.core.estimate import Estimate, format_interval, format_number
from whynet.core.outcome import Failed, NotApplicable
from whynet.core.question import (
    Assumption,
    Cell,
    Figure,
    Finding,
    Panel,
    Question,
    Reference,
    Table,
)
from whynet.examination import comparison_figures as figures
from whynet.examination.comparison_readings import Pair
from whynet.examination.report import Answer, Receipt

UNRELATED = 2**0.5
"""Relative distance of two unrelated (orthogonal) sets of weights of equal norm."""

_DRAWS = Assumption("The examples are independent draws of one population", "cannot be checked")
_KIND_WORDS = {
    "fixed": "wrong → right",
    "broken": "right → wrong",
    "changed_wrong": "wrong → another wrong one",
}
_SCORES = {
    "accuracy_difference": "accuracy",
    "r_squared_difference": "R²",
    "rmse_difference": "RMSE",
    "loss_difference": "loss",
}


def answers_of(pair: Pair, receipt: Receipt) -> tuple[Answer, ...]:
    """Answer the questions of a comparison."""
    asked = [
        ("difference", "Which of the two is better?", "Difference", _difference(pair)),
        ("readings", "Which readings moved beyond their bars?", "Readings", _readings(pair)),
        ("distance", "How far apart are they, as functions and as weights?", "Distance",
         _distance(pair)),
    ]  # fmt: skip
    if pair.has("churn"):
        title = "Where do they answer differently?"
        asked.insert(1, ("churn", title, "Changed answers", _churn(pair)))
    return tuple(
        Answer(
            name, Question(title=title, short=short, uses=("comparison",), order=10 * place),
            "answered", panel=panel, receipts=(receipt,),
        )
        for place, (name, title, short, panel) in enumerate(asked)
    )  # fmt: skip


def _points(difference: Estimate) -> str:
    if difference.unit != "fraction":
        return format_interval(difference)
    low, value, high = (
        f"{100 * x:+.1f}".replace("-", "−")
        for x in (difference.low, difference.value, difference.high)
    )
    return f"{value} points [{low}, {high}]"


def _difference(pair: Pair) -> Panel:
    named = [name for name in _SCORES if pair.has(name)]
    finding = _better(pair, named[0])
    fit = pair.measured
    rows: list[tuple[Cell, ...]] = []
    for name in named:
        noun, both = _SCORES[name], name.removesuffix("_difference")
        if both in fit.names:
            rows.append((noun, *(fit.estimate(both, network=letter) for letter in ("A", "B"))))
    return Panel(
        lead=finding.numbers.replace("**", ""),
        method="Both networks ran over the same examples, and the differences are paired: "
        "Tango’s score interval for shares, Student’s t for means.",
        figures=(
            Figure(
                "comparison-losses",
                partial(figures.losses, first=pair.losses[0], second=pair.losses[1]),
                f"Loss of every example under A and under B, {pair.examples:,} examples. Below "
                "the diagonal B does better.",
                f"B has the smaller loss on {int((pair.losses[1] < pair.losses[0]).sum())} of "
                f"{pair.examples} examples.",
                height=3.4,
            ),
        ),
        tables=(
            Table(("", "A", "B"), tuple(rows), "Scores of both."),
            Table(
                ("B minus A, paired", ""),
                tuple((_SCORES[n], pair[n]) for n in named),
                "Differences, example by example.",
            ),
        ),
        assumptions=(
            _DRAWS,
            Assumption("Neither network was chosen on these data", "cannot be checked"),
        ),
        findings=(finding,),
    )


def _better(pair: Pair, name: str) -> Finding:
    gap, noun = pair[name], _SCORES[name]
    lower_is_better = name in ("loss_difference", "rmse_difference")
    up = gap.low > 0
    down = gap.high < 0
    better = down if lower_is_better else up
    worse = up if lower_is_better else down
    numbers = f"B minus A, {noun} on the same examples: **{_points(gap)}**"
    if name != "loss_difference":
        numbers += f"; loss: {format_interval(pair['loss_difference'])}"
    loss = pair["loss_difference"]
    if better:
        headline = f"B has the better {noun}."
        advice = "Keep B: on these data the gain is beyond the error of counting examples."
    elif worse:
        headline = f"B has the worse {noun}."
        advice = "Keep A, or look at the examples that B breaks before it replaces A."
    elif gap.low == gap.high == 0.0 or (pair.losses[0] == pair.losses[1]).all():
        headline = "They score the same on every example."
        advice = "Nothing changed on these data; the weights below say whether they are one."
    elif loss.low > 0 or loss.high < 0:
        side = "larger" if loss.low > 0 else "smaller"
        headline = f"B has the {side} loss; in {noun} they cannot be told apart."
        advice = "Judge by what is used: classes or values, or the probabilities behind them."
    else:
        scores = "loss" if noun == "loss" else f"{noun} or loss"
        headline = f"They cannot be told apart by {scores}."
        advice = (
            "Do not choose between them by these scores: it takes more examples to tell, about "
            "four times as many to halve the interval."
        )
    return Finding(
        key="difference", headline=headline, numbers=numbers + ".", advice=advice, estimate=gap,
        label="B minus A", references=(Reference("no difference", 0.0, 0.0),), importance=0.95,
        instrument="comparison",
    )  # fmt: skip


def _churn(pair: Pair) -> Panel:
    churn = pair["churn"]
    parts = ", ".join(f"{_KIND_WORDS[k]} {format_interval(pair[k])}" for k in _KIND_WORDS)
    lead = f"They differ on {format_interval(churn)} of the examples: {parts}."
    references: tuple[Reference, ...] = ()
    if pair.has("independent_agreement"):
        expected = pair["independent_agreement"]
        references = (Reference("independent errors", 1 - expected.high, 1 - expected.low),)
        lead += (
            f" If their errors were independent, {format_number(1 - expected.value, 'fraction')} "
            "would differ."
        )
    rows = tuple((words, pair[name]) for name, words in (
        ("agreement", "same answer"), ("churn", "different answer"), *_KIND_WORDS.items(),
    ))  # fmt: skip
    if references:
        rows += (("same answer, if errors were independent", pair["independent_agreement"]),)
    tables = [Table(("share of examples", ""), rows, "Same and different answers.")]
    if pair.flips:
        tables.append(_flip_table(pair))
    drawn = [(words, pair[name], name == "churn") for name, words in (
        ("churn", "different answer"), *_KIND_WORDS.items(),
    )]  # fmt: skip
    return Panel(
        lead=lead,
        method="Predicted classes are compared example by example; shares of examples with "
        "Clopper–Pearson intervals. Independent errors: right together with the product of the "
        "accuracies, and wrong answers spread evenly.",
        figures=(
            Figure(
                "comparison-churn",
                partial(figures.shares, rows=drawn),
                "Share of the examples that A and B answer differently, and what became of them "
                "from A to B. Bars: 95 % over examples.",
                lead,
                height=1.8,
            ),
        ),
        tables=tuple(tables),
        assumptions=(_DRAWS,),
        findings=(_churn_finding(pair, references),),
    )


def _churn_finding(pair: Pair, references: tuple[Reference, ...]) -> Finding:
    churn = pair["churn"]
    same = churn.value == 0
    headline = (
        f"They give the same answer on all {pair.examples:,} examples."
        if same
        else f"They answer {format_number(churn.value, 'fraction')} of the examples differently."
    )
    numbers = (
        f"Changed: **{format_interval(churn)}**; of all examples B mends "
        f"{format_interval(pair['fixed'])} and breaks {format_interval(pair['broken'])}."
    )
    advice = (
        "On data like these one can replace the other without a visible change."
        if same
        else "Look at the changed examples, listed in the panel, before one replaces the other: "
        "equal accuracy does not mean equal answers."
    )
    return Finding(
        key="churn", headline=headline, numbers=numbers, advice=advice, estimate=churn,
        label="different answers", references=references, importance=0.85,
        instrument="comparison", cites=("clopper1934",),
    )  # fmt: skip


def _flip_table(pair: Pair) -> Table:
    rows = tuple(
        (
            str(flip.row), str(flip.label), str(flip.first), str(flip.second),
            format_number(flip.confidence, "fraction"), _KIND_WORDS[flip.kind],
        )
        for flip in pair.flips
    )  # fmt: skip
    return Table(
        ("row", "label", "A says", "B says", "both at least", "what changed"), rows,
        f"Changed answers of which both are surest, at most 20; rows of the {pair.split} data "
        "from 0.",
    )  # fmt: skip


def _readings(pair: Pair) -> Panel:
    states = []
    for name, outcome in pair.read["A"].items():
        for letter, result in (("A", outcome), ("B", pair.read["B"][name])):
            if isinstance(result, NotApplicable):
                states.append(f"{name}, {letter}: {result.reason}")
            elif isinstance(result, Failed):
                states.append(f"{name} of {letter} failed: {result.error}.")
    names = ", ".join(pair.read["A"]) or "none"
    lead = f"{len(pair.moved)} of {pair.compared} readings ({names}) moved beyond their bars."
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    if pair.moved:
        rows = tuple((f"{m.reading}: {m.words}", m.first, m.second) for m in pair.moved)
        tables = (Table(("reading", "A", "B"), rows, "Readings whose intervals do not meet."),)
        findings = (_moved_finding(pair),)
    return Panel(
        lead=" ".join((lead, *states)),
        method="Each instrument ran on both with the same seed; a reading moved where the two "
        "intervals do not meet. Over independent draws that happens by chance to one in 200; "
        "here both see the same examples, so that it is rarer, and small moves stay unseen. "
        "Exact numbers have no bar and are not counted.",
        tables=tables,
        findings=findings,
    )


def _moved_finding(pair: Pair) -> Finding:
    words = ", ".join(f"{m.words} of {m.reading}" for m in pair.moved[:3])
    more = f" and {len(pair.moved) - 3} more" if len(pair.moved) > 3 else ""
    count = float(len(pair.moved))
    verb = "reading moved beyond its bar" if count == 1 else "readings moved beyond their bars"
    return Finding(
        key="readings_moved", headline=f"{len(pair.moved)} {verb}.",
        numbers=f"Of {pair.compared} readings these moved: {words}{more}.",
        advice="Read both values in the panel; what moved is more than scores.",
        estimate=Estimate(count, count, count, "exact", unit="count"),
        label="readings moved", axis=(0.0, float(max(pair.compared, 1))), importance=0.7,
        instrument="comparison",
    )  # fmt: skip


def _distance(pair: Pair) -> Panel:
    function, weights = pair["output_distance"], pair["weight_distance"]
    lead = (
        f"Their outputs are apart by {format_interval(function)} of their spread, their weights "
        f"by {format_number(weights.value)} of their norm; "
        f"unrelated ones are apart by {format_number(UNRELATED)}."
    )
    rows: list[tuple[Cell, ...]] = [
        ("outputs, relative", function, ""),
        ("weights, relative", weights, _or_blank(pair, "matched_weight_distance")),
        ("weights, cosine", pair["weight_cosine"], _or_blank(pair, "matched_weight_cosine")),
    ]
    if pair.unmatched:
        lead += f" {pair.unmatched}"
    else:
        after = pair["matched_weight_distance"]
        lead += (
            f" After matching hidden neurons by what they compute, the weights are apart by "
            f"{format_number(after.value)}; matched neurons correlate by "
            f"{format_number(pair['matched_correlation'].value)}, by chance "
            f"{format_number(pair['chance_correlation'].value)}."
        )
        rows += [
            ("correlation of matched neurons", "", pair["matched_correlation"]),
            ("the same by chance", "", pair["chance_correlation"]),
            ("neurons whose partner has the same place", pair["neurons_in_place"], ""),
        ]
    layers = [str(name) for name in pair.measured.dataset["layer"].values]
    return Panel(
        lead=lead,
        method="Distances are norms of differences over the root mean square of the two norms. "
        "Neurons are matched layer by layer by the correlation of their activations (at most "
        "2,048 examples); the permuted network is checked to compute the same. The order "
        "of neurons is undone, their scale is not.",
        figures=(_layer_figure(pair, layers),),
        tables=(
            Table(("", "as they are", "neurons matched"), tuple(rows), "Outputs and weights."),
            _layer_table(pair, layers),
        ),
        findings=_same_network(pair),
    )


def _or_blank(pair: Pair, name: str) -> Cell:
    return pair[name] if pair.has(name) else ""


def _layer_table(pair: Pair, layers: list[str]) -> Table:
    def cell(name: str, layer: str) -> Cell:
        return pair.measured.estimate(name, layer=layer) if pair.has(name) else ""

    names = ("layer_distance", "layer_cosine", "matched_layer_distance", "matched_layer_cosine")
    return Table(
        ("layer", "distance", "cosine", "distance, matched", "cosine, matched"),
        tuple((layer, *(cell(name, layer) for name in names)) for layer in layers),
        "Weights and biases of each layer.",
    )


def _layer_figure(pair: Pair, layers: list[str]) -> Figure:
    before = pair.measured.values("layer_distance")
    after: Any = None
    if pair.has("matched_layer_distance"):
        after = pair.measured.values("matched_layer_distance")
    words = "; ".join(f"{n} {v:.2g}" for n, v in zip(layers, before, strict=True))
    return Figure(
        "comparison-layers",
        partial(figures.layers, names=layers, before=before, after=after),
        "Relative distance of the weights of each layer. The line marks unrelated weights.",
        f"Distance by layer: {words}.",
        height=min(1.1 + 0.28 * len(layers), 9.0),
    )


def _same_network(pair: Pair) -> tuple[Finding, ...]:
    """Say it where the order of the neurons explains what seems to be apart."""
    if not pair.has("matched_weight_distance"):
        return ()
    before, after = pair["weight_distance"], pair["matched_weight_distance"]
    if before.value < 1e-3 or after.value > 0.5 * before.value:
        return ()
    return (
        Finding(
            key="same_up_to_order",
            headline="Much of what separates their weights is the order of the neurons.",
            numbers=f"The weights are apart by {format_number(before.value)}, after matching "
            f"neurons by what they compute by **{format_number(after.value)}**; the outputs by "
            f"{format_interval(pair['output_distance'])}.",
            advice="Match neurons before weights are averaged or compared one by one.",
            estimate=after, label="weights, matched",
            references=(
                Reference("as they are", before.value, before.value),
                Reference("unrelated", UNRELATED, UNRELATED),
            ),
            importance=0.6, instrument="comparison",
        ),
    )  # fmt: skip
