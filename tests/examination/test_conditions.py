from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import Failed, NotApplicable
from whynet.examination.conditions import Condition, check_keys, judge, parse_condition


def estimate(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, "interval")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("test_accuracy < 0.9", Condition("test_accuracy", "<", 0.9)),
        ("  fit.loss.test>=1e-3 ", Condition("fit.loss.test", ">=", 1e-3)),
        ("a.b.layer 0<=-2", Condition("a.b.layer 0", "<=", -2.0)),
        ("a.b.[x]→y > 3", Condition("a.b.[x]→y", ">", 3.0)),
    ],
)
def test_forms(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    "text",
    ["", "x", "x < ", "< 3", "x = 3", "x == 3", "x < y", "x < nan", "x < inf", "x < 3 4", "x << 3"],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--fail-on: found .* wanted a condition such as"):
        parse_condition(text)


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_a_sentence(text: str) -> None:
    try:
        condition = parse_condition(text)
    except InputError:
        return
    assert math.isfinite(condition.bound) and condition.key in text


@pytest.mark.parametrize(
    ("sign", "low", "high", "fails"),
    [
        ("<", 0.9, 0.95, False),
        ("<", 0.89, 0.95, True),
        ("<=", 0.9, 0.95, True),
        ("<=", 0.91, 0.95, False),
        (">", 0.8, 0.9, False),
        (">", 0.8, 0.91, True),
        (">=", 0.8, 0.9, True),
        (">=", 0.8, 0.89, False),
        ("<", math.nan, 0.95, True),
        (">", 0.0, math.inf, True),
    ],
)
def test_the_safe_end_of_the_interval_decides(
    sign: str, low: float, high: float, fails: bool
) -> None:
    assert Condition("x", sign, 0.9).fails(estimate(low, high)) is fails


def test_judging_says_what_cannot_be_excluded() -> None:
    numbers = {"test_accuracy": estimate(0.8, 0.9), "fit.loss.test": estimate(1.0, 2.0)}
    said = judge(
        (Condition("test_accuracy", "<", 0.85), Condition("fit.loss.test", ">", 2.5)), numbers
    )
    assert said == [
        "test_accuracy is 0.850 [0.800, 0.900]: test_accuracy < 0.85 cannot be excluded."
    ]
    with pytest.raises(
        InputError, match=r"unknown number 'test_acuracy'.*nearest are test_accuracy"
    ):
        judge((Condition("test_acuracy", "<", 0.85),), numbers)


@pytest.mark.parametrize("key", ["fit.x", "fit.accuracy.test", "test_x", "train_accuracy"])
def test_keys_that_a_number_may_have(key: str) -> None:
    check_keys((Condition(key, "<", 1.0),), ("fit", "margins"))


@pytest.mark.parametrize("key", ["x", "accuracy", "tset_accuracy", "fti.accuracy", "fit", ".x"])
def test_keys_that_no_number_has(key: str) -> None:
    with pytest.raises(InputError, match=r"of nothing that runs; wanted test_…, train_…, or one"):
        check_keys((Condition(key, "<", 1.0),), ("fit", "margins"))


def measured() -> Measurement:
    return Measurement.of(
        {
            "loss": Quantity([0.5, math.nan], dims=("split",), missing="No rows were scored."),
            "whole": Quantity(math.nan, missing="Nothing moved."),
        },
        coords={"split": ["test", "train"]},
    )


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("fit.accuracy.test", "fit failed: ValueError: no luck"),
        ("margins.least", "margins does not apply: There are no classes"),
        ("curves.x", "curves was not reached"),
        ("held.loss.train", "No rows were scored"),
        ("held.whole", "Nothing moved"),
        ("test_accuracy", "fit failed: .*; margins does not apply: .*; curves was not reached"),
    ],
)
def test_what_was_not_measured_excludes_nothing(key: str, reason: str) -> None:
    outcomes = {
        "fit": Failed("ValueError: no luck."),
        "held": measured(),
        "margins": NotApplicable("There are no classes."),
        "curves": None,
    }
    (said,) = judge((Condition(key, "<", 0.85),), {"held.loss.test": estimate(0, 1)}, "", outcomes)
    assert re.fullmatch(
        rf"{re.escape(key)} was not measured \({reason}\): "
        rf"{re.escape(key)} < 0.85 cannot be excluded\.",
        said,
    )


@pytest.mark.parametrize("key", ["held.loss.tset", "held.los", "held.loss", "test_accuracy"])
def test_what_nobody_could_measure_is_a_mistake(key: str) -> None:
    with pytest.raises(InputError, match=r"--fail-on: found the unknown number"):
        judge((Condition(key, "<", 1.0),), {}, outcomes={"held": measured()})
