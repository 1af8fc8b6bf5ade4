from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from whynet.core.errors import InputError
from whynet.numerics.matching import correlations, cosine, match_units, relative_distance


def test_correlations_are_those_of_numpy() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(50, 3)), random.normal(size=(50, 4))
    whole = np.corrcoef(first, second, rowvar=False)[:3, 3:]
    assert correlations(first, second) == pytest.approx(whole, abs=1e-12)


def test_constant_units_correlate_with_nothing() -> None:
    column = np.linspace(0, 1, 9)
    flat = np.full(9, 0.1)
    found = correlations(np.stack([column, flat], 1), np.stack([flat, -column], 1))
    assert found == pytest.approx(np.array([[0.0, -1.0], [0.0, 0.0]]))


def test_matching_maximizes_the_sum_over_all_permutations() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        score = random.normal(size=(5, 5))
        best = max(sum(score[i, order[i]] for i in range(5)) for order in permutations(range(5)))
        found = match_units(score)
        assert sorted(found.partner) == list(range(5))
        assert found.correlation.sum() == pytest.approx(best)


def test_a_permutation_is_found_and_ties_are_broken() -> None:
    random = np.random.default_rng(2)
    units, order = random.normal(size=(40, 6)), random.permutation(6)
    found = match_units(correlations(units, units[:, order]))
    assert (order[found.partner] == np.arange(6)).all()
    dead = np.zeros((6, 6))
    again = match_units(dead, correlations(units, units[:, order]))
    assert (again.partner == found.partner).all()
    assert (again.correlation == 0).all()


def test_distance_and_cosine_at_their_landmarks() -> None:
    a, b = np.array([3.0, 0.0]), np.array([0.0, 3.0])
    assert [relative_distance(a, x) for x in (a, b, -a)] == pytest.approx([0, 2**0.5, 2])
    assert [cosine(a, x) for x in (a, b, -a, 0 * a)] == pytest.approx([1, 0, -1, 0])
    assert relative_distance(0 * a, 0 * b) == 0.0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: correlations(np.ones((3, 2)), np.ones((4, 2))),
         "second: found 4 rows; wanted the 3 of first."),
        (lambda: correlations(np.ones(3), np.ones((3, 1))),
         "first: found an array of shape (3,); wanted at least two rows of finite numbers."),
        (lambda: match_units(np.ones((2, 3))),
         "similarity: found an array of shape (2, 3); wanted a square array of finite numbers."),
    ],
)  # fmt: skip
def test_refusals(call, sentence) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as refusal:
        call()
    assert str(refusal.value) == sentence
