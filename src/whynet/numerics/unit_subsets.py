"""Which units of a layer say what the others say, and how the next layer reads the rest alone.

Column subset selection by greedy elimination: a column-pivoted Cholesky factorization of the
units' second moment takes, one after the other, the unit that the ones taken explain least. It
gives the pivots of QR with column pivoting of the activations (Businger and Golub 1965), from
their moments alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import linalg

_CUT: Final = 1e-11
"""Of the largest eigenvalue: directions of the units kept that vary less are not read, being
round-off of float32 or worth less than a millionth of what is read."""


@dataclass(frozen=True)
class Layer:
    """Moments of a layer's activations on data, and the next layer's weights.

    Attributes:
        mean: `[units]`, zero where the next layer adds no bias, so that none can be refitted.
        moment: `[units, units]`, mean of the products of activations less `mean`.
        weight: `[outputs, units]`, of the next layer.

    """

    mean: np.ndarray
    moment: np.ndarray
    weight: np.ndarray

    @property
    def scaled(self) -> np.ndarray:
        """The moment with every unit scaled by the length of its outgoing weights.

        A positive factor between a unit and its outgoing weights changes nothing of it.
        """
        length = np.linalg.norm(self.weight, axis=0)
        return np.asarray(self.moment * length[:, None] * length[None])


def pivots(moment: np.ndarray) -> np.ndarray:
    """Order units by column-pivoted Cholesky; those that nothing is left of come last.

    Args:
        moment: `[units, units]`, positive semidefinite.

    Returns:
        `[units]` indices, the first k being the choice of k units. Cost: order `units^3 / 3`.

    """
    return pivoted(moment, 1e-13)[0]


def dependent(moment: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the units of which the others, chosen by pivots, leave less than a tolerance.

    Args:
        moment: `[units, units]`, positive semidefinite.
        tolerance: of the largest mean square.

    Returns:
        Their indices. Cost: order `units * rank^2`.

    """
    order, _, rank = pivoted(moment, tolerance)
    return np.asarray(order[rank:])


def pivoted(moment: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Factor a moment by Cholesky's method with pivots (LAPACK's `dpstrf`).

    Args:
        moment: `[units, units]`, positive semidefinite.
        tolerance: of the largest mean square; below it a pivot is none.

    Returns:
        Units in the order of their pivots; the factor L, `[units, rank]`, so that the moment in
        this order is `L L^T` and what it leaves of the units behind the rank; and the rank.
        Cost: order `units * rank^2`.

    """
    size = float(np.diag(moment).max(initial=0.0))
    floor = tolerance * max(size, 1e-300)
    if size <= floor:  # of no pivot at all LAPACK says rank one
        return np.arange(len(moment)), np.zeros((len(moment), 0)), 0
    factor, order, rank, _ = linalg.lapack.dpstrf(moment, tol=floor, lower=1)
    return order - 1, np.tril(factor)[:, :rank], int(rank)


def refit(layer: Layer, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the next layer's weights on some units to what it reads from all of them.

    Args:
        layer: the moments.
        kept: indices of the units that stay.

    Returns:
        Weights `[outputs, kept]`, and what is to be added to the bias, `[outputs]`: the least
        mean square error over the data of the moments. Units that never vary get weight zero.

    """
    inside = layer.moment[np.ix_(kept, kept)]
    scale = np.sqrt(np.diag(inside))
    there = scale > 1e-12 * max(float(scale.max(initial=0.0)), 1e-300)
    weight = np.zeros((len(layer.weight), len(kept)))
    if there.any():
        some, scale = kept[there], scale[there]
        unit = inside[np.ix_(there, there)] / np.outer(scale, scale)
        wanted = (layer.moment[some] @ layer.weight.T) / scale[:, None]
        weight[:, there] = (linalg.pinvh(unit, rtol=_CUT) @ wanted / scale[:, None]).T
    return weight, layer.weight @ layer.mean - weight @ layer.mean[kept]
