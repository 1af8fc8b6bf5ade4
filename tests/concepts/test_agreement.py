"""Verdicts on exact statements."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.concepts.agreement import ENOUGH_CASES, judge_cases

ALL = np.ones(ENOUGH_CASES, dtype=bool)


def test_one_exception_refutes_and_few_cases_decide_nothing() -> None:
    one = ALL.copy()
    one[3] = False
    assert judge_cases({"equal": ALL}).state == "supported"
    found = judge_cases({"equal": ALL, "above": one}, "Twice as far.")
    assert found.state == "refuted"
    assert "above in 16 of 17 cases" in found.sentence and "equal" not in found.sentence
    assert found.sentence.endswith("Twice as far.")
    assert judge_cases({"equal": ALL[1:]}).state == "inconclusive"
    assert judge_cases({"equal": ALL, "above": ALL[1:]}).state == "inconclusive"
    assert judge_cases({"equal": one[:5]}).state == "refuted"
    assert found.numbers["above"].value == pytest.approx(16 / 17)


def test_a_statement_with_many_exceptions_is_seldom_supported() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.random((4000, ENOUGH_CASES)) > 0.162
    called = np.mean([judge_cases({"": cases}).state == "supported" for cases in drawn])
    assert 0.03 < called < 0.06
