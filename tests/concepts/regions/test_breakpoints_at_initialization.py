"""The expected number of breakpoints against quadrature and against drawn networks."""

import numpy as np
import pytest
from scipy.integrate import quad

from whynet.concepts.regions.theory.breakpoints_at_initialization import (
    expected_breakpoints,
    expected_breakpoints_bound,
)
from whynet.core.errors import InputError

START, END = np.array([-2.0, 0.3]), np.array([2.0, 0.9])


def _sign_changes(rng: np.random.Generator, widths: list[int], bias_scale: float) -> int:
    times = np.linspace(0.0, 1.0, 4001)[:, None]
    values, count = START + times * (END - START), 0
    for width in widths:
        fan = values.shape[1]
        weights = rng.normal(size=(fan, width)) * np.sqrt(2 / fan)
        values = values @ weights + bias_scale * rng.normal(size=width)
        count += int(((values[1:] > 0) != (values[:-1] > 0)).sum())
        values = np.maximum(values, 0)
    return count


def test_the_closed_form_is_the_integral_of_rices_density() -> None:
    factor, bias = 1.7, 0.4
    direction = END - START

    def density(t: float, layer: int) -> float:
        point = START + t * direction
        k, c, d = (
            factor * float(u @ v) / 2
            for u, v in ((point, point), (point, direction), (direction, direction))
        )
        k += bias**2
        for _ in range(layer):
            k, c, d = bias**2 + factor * k / 2, factor * c / 2, factor * d / 2
        return float(np.sqrt(k * d - c * c) / (np.pi * k))

    widths = [5, 7, 3]
    integral = sum(w * quad(density, 0, 1, args=(i,))[0] for i, w in enumerate(widths))
    found = expected_breakpoints(START, END, widths, weight_scale=factor**0.5, bias_scale=bias)
    assert found == pytest.approx(integral, rel=1e-8)


def test_every_unit_contributes_one_over_the_whole_line() -> None:
    far = 1e7 * np.array([1.0, 0.2])
    found = expected_breakpoints(-far, far, [8, 8, 8], bias_scale=0.3)
    assert found == pytest.approx(24, abs=1e-4)


@pytest.mark.parametrize("widths", [[64], [64, 64]])
def test_drawn_networks_have_the_expected_number(widths: list[int]) -> None:
    rng = np.random.default_rng(3)
    counts = np.array([_sign_changes(rng, widths, 0.3) for _ in range(60)])
    error = counts.std(ddof=1) / np.sqrt(len(counts))
    found = expected_breakpoints(START, END, widths, bias_scale=0.3)
    assert abs(counts.mean() - found) < 3.5 * error + 0.01 * found
    wrong = expected_breakpoints(START, END, widths, bias_scale=1.2)
    assert abs(counts.mean() - wrong) > 3.5 * error + 0.01 * wrong


def test_a_point_is_no_segment() -> None:
    with pytest.raises(InputError, match="segment of positive length"):
        expected_breakpoints(START, START, [4], bias_scale=0.3)


@pytest.mark.parametrize("widths", [[3], [3, 2, 4]])
def test_the_bound_holds_at_small_widths(widths: list[int]) -> None:
    rng = np.random.default_rng(4)
    counts = np.array([_sign_changes(rng, widths, 0.8) for _ in range(60)])
    error = counts.std(ddof=1) / np.sqrt(len(counts))
    bound = expected_breakpoints_bound(START, END, widths, bias_scale=0.8)
    assert counts.mean() + 3.5 * error < bound
    assert expected_breakpoints(START, END, widths, bias_scale=0.8) < bound


def test_the_bound_is_off_by_the_mean_size_of_a_normal_number_where_it_is_sharpest() -> None:
    near, scales = 1e-5 * np.array([1.0, 2.0]), {"weight_scale": 1.3, "bias_scale": 0.7}
    bound = expected_breakpoints_bound(-near, near, [5], **scales)
    assert bound / expected_breakpoints(-near, near, [5], **scales) == pytest.approx(
        np.sqrt(np.pi / 2), rel=1e-6
    )
    deep = expected_breakpoints_bound(-near, near, [5, 5], **scales)
    assert deep / bound == pytest.approx(1 + 1.3 / 2**0.5)
