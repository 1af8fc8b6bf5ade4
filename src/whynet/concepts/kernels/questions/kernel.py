"""Did training change what the network can compute, or only weigh what its start offered?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.kernels import figures
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
    title="Did it learn more than its initial kernel can?",
    short="Kernel",
    uses=("lazy-or-rich",),
    may_use=("baselines", "kernel-spectrum"),
    order=45,
)

AGREES = 0.9
"""Least agreement, at the lower end of its interval, of networks that do the same; where another
seed is known, its agreement is what counts instead."""

MARGIN = 0.03
"""Largest lead, at the upper end of its interval, that is no lead worth having; and by how much
less than another seed a network may agree that does the same."""

STILL = 1e-3
"""Change of outputs, relative to their spread, below which nothing was trained."""

LARGEST_LAYERS = 4
"""Layers whose shares of the kernel stand in the table."""

NAMES = {
    "network": "this network",
    "linearized": "linearized at its start",
    "regularized": "the same, with ridge",
    "other seed": "another seed",
}
OTHER_SEED = "other seed"


def ask(results: Results) -> Panel:
    """Put the network beside itself linearized at its start, and its kernel before and after."""
    measured: Measurement = results.measured["lazy-or-rich"]
    baselines: Measurement | None = results.measured.get("baselines")
    score = "accuracy" if "accuracy" in measured.names else "r_squared"
    findings = _findings(measured, baselines, score)
    return Panel(
        lead=_lead(measured, score),
        method="The network linearized at its start is kernel regression with the gradients of "
        "the initial network, trained by squared loss to the end; its second form has the ridge "
        "that serves left-out training rows best.",
        figures=_figures(measured, baselines, score),
        tables=(*_tables(measured), *_spectrum(results.measured.get("kernel-spectrum"))),
        assumptions=_assumptions(measured),
        findings=findings,
    )


def _noun(score: str) -> str:
    return "accuracy" if score == "accuracy" else "R²"


def _points(lead: Estimate) -> str:
    scale, digits = (100, 1) if lead.unit == "fraction" else (1, 2)
    value, low, high = (
        f"{scale * number:+.{digits}f}".replace("-", "−")
        for number in (lead.value, lead.low, lead.high)
    )
    return f"{value} points [{low}, {high}]" if scale == 100 else f"{value} [{low}, {high}]"


def _agreement(agreement: Estimate) -> str:
    if agreement.unit == "fraction":
        return f"agrees with it on {format_interval(agreement)} of the examples"
    return f"explains {format_interval(agreement)} of what the targets vary by about its outputs"


def _other_seed(measured: Measurement, score: str) -> str:
    """Say what another seed reaches and how far it agrees; empty where none was trained."""
    if "agreement_other_seed" not in measured.names:
        return ""
    reached = measured.estimate(score, model=OTHER_SEED)
    more = measured.estimate("agreement_regularized_beyond_seed")
    return (
        f"Another seed reaches {format_interval(reached)} and "
        f"{_agreement(measured.estimate('agreement_other_seed'))} (linearized less other seed: "
        f"{_points(more)}). "
    )


def _drift(measured: Measurement) -> str:
    drift, scale = measured.estimate("shape_drift"), measured.estimate("trace_ratio")
    if not np.isfinite(drift.value) or not np.isfinite(scale.value):
        return "The kernel is constant on these rows, so that its drift has no number."
    return (
        f"In training the shape of its kernel moved by {format_interval(drift)} (1 − CKA), its "
        f"scale by a factor of {format_interval(scale)}."
    )


def _lead(measured: Measurement, score: str) -> str:
    if _untrained(measured):
        return "The network is the one it started as: there is nothing to compare."
    best = measured.estimate(score, model="regularized")
    return (
        f"Linearized at its start and with the best ridge, the network reaches an {_noun(score)} "
        f"of {format_interval(best)}; this network leads by "
        f"{_points(measured.estimate('lead_over_regularized'))}. "
        f"{_other_seed(measured, score)}{_drift(measured)}"
    )


def _untrained(measured: Measurement) -> bool:
    return measured.estimate("output_change").value <= STILL


def _own_linearization(measured: Measurement) -> bool:
    """Whether the kernel did not move at all, as where a network is linear in its parameters."""
    drift = measured.estimate("shape_drift").value
    scale = measured.estimate("trace_ratio").value
    return bool(drift < 1e-9 and abs(scale - 1) < 1e-9)


def _useful(baselines: Measurement | None) -> bool:
    """Whether the network beats a constant answer, as far as is known."""
    return baselines is None or baselines.estimate("advantage", baseline="constant").low > 0


_SENTENCES = {
    "more": (
        "It did more than its initial kernel can.",
        "It learned features: a kernel method built from its start would lose this. Keep what "
        "allowed it (step size, scale of the initial weights, time) when you train it again.",
        0.6,
    ),
    "same": (
        "A kernel method would do the same.",
        "On these data its training weighs features that it had from the start. Try kernel "
        "regression, which has one setting, or a larger step size or smaller initial weights, "
        "if features are what you hope for.",
        0.62,
    ),
    "less": (
        "A kernel method built from its own start does better.",
        "Train it longer, at another step size or with other regularization first: its own start "
        "offers more than training made of it.",
        0.72,
    ),
}
"""Headline, advice and importance of each verdict."""


def _verdict(measured: Measurement, baselines: Measurement | None) -> str | None:
    """Choose the sentence; None where the intervals leave it open or there is none to say."""
    if _untrained(measured) or _own_linearization(measured):
        return None
    leads = [measured.estimate(f"lead_over_{name}") for name in ("linearized", "regularized")]
    all_rows = measured.estimate("fitted_share").value == 1
    if any(lead.kind == "indicative" for lead in leads):
        return None
    if min(lead.low for lead in leads) > 0:
        return "more" if all_rows and _useful(baselines) and _differs(measured) else None
    if leads[1].high < 0:
        return "less"
    tied = leads[1].low <= 0 and leads[1].high <= MARGIN and _agrees(measured)
    return "same" if tied and _useful(baselines) else None


def _agrees(measured: Measurement) -> bool:
    """Whether the linearized network agrees with this one as well as another seed does."""
    if "agreement_regularized_beyond_seed" in measured.names:
        more = measured.estimate("agreement_regularized_beyond_seed")
        return more.kind != "indicative" and more.low >= -MARGIN
    return measured.estimate("agreement_regularized").low >= AGREES


def _differs(measured: Measurement) -> bool:
    """Whether the linearized network agrees less with this one than another seed does."""
    if "agreement_regularized_beyond_seed" not in measured.names:
        return True
    return measured.estimate("agreement_regularized_beyond_seed").high < 0


def _findings(
    measured: Measurement, baselines: Measurement | None, score: str
) -> tuple[Finding, ...]:
    verdict = _verdict(measured, baselines)
    if verdict is None:
        return ()
    headline, advice, importance = _SENTENCES[verdict]
    own = measured.estimate(score, model="network")
    linear = measured.estimate(score, model="regularized")
    references = [Reference("linearized", linear.low, linear.high)]
    if "agreement_other_seed" in measured.names:
        other = measured.estimate(score, model=OTHER_SEED)
        references.append(Reference("another seed", other.low, other.high))
    references += [
        Reference(name, known.low, known.high)
        for name, known in _baselines(baselines, score)
        if name != "constant"
    ]
    lowest = min([own.low, *(reference.low for reference in references)])
    return (
        Finding(
            key="kernel",
            headline=headline,
            numbers=f"Its {_noun(score)} is **{format_interval(own)}**. Linearized at its start it "
            f"reaches {format_interval(linear)} (with the best ridge) and "
            f"{_agreement(measured.estimate('agreement_regularized'))}; the network's lead is "
            f"{_points(measured.estimate('lead_over_regularized'))}. "
            f"{_other_seed(measured, score)}{_drift(measured)}",
            advice=advice,
            estimate=own,
            label="this network",
            references=tuple(references),
            axis=(max(0.0, lowest - 0.05), 1.0) if score == "accuracy" else None,
            importance=importance,
            instrument="lazy-or-rich",
            cites=("jacot2018", "chizat2019"),
        ),
    )


def _baselines(baselines: Measurement | None, score: str) -> list[tuple[str, Estimate]]:
    if baselines is None or score not in baselines.names:
        return []
    names = [str(name) for name in baselines.dataset["baseline"].values]
    return [(name, baselines.estimate(score, baseline=name)) for name in names]


def _figures(
    measured: Measurement, baselines: Measurement | None, score: str
) -> tuple[Figure, ...]:
    colors = {"network": "C0", OTHER_SEED: "0.45"}
    rows = [
        (words, measured.estimate(score, model=name), colors.get(name, "C1"))
        for name, words in _models(measured)
        # Interpolation of noisy targets may end far below zero; the table has the number.
        if measured.estimate(score, model=name).value > -1
    ]
    rows += [(name, known, "0.45") for name, known in _baselines(baselines, score)]
    aligned = [
        (f"{words}{suffix}", measured.estimate(quantity, weights=weights), color)
        for weights, words in (("now", "after training"), ("initialization", "before training"))
        for quantity, suffix, color in (
            ("alignment", "", "C0"),
            ("shuffled_alignment", ", shuffled", "0.45"),
        )
    ]
    drawn = [
        Figure(
            "kernel-scores",
            partial(figures.scores, rows=rows, label=f"{_noun(score)} on unseen data"),
            f"{_noun(score).capitalize()} of the network, of itself linearized at its start, and "
            "of cheap models. Bars: 95 % over test examples.",
            "; ".join(f"{name} {format_interval(known)}" for name, known, _ in rows),
            height=0.75 + 0.31 * len(rows),
        ),
        Figure(
            "kernel-alignment",
            partial(figures.scores, rows=aligned, label="alignment of kernel and targets"),
            "Centered alignment of the kernel with the targets, beside the same with shuffled "
            f"targets. Bars: 95 % over {aligned[1][1].over}.",
            "; ".join(f"{name} {format_number(known.value)}" for name, known, _ in aligned),
            height=0.75 + 0.31 * len(aligned),
        ),
    ]
    return tuple(drawn)


def _models(measured: Measurement) -> list[tuple[str, str]]:
    """Names and words of the networks that were compared."""
    return [(str(name), NAMES[str(name)]) for name in measured.dataset["model"].values]


def _tables(measured: Measurement) -> tuple[Table, ...]:
    score = "accuracy" if "accuracy" in measured.names else "r_squared"
    agreements = {
        "linearized": "agreement",
        "regularized": "agreement_regularized",
        OTHER_SEED: "agreement_other_seed",
    }
    models = tuple(
        (
            words,
            measured.estimate(score, model=name),
            measured.estimate(agreements[name]) if name in agreements else "",
            _points(measured.estimate(f"lead_over_{name.replace(' ', '_')}"))
            if name in agreements
            else "",
        )
        for name, words in _models(measured)
    )
    kernel = tuple(
        (words, known if np.isfinite(known.value) else "unknown")
        for words, known in (
            ("shape drift, 1 − CKA", measured.estimate("shape_drift")),
            ("scale: trace after over trace before", measured.estimate("trace_ratio")),
            *(
                (f"{words}, {name}", measured.estimate(quantity, weights=weights))
                for quantity, words in (
                    ("alignment", "alignment"),
                    ("shuffled_alignment", "alignment with shuffled targets"),
                )
                for weights, name in (("now", "after"), ("initialization", "before"))
            ),
        )
    )
    ridge = format_number(measured.estimate("ridge").value)
    return (
        Table(
            ("model", _noun(score), "agreement", "the network's lead, paired"),
            models,
            f"The chosen ridge is {ridge} of the mean of the kernel's diagonal.",
        ),
        Table(
            ("of the kernel", "value"),
            kernel,
            "Shuffled targets align by about 1/n without meaning anything.",
        ),
    )


def _spectrum(measured: Measurement | None) -> tuple[Table, ...]:
    """Return the table of the spectrum after training, where it was measured."""
    if measured is None:
        return ()
    layers = [str(layer) for layer in measured.dataset["layer"].values]
    shares = sorted(
        ((measured.estimate("layer_share", layer=layer), layer) for layer in layers),
        key=lambda pair: -pair[0].value,
    )[:LARGEST_LAYERS]
    rows = (
        ("largest eigenvalue over the rows", measured.estimate("eigenvalue", rank=1)),
        ("second", measured.estimate("eigenvalue", rank=2)),
        ("effective rank", measured.estimate("effective_rank")),
        ("condition, log₁₀ (12 is singular)", measured.estimate("log10_condition")),
        *((f"share of layer {layer} in the trace", share) for share, layer in shares),
    )
    return (
        Table(
            ("kernel after training", "value"),
            tuple((w, known if np.isfinite(known.value) else "unknown") for w, known in rows),
            "What any network shows: a few large eigenvalues, most of them for the mean.",
        ),
    )


def _assumptions(measured: Measurement) -> tuple[Assumption, ...]:
    full = "keeps the outputs apart" in measured.notes[0]
    everything = measured.estimate("fitted_share").value == 1
    return (
        Assumption(
            "The linearized network saw the same training rows as the network",
            "met" if everything else "not met",
        ),
        Assumption(
            "Its kernel keeps the outputs apart, or there is one output",
            "met" if full or measured.notes[0].endswith("has one output.") else "not met",
        ),
        Assumption("The test rows chose nothing about the network", "cannot be checked"),
    )
