"""Where a spectral density is drawn: a grid, a coordinate, and the width of the smoothing.

Hessian spectra are a spike at zero with a few outliers far away, which no linear axis shows. The
coordinate t = asinh(lambda / s) is linear for |lambda| well below the threshold s, logarithmic
above it, smooth, odd and invertible everywhere. The smoothed density is defined in it exactly:
the density of t(lambda), for lambda drawn from the eigenvalues with equal chance, convolved with
a Gaussian of constant width in t. It integrates to one over t, not over lambda.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whynet.core.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpectralGrid:
    """A grid of places on the spectrum.

    Attributes:
        eigenvalue: [G] places in units of the eigenvalues, ascending.
        coordinate: [G] the same in the coordinate of the plot, equally spaced.
        threshold: s of t = asinh(lambda / s), or None for the linear coordinate t = lambda.
        width: default standard deviation of the smoothing Gaussian, in t.

    """

    eigenvalue: Floats
    coordinate: Floats
    threshold: float | None
    width: float

    def transform(self, eigenvalues: ArrayLike) -> Floats:
        """Map eigenvalues of any shape to the coordinate t."""
        return _transform(np.asarray(eigenvalues, dtype=np.float64), self.threshold)


def density_grid(
    low: float,
    high: float,
    *,
    points: int = 400,
    threshold: float | None = None,
    linear: bool = False,
    width: float | None = None,
) -> SpectralGrid:
    """Lay a grid over the spectrum, with a margin of four kernel widths at both ends.

    Choice of scale and width: a run of m Lanczos steps cannot resolve more than about m places,
    nor what is much nearer to zero than its largest nodes, so that a finer kernel draws the nodes
    and not the spectrum. The defaults, 1/50 of the largest magnitude and 1/25 of the range in t,
    were chosen on the two networks of `benchmarks/spectral_density.py`, which prints the distance
    to the exact smoothed density for these and finer ones. Compare the densities
    of m and m / 2 steps (the leading half of the coefficients) and widen where they differ.

    Args:
        low: smallest eigenvalue, or a bound below it.
        high: largest eigenvalue, or a bound above it.
        points: number of places G, at least 2.
        threshold: s; by default 1/50 of the largest magnitude.
        linear: whether to use t = lambda.
        width: standard deviation in t.

    Raises:
        InputError: ends not finite or not in order, or another argument not positive.

    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError("low", f"ends {low} and {high}", "finite ends in ascending order")
    if points < 2:
        raise InputError("points", str(points), "at least 2")
    for name, value in (("threshold", threshold), ("width", width)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(name, str(value), "a positive number")
    size = max(abs(low), abs(high))
    scale = None if linear else threshold or (size / 50 or 1.0)
    ends = _transform(np.array([low, high], dtype=np.float64), scale)
    reach = float(ends[1] - ends[0]) or abs(float(ends[1])) or 1.0
    sigma = width or reach / 25
    coordinate = np.linspace(ends[0] - 4 * sigma, ends[1] + 4 * sigma, points)
    eigenvalue = coordinate if scale is None else scale * np.sinh(coordinate)
    return SpectralGrid(eigenvalue, coordinate, scale, sigma)


def _transform(values: Floats, threshold: float | None) -> Floats:
    return values if threshold is None else np.arcsinh(values / threshold)
