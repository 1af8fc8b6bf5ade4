"""Sums over outputs of what comes back to a layer, compiled: the small side of stored Jacobians.

What comes back from C outputs is [n, T, C, U], changes of what leaves are [n, T, k, U]: n rows, T
positions, U units. PyTorch takes such sums as many tiny matrix products, at a tenth of the speed.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whynet.numerics.shared_rows import share_rows

Array = NDArray[np.floating]

FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=FAST)
def _pushed(signals: Array, changes: Array, total: Array) -> None:
    rows, positions, outputs, units = signals.shape
    count = changes.shape[2]
    whole = count // 4 * 4
    for i in range(rows):
        for t in range(positions):
            for c in range(outputs):
                signal = signals[i, t, c]
                for j in range(0, whole, 4):
                    one, two = changes[i, t, j], changes[i, t, j + 1]
                    three, four = changes[i, t, j + 2], changes[i, t, j + 3]
                    a = signal[0] * 0
                    b, d, e = a, a, a
                    for u in range(units):
                        s = signal[u]
                        a += s * one[u]
                        b += s * two[u]
                        d += s * three[u]
                        e += s * four[u]
                    total[i, c, j] += a
                    total[i, c, j + 1] += b
                    total[i, c, j + 2] += d
                    total[i, c, j + 3] += e
                for j in range(whole, count):
                    change = changes[i, t, j]
                    a = signal[0] * 0
                    for u in range(units):
                        a += signal[u] * change[u]
                    total[i, c, j] += a


@njit(cache=True, nogil=True, fastmath=FAST)
def _pulled(signals: Array, weights: Array, found: Array) -> None:
    rows, positions, outputs, units = signals.shape
    count = weights.shape[2]
    whole = outputs // 4 * 4
    for i in range(rows):
        for t in range(positions):
            for j in range(count):
                into = found[i, t, j]
                for u in range(units):
                    into[u] = 0
                for c in range(0, whole, 4):
                    one, two = signals[i, t, c], signals[i, t, c + 1]
                    three, four = signals[i, t, c + 2], signals[i, t, c + 3]
                    a, b = weights[i, c, j], weights[i, c + 1, j]
                    d, e = weights[i, c + 2, j], weights[i, c + 3, j]
                    for u in range(units):
                        into[u] += a * one[u] + b * two[u] + d * three[u] + e * four[u]
                for c in range(whole, outputs):
                    signal, a = signals[i, t, c], weights[i, c, j]
                    for u in range(units):
                        into[u] += a * signal[u]


def add_pushed(signals: Array, changes: Array, total: Array, threads: int) -> None:
    """Add the inner products of signals and changes of each row, summed over positions and units.

    Args:
        signals: [n, T, C, U].
        changes: [n, T, k, U].
        total: [n, C, k], float64, added to: positions may be many.
        threads: most that share the rows.

    """
    share_rows(_pushed, (signals, changes, total), changes.size, threads)


def pull_signals(signals: Array, weights: Array, found: Array, threads: int) -> None:
    """Write the sums over outputs of signals, weighted.

    Args:
        signals: [n, T, C, U].
        weights: [n, C, k].
        found: [n, T, k, U], written.
        threads: most that share the rows.

    """
    share_rows(_pulled, (signals, weights, found), found.size, threads)
