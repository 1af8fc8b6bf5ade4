"""Verdicts from intervals and bands."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.concepts.bands import Band, judge_bands, slopes

DRAWS = np.random.default_rng(0).normal(size=20)


@pytest.mark.parametrize(
    ("shift", "state"),
    [(0, "supported"), (0.9, "inconclusive"), (-1.1, "inconclusive"), (3, "refuted")],
)
def test_one_band(shift: float, state: str) -> None:
    found = judge_bands([Band("number", DRAWS - DRAWS.mean() + shift, -1, 1)])
    assert found.state == state
    assert "number" in found.sentence
    assert found.numbers["number"].value == pytest.approx(shift, abs=1e-12)


def test_all_must_lie_inside_and_one_outside_refutes() -> None:
    inside, outside = Band("in", DRAWS, -5, 5), Band("out", DRAWS + 9, high=5)
    assert judge_bands([inside, inside]).state == "supported"
    verdict = judge_bands([inside, outside])
    assert verdict.state == "refuted"
    assert "out" in verdict.sentence and "in 0" not in verdict.sentence
    assert "at most 5" in verdict.sentence


def test_numbers_that_are_not_finite_decide_nothing() -> None:
    values = np.array([1.0, np.nan, 1.0])
    assert judge_bands([Band("number", values, 0, 2)]).state == "inconclusive"


def test_false_refutation_allows_for_the_number_of_bands() -> None:
    generator = np.random.default_rng(1)
    edge = 0
    for _ in range(200):
        bands = [Band(str(i), generator.normal(size=10), high=0.0) for i in range(10)]
        edge += judge_bands(bands).state == "refuted"
    assert edge <= 0.06 * 200


def test_slopes_of_power_laws() -> None:
    sizes = np.array([10, 100, 1000])
    values = 3 * sizes[:, None] ** np.array([-0.5, 1.0])
    np.testing.assert_allclose(slopes(sizes, values), [-0.5, 1.0])
