"""In which order units of a layer go, by the error that removing each causes, the rest refitted.

Backward elimination by the rule of the optimal brain surgeon (Hassibi and Stork 1993) for linear
least squares: with the inverse second moment P of what a layer reads and its weights W, removing
the features b of a unit and refitting all others costs `trace(G W_b P_bb^-1 W_b^T)`, exactly, in
the metric G of the layer's outputs; P and W of the rest follow by a downdate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import linalg

from whynet.numerics.unit_subsets import Layer, pivoted

_RIDGE: Final = 1e-10
"""Of the mean square of a feature: below it a direction of the features is round-off."""

_DEPENDENT: Final = 1e-12
"""Of the largest mean square: what is left of a unit, given others, that counts as nothing."""

_WAITING: Final = 64
"""Rows of downdates that are gathered before the inverse is made afresh."""

MANY: Final = 1_024
"""Units above which the order is that of pivots until so many are left."""


@dataclass(frozen=True, eq=False)
class Reading:
    """How one layer reads the units.

    Attributes:
        moment: `[features, features]`, mean of the products of what it reads, less their means
            where the layer adds a bias.
        weight: `[outputs, features]`.
        metric: `[outputs, outputs]`, what a squared error of its outputs costs.
        units: `[features]`, the unit each feature belongs to; every unit has as many.

    """

    moment: np.ndarray
    weight: np.ndarray
    metric: np.ndarray
    units: np.ndarray


@dataclass(frozen=True, eq=False)
class Elimination:
    """Units in the order in which they go.

    Attributes:
        order: `[units]`, the first to go first.
        cost: `[units + 1]`, squared error once so many are gone; 0 at first, not decreasing.

    """

    order: np.ndarray
    cost: np.ndarray

    def kept_below(self, level: float) -> np.ndarray:
        """Return the units that stay, in their order, where the cost may be up to `level`."""
        gone = int(np.searchsorted(self.cost, level, side="right")) - 1
        return self.kept(len(self.order) - gone)

    def kept(self, count: int) -> np.ndarray:
        """Return the last units to go, in their order; at least one."""
        return np.sort(self.order[len(self.order) - max(1, count) :])


def eliminate(readings: Sequence[Reading], count: int) -> Elimination:
    """Order the units of a layer by backward elimination.

    Of more than 1024 units that one layer reads by one feature each, those go first that a
    pivoted Cholesky factorization of their moment takes last, scaled by the length of their
    outgoing weights: the others explain them best. What that costs is exact, the order is not.

    Args:
        readings: of every layer that reads them; costs add up.
        count: number of units.

    Returns:
        the order and what it costs. Cost: order `features^2` a unit and reading, and an inverse
        for every 64 features removed; memory: four matrices `[features, features]` a reading.

    """
    order: list[int] = []
    cost = [0.0]
    if count > MANY and len(readings) == 1 and len(readings[0].units) == count:
        first, each = _by_pivots(readings[0])
        order, cost = first.tolist(), [0.0, *each.cumsum().tolist()]
    left = np.setdiff1d(np.arange(count), order)
    states = [_State(reading, count, left) for reading in readings]
    while len(left):
        costs = sum(state.costs() for state in states)
        place = int(np.argmin(costs))
        order.append(int(left[place]))
        cost.append(cost[-1] + max(0.0, float(np.asarray(costs)[place])))
        left = np.delete(left, place)
        for state in states:
            state.remove(place)
    return Elimination(np.asarray(order), np.asarray(cost))


def _by_pivots(reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Return all units but 1024, the first to go first, and what each costs.

    With the moment `L L^T` in the order of pivots, units from the k-th on leave, given those
    before them, `L_k L_k^T`, where L_k are the columns of L from the k-th on. Their removal costs
    the squared length of what the outputs read of these columns.
    """
    places = np.argsort(reading.units, kind="stable")
    moment, weight = reading.moment[np.ix_(places, places)], reading.weight[:, places]
    scaled = Layer(np.zeros(len(moment)), moment, weight).scaled
    order, factor, rank = pivoted(scaled, _DEPENDENT)
    length = np.linalg.norm(weight, axis=0)
    weight = weight / np.where(length > 0, length, 1.0)
    each = np.zeros(len(order))
    each[:rank] = ((_root(reading.metric).T @ weight[:, order] @ factor) ** 2).sum(0)
    return order[: MANY - 1 : -1], each[: MANY - 1 : -1]


def _root(metric: np.ndarray) -> np.ndarray:
    """Return R with `R R^T` the metric."""
    if len(metric) > MANY:
        order, factor, _ = pivoted(metric, 1e-14)
        root = np.empty_like(factor)
        root[order] = factor
        return root
    values, vectors = np.linalg.eigh(metric)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


class _State:
    """Inverse moment and weights of the units that are left, features scaled to unit squares.

    Downdates of the inverse are gathered, since each alone is bound by memory; after every
    `_WAITING` rows of them it is made afresh from the moment, so that round-off does not add up.
    """

    def __init__(self, reading: Reading, count: int, left: np.ndarray) -> None:
        self.size = len(reading.units) // count
        columns = np.argsort(reading.units, kind="stable").reshape(count, self.size)[left]
        order = columns.reshape(-1)
        moment = reading.moment[np.ix_(order, order)]
        scale = np.sqrt(np.maximum(np.diag(moment), 0.0))
        scale = np.where(scale > 1e-12 * max(scale.max(initial=0.0), 1e-300), scale, 1.0)
        self.moment = moment / np.outer(scale, scale)
        # All of what the outputs read of the features, also of those that are gone.
        wanted = _root(reading.metric).T @ (reading.weight @ reading.moment[:, order]) / scale
        if len(wanted) > len(order):  # lengths of columns are all that counts
            wanted = np.linalg.qr(wanted, mode="r")
        self.wanted = wanted
        self._start(np.arange(len(left)))

    def _start(self, units: np.ndarray) -> None:
        """Solve for the units that are left."""
        kept = (units[:, None] * self.size + np.arange(self.size)).reshape(-1)
        self.moment, self.wanted = self.moment[np.ix_(kept, kept)], self.wanted[:, kept]
        ridge = _RIDGE * np.eye(len(kept))
        self.inverse = linalg.inv(self.moment + ridge, check_finite=False)
        self.weight = self.wanted @ self.inverse
        self.alive = np.arange(len(units))
        four = self.inverse.reshape(len(units), self.size, len(units), self.size)
        self.blocks = np.ascontiguousarray(four[self.alive, :, self.alive, :])
        self.waiting = np.zeros((0, len(kept)))

    def costs(self) -> np.ndarray:
        """Return what removing each unit that is left costs."""
        if self.size == 1:
            pivot = np.maximum(self.blocks[self.alive, 0, 0], 1.0)  # of a unit diagonal's inverse
            return np.asarray((self.weight[:, self.alive] ** 2).sum(0) / pivot)
        weight = self.weight.reshape(len(self.weight), -1, self.size)[:, self.alive]
        weight = weight.transpose(1, 2, 0)
        return np.asarray((weight * np.linalg.solve(self.blocks[self.alive], weight)).sum((1, 2)))

    def remove(self, place: int) -> None:
        """Take out the unit at a place among those left, and let the others take over."""
        unit = self.alive[place]
        mine = slice(unit * self.size, (unit + 1) * self.size)
        rows = self.inverse[mine] - self.waiting[:, mine].T @ self.waiting
        values, vectors = np.linalg.eigh((rows[:, mine] + rows[:, mine].T) / 2)
        if values.min() < 0.5 / self.size and len(self.waiting):
            self._start(self.alive)
            self.remove(place)
            return
        # The inverse of a matrix of unit diagonal: what is below one half is round-off.
        root = np.sqrt(np.maximum(values, 0.5 / self.size))
        half = (vectors / root).T @ rows
        self.weight -= (self.weight[:, mine] @ (vectors / root)) @ half
        each = half.reshape(self.size, -1, self.size)
        self.blocks -= np.einsum("auk,aul->ukl", each, each)
        self.waiting = np.concatenate([self.waiting, half])
        self.alive = np.delete(self.alive, place)
        if len(self.waiting) >= _WAITING and len(self.alive):
            self._start(self.alive)
