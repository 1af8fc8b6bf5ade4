"""Which guarantees hold: of this network, of a noisy copy of it, of all networks of its norms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from whynet.concepts.generalization import figures
from whynet.concepts.generalization.theory import norm_bounds, pac_bayes, test_set_bound
from whynet.core.estimate import Estimate, format_interval, format_number
from whynet.core.measurement import Measurement, Prediction
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
    title="Which guarantees hold?",
    short="Guarantees",
    uses=("bound-ingredients",),
    order=25,
)

DELTA, ROWS = 0.05, 3
"""Chance that any of the guarantees is wrong, and how many share it, whether they apply or not."""


@dataclass(frozen=True)
class Guarantee:
    """One row of the ladder.

    Attributes:
        name: of the bound.
        whom: what it is about.
        assumes: what it rests on.
        error: the measured share of mistakes, its upper end the bound; None where it cannot be had.
        detail: what was chosen for it, a phrase.

    """

    name: str
    whom: str
    assumes: str
    error: Estimate | None
    detail: str = ""


def ask(results: Results) -> Panel:
    """Put the bounds beside each other and beside a constant answer."""
    measured: Measurement = results.measured["bound-ingredients"]
    constant = measured.estimate("constant_error")
    ladder = (_test_set(measured), _pac_bayes(measured), _norms(measured))
    noisy = ladder[1]
    given = measured.names
    return Panel(
        lead=_lead(ladder, constant),
        method=f"Each bound may be wrong with probability {DELTA / ROWS:.4f}, so that all hold "
        "together with 95 %. It is useful where it lies below the error of a constant answer; "
        "a PAC-Bayes bound is below 100 % by its form, which alone says nothing.",
        figures=_figures(ladder, constant),
        tables=_tables(measured, ladder, constant),
        assumptions=(
            Assumption("The examples are independent draws of one population", "cannot be checked"),
            Assumption("The test data chose nothing about the network", "cannot be checked"),
            Assumption(
                "The weights before training are known",
                "met" if "distance" in given else "not met",
            ),
            Assumption(
                "The weights before training had not seen the training data", "cannot be checked"
            ),
            Assumption(
                "The network is a plain chain of linear layers and activations of slope at most 1",
                "met" if "spectral_norm" in given else "not met",
            ),
        ),
        findings=_finding(noisy, constant),
    )


def _whole(measured: Measurement, name: str) -> int:
    return round(measured.estimate(name).value)


def _test_set(measured: Measurement) -> Guarantee:
    error = None
    if "test_mistakes" in measured.names:
        mistakes, examples = (_whole(measured, n) for n in ("test_mistakes", "test_examples"))
        error = test_set_bound.predict(mistakes, examples, DELTA / ROWS).estimate("error")
    return Guarantee(
        "test-set bound", "this network", "test data that chose nothing about it", error
    )


def _pac_bayes(measured: Measurement) -> Guarantee:
    """Take the size of the noise at which the bound is smallest; it holds for all of them."""
    error, detail = None, ""
    whom = "a copy with fresh Gaussian noise in its weights at every answer, on average"
    assumes = "initial weights that saw none of the training data"
    if "perturbed_error" in measured.names:
        predicted = pac_bayes.predict(
            noise=measured.dataset["noise"].values,
            perturbed_error=measured.values("perturbed_error"),
            draws=_whole(measured, "draws"),
            distance=measured.estimate("distance").value,
            parameters=_whole(measured, "parameters"),
            unit=measured.estimate("unit_of_noise").value,
            examples=_whole(measured, "train_examples"),
            delta=DELTA / ROWS,
        )
        if isinstance(predicted, Prediction):
            best = float(predicted.dataset["noise"].values[predicted.bounds("error")[1].argmin()])
            error = predicted.estimate("error", noise=best)
            cost = predicted.estimate("cost", noise=best).value
            detail = (
                f"noise of {format_number(best)} times the size of the initial weights, "
                f"{format_number(cost)} nats from the prior"
            )
    return Guarantee("PAC-Bayes bound", whom, assumes, error, detail)


def _norms(measured: Measurement) -> Guarantee:
    error, detail = None, ""
    if "spectral_norm" in measured.names and _whole(measured, "train_examples") > 1:
        predicted = norm_bounds.predict(
            spectral=measured.values("spectral_norm"),
            distances=measured.values("row_distance"),
            input_norm=measured.estimate("input_norm").value,
            width=_whole(measured, "width"),
            margins=measured.dataset["gamma"].values,
            margin_errors=measured.values("margin_error"),
            examples=_whole(measured, "train_examples"),
            delta=DELTA / ROWS,
        )
        error = predicted.estimate("error")
        detail = f"at a margin of {format_number(predicted.estimate('margin').value)}"
    return Guarantee(
        "spectral norm bound",
        "this network, as one of all with norms and margins like its own",
        "a plain chain of layers, and reference weights that saw none of the training data",
        error,
        detail,
    )


def _useful(error: Estimate, constant: Estimate) -> bool:
    return error.high < constant.low


def _verdict(error: Estimate | None, constant: Estimate) -> str:
    if error is None:
        return "does not apply"
    if error.high >= 1:
        return "vacuous: not below 100 %"
    if _useful(error, constant):
        return "useful"
    return "vacuous: a constant answer may do as well"


def _at_most(error: Estimate) -> str:
    if error.high >= 10:
        return f"{format_number(error.high)} × 100 %"
    return format_number(error.high, "fraction")


def _lead(ladder: tuple[Guarantee, ...], constant: Estimate) -> str:
    exact, noisy, norms = (guarantee.error for guarantee in ladder)
    parts = []
    if exact is not None:
        parts.append(
            f"On unseen data its error is at most {format_number(exact.high, 'fraction')}, by its "
            "test data."
        )
    if noisy is not None:
        parts.append(
            "The training data guarantee that with noise in its weights it errs on at most "
            f"{format_number(noisy.high, 'fraction')} of unseen data; a constant answer errs on "
            f"{format_interval(constant)}."
        )
    if norms is not None and norms.high >= 1:
        parts.append("The bound by norms is vacuous, as it is for nearly every trained network.")
    if not parts:
        return "None of the bounds applies here; the table says what each of them assumes."
    return " ".join(parts)


def _finding(noisy: Guarantee, constant: Estimate) -> tuple[Finding, ...]:
    """Make one only where training data alone guarantee more than a constant answer gives."""
    if noisy.error is None or not _useful(noisy.error, constant):
        return ()
    return (
        Finding(
            key="pac_bayes",
            headline="Its training data alone guarantee that a noisy copy of it generalizes.",
            numbers="With fresh Gaussian noise in its weights it errs on "
            f"**at most {format_number(noisy.error.high, 'fraction')}** of unseen data (PAC-Bayes, "
            f"{noisy.detail}); a constant answer errs on {format_interval(constant)}.",
            advice="For this network itself the test data say more; this bound holds where no "
            "test data can be spared.",
            estimate=noisy.error,
            label="error of a noisy copy",
            references=(Reference("constant answer", constant.low, constant.high),),
            axis=(0.0, 1.0),
            importance=0.3,
            instrument="bound-ingredients",
            cites=("dziugaite2017", "maurer2004"),
        ),
    )


def _figures(ladder: tuple[Guarantee, ...], constant: Estimate) -> tuple[Figure, ...]:
    rows = [
        (guarantee.name, guarantee.error, True)
        for guarantee in ladder
        if guarantee.error is not None and guarantee.error.high < 1
    ]
    if not rows:
        return ()
    rows.append(("constant answer", constant, False))
    return (
        Figure(
            "guarantees",
            partial(figures.forest, rows=rows, label="error"),
            "Measured error (dot), and up to where the guarantee lets the true error be (bar). "
            "Bars together 95 %; that of the constant answer 95 % over examples.",
            "; ".join(f"{n} {format_number(e.high, 'fraction')}" for n, e, _ in rows),
            height=0.75 + 0.31 * len(rows),
        ),
    )


def _tables(
    measured: Measurement, ladder: tuple[Guarantee, ...], constant: Estimate
) -> tuple[Table, ...]:
    rows = tuple(
        (
            guarantee.name,
            guarantee.whom,
            "" if guarantee.error is None else _at_most(guarantee.error),
            _verdict(guarantee.error, constant),
            guarantee.assumes,
            guarantee.detail,
        )
        for guarantee in ladder
    )
    head = ("bound", "holds for", "error at most", "verdict", "assumes", "chosen")
    said = "What each bound speaks of, and what it assumes."
    return (Table(head, rows, " ".join((said, *measured.notes))),)
