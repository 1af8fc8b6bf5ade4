from __future__ import annotations

import math

import numpy as np
import pytest

from whynet.numerics.step_sizes import best_on_grid, slope

RATES = (0.5, 1.0, 2.0, 4.0, 8.0)


@pytest.mark.parametrize("best", [0.0, 0.3, 1.5, 1.999])
def test_the_vertex_of_a_parabola_is_found(best: float) -> None:
    losses = 3 * (np.log2(RATES) - best) ** 2 - 7
    assert best_on_grid(RATES, losses) == pytest.approx(best, abs=1e-12)


def test_ends_of_the_grid_and_divergence() -> None:
    assert math.isnan(best_on_grid(RATES, [5, 4, 3, 2, 1]))
    assert math.isnan(best_on_grid(RATES, [1, 2, 3, 4, 5]))
    assert math.isnan(best_on_grid(RATES, [1, 0, math.nan, 4, 5]))
    assert math.isnan(best_on_grid(RATES, [math.inf] * 5))
    assert best_on_grid(RATES, [5, 4, 3, math.inf, math.inf]) == 1.0
    assert best_on_grid(RATES, [1, 0, 0, 0, 1]) == pytest.approx(0.5)


def test_slopes_agree_with_a_fit() -> None:
    widths = (0.5, 1.0, 3.0, 4.0)
    logs = np.random.default_rng(0).standard_normal((5, 4))
    want = [np.polyfit(np.log2(widths), row, 1)[0] for row in logs]
    assert slope(widths, logs) == pytest.approx(want)
    assert np.isnan(slope(widths, [[1, 2, math.nan, 3]])).all()
