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
    return _factored(moment, 1e-13)[0]


def dependent(moment: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the units of which the others, chosen by pivots, leave less than a tolerance.

    Args:
        moment: `[units, units]`, positive semidefinite.
        tolerance: of the largest mean square.

    Returns:
        Their indices. Cost: order `units^2` for each that is not among them.

    """
    order, rank = _factored(moment, tolerance)
    return np.asarray(order[rank:])


def _factored(moment: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """Return units in the order of their pivots, and how many pivots are above the tolerance."""
    units = len(moment)
    order, left = np.arange(units), np.diag(moment).astype(float).copy()
    factor = np.zeros((units, units))
    floor = tolerance * max(float(left.max(initial=0.0)), 1e-300)
    for k in range(units):
        best = k + int(np.argmax(left[order[k:]]))
        order[[k, best]] = order[[best, k]]
        pivot, rest = order[k], order[k + 1 :]
        if left[pivot] <= floor:
            return order, k
        root = np.sqrt(left[pivot])
        column = moment[rest, pivot] - factor[rest, :k] @ factor[pivot, :k]
        factor[pivot, k], factor[rest, k] = root, column / root
        left[rest] -= factor[rest, k] ** 2
    return order, units


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
