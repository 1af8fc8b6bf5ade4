"""Means over seeds and examples cover under every mixture of the two, at three seeds and more."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.numerics.crossed_means import crossed_mean

DRAWS = 400
PARTS = [(1, 0, 0.1), (0, 1, 0.1), (0.2, 1, 1), (1, 6, 1), (1, 1, 6), (0.3, 0.3, 0)]


def drawn(runs: int, of_run: float, of_example: float, rest: float) -> np.ndarray:
    random = np.random.default_rng(5)
    return (
        of_run * random.standard_normal((DRAWS, runs, 1))
        + of_example * random.standard_normal((DRAWS, 1, 40))
        + rest * random.standard_normal((DRAWS, runs, 40))
    )


@pytest.mark.parametrize("runs", [3, 12])
@pytest.mark.parametrize("parts", PARTS)
def test_coverage(parts: tuple[float, float, float], runs: int) -> None:
    found = [crossed_mean(table, over="seeds and examples") for table in drawn(runs, *parts)]
    share = np.mean([estimate.low <= 0 <= estimate.high for estimate in found])
    # Three runs leave degrees of freedom that are guessed: 92.6 % at the least, over 4000 draws.
    level = 0.926 if runs == 3 else 0.94
    assert share >= level - 3 * (0.05 * 0.95 / DRAWS) ** 0.5
