"""What no kernel method learns from few rows, whatever the kernel, of targets hidden in a family.

After n rows a kernel method predicts within the span of n functions. If the law of the data, of the
kernel and of the noise is the same for every member of an orthonormal family of N functions (all
parities of k of d signs; all rotations of a spherical harmonic), the squared norm of a member's
part in that span is on average at most n/N: the N members share n dimensions. So the mean squared
error, over the variance of the target, is on average at least 1 − n/N, for every ridge.

The argument is that of Wei et al. 2019 (arXiv:1810.05369) and of Hsu et al. 2021
(arXiv:2102.02336); asymptotics: Ghorbani et al. 2021 (arXiv:1904.12191).
"""

from __future__ import annotations

from math import comb


def least_error(rows: int, size: int) -> float:
    """Return the bound `max(0, 1 − rows/size)`.

    >>> least_error(240, 435)
    0.4482758620689655
    """
    return max(0.0, 1 - rows / size)


def parities(dimension: int, degree: int) -> int:
    """Return the number of products of `degree` of `dimension` signs.

    >>> parities(30, 2)
    435
    """
    return comb(dimension, degree)


def harmonics(dimension: int, degree: int) -> int:
    """Return the number of independent spherical harmonics of a degree in `dimension` variables.

    >>> harmonics(3, 2)
    5
    """
    lower = comb(dimension + degree - 3, degree - 2) if degree > 1 else 0
    return comb(dimension + degree - 1, degree) - lower
