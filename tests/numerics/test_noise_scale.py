"""The noise scale against gradients whose covariance is known."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.core.errors import InputError
from whynet.numerics.noise_scale import noise_scale


def products(gradients: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    groups = gradients.reshape(-1, size, gradients.shape[1]).mean(1)
    return (groups**2).sum(1), groups @ groups.mean(0)


def test_parts_are_those_of_the_textbook() -> None:
    gradients = np.random.default_rng(0).standard_normal((64, 5)) + 2
    found = noise_scale(*products(gradients, 1), 1)
    trace = gradients.var(0, ddof=1).sum()
    mean = gradients.mean(0)
    assert found.value == pytest.approx(trace / (mean @ mean - trace / 64))


def test_all_rows_of_a_population_leave_no_bias_to_take_away() -> None:
    gradients = np.random.default_rng(0).standard_normal((64, 5)) + 2
    found = noise_scale(*products(gradients, 1), 1, 64)
    mean = gradients.mean(0)
    assert found.value == pytest.approx(gradients.var(0, ddof=1).sum() / (mean @ mean))


@pytest.mark.parametrize("population", [None, 420])
@pytest.mark.parametrize("length", [1.0, 3.0])
def test_coverage(population: int | None, length: float) -> None:
    generator = np.random.default_rng(1)
    hits, draws = 0, 400
    for _ in range(draws):
        rows = generator.standard_normal((population or 256, 4)) * np.array([0.3, 1, 1, 2])
        rows[:, 0] += length
        truth = (0.09 + 1 + 1 + 4) / length**2
        if population is not None:
            mean = rows.mean(0)
            truth = rows.var(0, ddof=1).sum() / (mean @ mean)
        found = noise_scale(*products(rows[:256], 8), 8, population)
        assert found.kind == "interval"
        hits += found.low <= truth <= found.high
    assert 0.917 <= hits / draws <= 0.995


def test_a_gradient_lost_in_noise_has_no_upper_end_or_no_number() -> None:
    generator = np.random.default_rng(2)
    found = [noise_scale(*products(generator.standard_normal((256, 9)), 8), 8) for _ in range(40)]
    assert all(np.isnan(one.value) or one.high == np.inf for one in found if one.low != 0)
    assert sum(np.isnan(one.value) for one in found) > 10
    assert sum(one.high == np.inf for one in found) > 10


def test_few_groups_are_only_indicative() -> None:
    gradients = np.random.default_rng(0).standard_normal((16, 5)) + 2
    assert noise_scale(*products(gradients, 2), 2).kind == "indicative"


@pytest.mark.parametrize(
    ("groups", "size", "population", "argument"),
    [(3, 1, None, "squares"), (8, 0, None, "size"), (8, 2, 15, "population")],
)
def test_refusals(groups: int, size: int, population: int | None, argument: str) -> None:
    with pytest.raises(InputError) as caught:
        noise_scale(np.ones(groups), np.ones(groups), size, population)
    assert caught.value.argument == argument
