"""Backward elimination against least squares solved afresh for every choice."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.numerics import unit_elimination
from whynet.numerics.equal_rows import equal_rows
from whynet.numerics.unit_elimination import Reading, eliminate


def drawn(size: int, count: int, outputs: int, seed: int) -> tuple[np.ndarray, Reading]:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((60, count * size)) @ generator.standard_normal(
        (count * size, count * size)
    )
    root = generator.standard_normal((outputs, outputs))
    weight = generator.standard_normal((outputs, count * size))
    units = generator.permutation(np.repeat(np.arange(count), size))
    return rows, Reading(rows.T @ rows / len(rows), weight, root @ root.T, units)


def error_of(rows: np.ndarray, reading: Reading, left: list[int]) -> float:
    """Solve least squares with the features of some units, in the metric of the outputs."""
    wanted = rows @ reading.weight.T
    features = rows[:, np.isin(reading.units, left)]
    fitted = features @ np.linalg.lstsq(features, wanted, rcond=None)[0]
    gap = wanted - fitted
    return float(np.einsum("ri,ij,rj->", gap, reading.metric, gap) / len(rows))


@pytest.mark.parametrize("size", [1, 3])
def test_each_step_removes_the_cheapest_unit_at_its_true_cost(size: int) -> None:
    count = 7
    pairs = [drawn(size, count, 4, seed) for seed in (0, 1)]  # two layers read the same units
    found = eliminate([reading for _, reading in pairs], count)
    left = list(range(count))
    for step in range(count - 1):
        each = [
            sum(error_of(rows, reading, [u for u in left if u != unit]) for rows, reading in pairs)
            for unit in left
        ]
        assert found.order[step] == left[int(np.argmin(each))]
        left.remove(int(found.order[step]))
        exact = sum(error_of(rows, reading, left) for rows, reading in pairs)
        # Costs of steps add up, since each is the whole increase.
        assert found.cost[step + 1] == pytest.approx(exact, rel=1e-6)
    assert list(found.kept(2)) == sorted(found.order[-2:])
    assert len(found.kept_below(found.cost[3])) == count - 3
    assert len(found.kept_below(1e300)) == 1


def test_copies_go_first_and_cost_nothing() -> None:
    rows, reading = drawn(1, 80, 3, 0)
    del rows
    origin = np.random.default_rng(1).integers(0, 10, 80)
    origin[:10] = np.arange(10)
    base = reading.moment[:10, :10] + np.eye(10)
    twin = Reading(base[np.ix_(origin, origin)], reading.weight, reading.metric, np.arange(80))
    found = eliminate([twin], 80)
    assert found.cost[70] < 1e-7 * found.cost[-1] < found.cost[71]
    assert sorted(origin[found.kept(10)]) == list(range(10))


@pytest.mark.parametrize("outputs", [4, 30])
def test_of_many_units_those_explained_best_go_first_at_their_true_cost(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where more outputs read them than units are left, and where some are copies."""
    monkeypatch.setattr(unit_elimination, "MANY", 5)
    rows, reading = drawn(1, 12, outputs, 3)
    rows[:, reading.units == 7] = -2 * rows[:, reading.units == 3]
    moment = rows.T @ rows / len(rows)
    reading = Reading(moment, reading.weight, reading.metric, reading.units)
    found = eliminate([reading], 12)
    assert sorted(found.order) == list(range(12))
    assert found.order[0] in (3, 7)
    top = found.cost[-1]
    for gone in range(1, 12):
        left = [unit for unit in range(12) if unit not in found.order[:gone]]
        exact = error_of(rows, reading, left)
        assert found.cost[gone] == pytest.approx(exact, rel=1e-6, abs=1e-9 * top)
    # What is left of many is chosen by elimination, step by step.
    last = list(found.order[7:])
    each = [error_of(rows, reading, [u for u in last if u != unit]) for unit in last]
    assert last[int(np.argmin(each))] == found.order[7]


def test_equal_rows_are_found_and_near_ones_are_not() -> None:
    generator = np.random.default_rng(0)
    base = generator.standard_normal((40, 9))
    origin = generator.integers(0, 40, 300)
    noise = 1e-13 * generator.standard_normal((300, 9))
    rows = base[origin] + noise
    leaders = equal_rows(rows, 1e-11)
    assert all((leaders[i] == leaders[j]) == (origin[i] == origin[j])
               for i in range(0, 300, 7) for j in range(300))  # fmt: skip
    assert (leaders[leaders] == leaders).all()
    near = base[origin] + 1e-8 * generator.standard_normal((300, 9))
    assert (equal_rows(near, 1e-11) == np.arange(300)).all()
    assert list(equal_rows(np.zeros((3, 0)), 1e-9)) == [0, 0, 0]


def test_no_chain_of_small_steps_joins_what_is_far_apart() -> None:
    rows = np.linspace(0, 1, 101)[:, None] * np.ones((1, 3))
    leaders = equal_rows(rows, 0.015)
    assert np.abs(rows - rows[leaders]).max() <= 0.015
    assert 30 < len(np.unique(leaders)) < 60
