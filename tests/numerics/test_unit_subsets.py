"""Choosing units and refitting their reader, against QR and least squares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from whynet.numerics.unit_subsets import Layer, pivoted, pivots, refit

GENERATOR = np.random.default_rng


def test_pivots_are_those_of_qr() -> None:
    rows = GENERATOR(0).standard_normal((200, 15)) @ GENERATOR(1).standard_normal((15, 15))
    assert pivots(rows.T @ rows).tolist() == linalg.qr(rows, pivoting=True)[2].tolist()


def test_the_factor_leaves_what_the_units_taken_do_not_explain() -> None:
    rows = GENERATOR(7).standard_normal((60, 9)) @ GENERATOR(8).standard_normal((9, 20))
    moment = rows.T @ rows
    order, factor, rank = pivoted(moment, 1e-10)
    assert (rank, factor.shape) == (9, (20, 9))
    assert factor @ factor.T == pytest.approx(moment[np.ix_(order, order)], abs=1e-9 * moment.max())
    taken, others = rows[:, order[:4]], rows[:, order[4:]]
    rest = others - taken @ np.linalg.lstsq(taken, others, rcond=None)[0]
    assert factor[4:, 4:] @ factor[4:, 4:].T == pytest.approx(rest.T @ rest, abs=1e-9)


def test_copies_and_dead_units_come_last() -> None:
    rows = GENERATOR(2).standard_normal((100, 4))
    units = np.column_stack([rows[:, :2], 0 * rows[:, :1], -3 * rows[:, :1], rows[:, 2:]])
    order = pivots(units.T @ units)
    assert sorted(order) == list(range(6))
    assert set(order[:4]) == {1, 3, 4, 5}
    assert pivots(np.zeros((3, 3))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("bias", [True, False])
def test_refitting_is_least_squares(bias: bool) -> None:
    rows = 1 + GENERATOR(3).standard_normal((80, 7)) @ GENERATOR(4).standard_normal((7, 7))
    weight = GENERATOR(5).standard_normal((2, 7))
    mean = rows.mean(0) if bias else np.zeros(7)
    layer = Layer(mean, rows.T @ rows / 80 - np.outer(mean, mean), weight)
    kept = np.array([4, 0, 2])
    found, shift = refit(layer, kept)
    design = np.column_stack([rows[:, kept], np.ones(80)]) if bias else rows[:, kept]
    wanted = np.linalg.lstsq(design, rows @ weight.T, rcond=None)[0]
    assert found == pytest.approx(wanted[:3].T)
    assert shift == pytest.approx(wanted[3] if bias else 0)


def test_refitting_survives_copies_and_constants() -> None:
    rows = GENERATOR(6).standard_normal((50, 3))
    units = np.column_stack([rows, rows[:, 0], np.ones(50)])
    mean = units.mean(0)
    layer = Layer(mean, units.T @ units / 50 - np.outer(mean, mean), np.ones((1, 5)))
    weight, shift = refit(layer, np.array([0, 3, 1, 2, 4]))
    again = units[:, [0, 3, 1, 2, 4]] @ weight.T + shift
    assert again == pytest.approx(units.sum(1, keepdims=True), abs=1e-5)
