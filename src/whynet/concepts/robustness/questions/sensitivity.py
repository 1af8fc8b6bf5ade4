"""How small a change of an input changes the answer?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.robustness import figures
from whynet.concepts.robustness.panels import (
    ROBUST,
    gradient_tables,
    has_learned,
    swaps_panel,
)
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
    title="How easily is it fooled?",
    short="Robustness",
    uses=(),
    may_use=("adversarial-accuracy", "token-swaps", "input-gradient"),
    references=("adversarial-accuracy", "token-swaps"),
    order=40,
)

TENTH = 3
"""Index of the radius that is a tenth of the scale of the data."""


def ask(results: Results) -> Panel:
    """Put accuracy under attack beside accuracy under random changes of the same size.

    Changes are small ones of real inputs, or single tokens that are swapped. Where neither applies
    there are gradients alone.
    """
    gradient = gradient_tables(results)
    if "token-swaps" in results.measured:
        return swaps_panel(results, results.measured["token-swaps"], gradient)
    if "adversarial-accuracy" not in results.measured:
        return _slopes(gradient)
    measured: Measurement = results.measured["adversarial-accuracy"]
    findings = _findings(results, measured)
    lead = findings[0].numbers.replace("**", "") if findings else _lead(results, measured)
    return Panel(
        lead=lead,
        method="Every entry of an input may change by at most a radius, within the range of the "
        "data. The best of random noise, one step along the gradient, one step toward each wrong "
        "class and 40 steps from 5 random starts counts; what falls at a radius falls at larger "
        "ones. Random noise is the worst of 5 draws. Bars: Clopper–Pearson over examples.",
        figures=(_figure(measured),),
        tables=(_table(measured), *gradient),
        assumptions=(
            Assumption(
                "Inputs that differ by less than the radius should get one answer",
                "cannot be checked",
            ),
            Assumption(
                "No better attack exists: accuracy under attack is an upper bound",
                "cannot be checked",
            ),
            Assumption("The examples are independent draws of one population", "cannot be checked"),
        ),
        findings=findings,
    )


def _radii(measured: Measurement) -> list[float]:
    return [float(radius) for radius in measured.dataset["radius"].values]


def _slopes(tables: tuple[Table, ...]) -> Panel:
    """Show gradients where no attack applies."""
    return Panel(
        lead="How steeply the answer depends on the input, to first order; attacks do not apply.",
        method="Gradients of every test row with respect to its input. They say nothing of what "
        "lies further away.",
        tables=tables,
        assumptions=(
            Assumption("The examples are independent draws of one population", "cannot be checked"),
        ),
    )


def _lead(results: Results, measured: Measurement) -> str:
    accuracy = measured.estimate("accuracy")
    if not has_learned(results, measured):
        return (
            f"Its accuracy of {format_interval(accuracy)} is no better than a constant answer's, "
            "so that there is nothing to fool: robustness says nothing here."
        )
    radius = _radii(measured)[TENTH]
    attacked = measured.estimate("attacked_accuracy", radius=radius)
    return (
        f"Without any change it is right on {format_interval(accuracy)}; changes of at most "
        f"{radius:g} in every entry leave at most {format_interval(attacked)}."
    )


def _findings(results: Results, measured: Measurement) -> tuple[Finding, ...]:
    """Call a network fragile or robust only beside random noise and its own clean accuracy."""
    if not has_learned(results, measured):
        return ()
    radii = _radii(measured)
    half = measured.estimate("accuracy").value / 2
    first = next(
        (r for r in radii if measured.estimate("attacked_accuracy", radius=r).value < half), None
    )
    if first is not None:
        attacked = measured.estimate("attacked_accuracy", radius=first)
        noise = measured.estimate("noise_accuracy", radius=first)
        if first <= radii[TENTH] and attacked.high < noise.low:
            return (_fragile(measured, first, attacked, noise),)
    tenth = measured.estimate("attacked_accuracy", radius=radii[TENTH])
    if tenth.low > ROBUST * measured.estimate("accuracy").value:
        return (_robust(measured, radii[TENTH], tenth),)
    return ()


def _references(measured: Measurement, radius: float) -> tuple[Reference, ...]:
    noise = measured.estimate("noise_accuracy", radius=radius)
    clean = measured.estimate("accuracy")
    return (
        Reference("random noise", noise.low, noise.high),
        Reference("no change", clean.low, clean.high),
    )


def _fragile(measured: Measurement, radius: float, attacked: Estimate, noise: Estimate) -> Finding:
    place = _radii(measured).index(radius)
    clean = measured.estimate("accuracy")
    deviations = format_number(4 * radius / measured.estimate("scale").value, digits=2)
    return Finding(
        key="fragile",
        headline="It is easily fooled.",
        numbers=f"Changes of at most {radius:g} in every entry ({deviations} standard "
        f"deviations of a typical feature) leave at most **{format_interval(attacked)}** right; "
        f"random noise of that size leaves {format_interval(noise)}, no change "
        f"{format_interval(clean)}.",
        advice="If someone may choose the inputs, train on attacked ones (adversarial training) "
        "and measure again; if not, this says how close the decision boundary lies to the data.",
        estimate=attacked,
        label=f"under attack at {radius:g}",
        references=_references(measured, radius),
        axis=(0.0, 1.0),
        importance=0.75 - 0.05 * place,
        instrument="adversarial-accuracy",
        cites=("goodfellow2015", "madry2018"),
        read=lambda other: other.estimate("attacked_accuracy", radius=radius),
        regardless=True,
    )


def _robust(measured: Measurement, radius: float, attacked: Estimate) -> Finding:
    clean = measured.estimate("accuracy")
    return Finding(
        key="withstands_attacks",
        headline="It withstands the attacks that were tried.",
        numbers=f"Under the best of all attacks with changes of at most {radius:g} in every entry "
        f"it is right on **{format_interval(attacked)}**, without any change on "
        f"{format_interval(clean)}.",
        advice="Nothing is guaranteed: this is an upper bound. Where safety depends on it, try "
        "more restarts and attacks of other kinds.",
        estimate=attacked,
        label=f"under attack at {radius:g}",
        references=_references(measured, radius),
        axis=(0.0, 1.0),
        importance=0.45,
        instrument="adversarial-accuracy",
        cites=("madry2018",),
        read=lambda other: other.estimate("attacked_accuracy", radius=radius),
    )


_CURVES = (
    ("best attack", "attacked_accuracy"),
    ("one step (FGSM)", "fgsm_accuracy"),
    ("random noise", "noise_accuracy"),
)


def _figure(measured: Measurement) -> Figure:
    radii = _radii(measured)
    clean = measured.estimate("accuracy")
    curves = [
        (
            name,
            np.concatenate([[clean.value], measured.values(quantity)]),
            np.concatenate(
                [[[clean.low], [clean.high]], np.stack(measured.bounds(quantity))], axis=1
            ),
        )
        for name, quantity in _CURVES
    ]
    constant = measured.estimate("constant_accuracy").value
    return Figure(
        "sensitivity-accuracy",
        partial(
            figures.accuracy_curves,
            radii=np.array([0.0, *radii]),
            curves=curves,
            constant=constant,
        ),
        "Accuracy when every entry of an input may change by at most the radius. Bands: 95 % "
        "over examples, Clopper–Pearson.",
        "; ".join(
            f"radius {radius:g}: best attack {100 * attacked:.0f} %, noise {100 * noise:.0f} %"
            for radius, attacked, noise in zip(
                radii,
                measured.values("attacked_accuracy"),
                measured.values("noise_accuracy"),
                strict=True,
            )
        ),
    )


def _table(measured: Measurement) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (f"{radius:g}", *(measured.estimate(name, radius=radius) for _, name in _CURVES))
        for radius in _radii(measured)
    )
    return Table(("radius", *(name for name, _ in _CURVES)), rows, " ".join(measured.notes))
