"""All ways in which hyperplanes through the origin divide points into two sides."""

from __future__ import annotations

from itertools import combinations, product
from math import comb
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from whynet.core.errors import InputError

_MOST: Final = 2 * 10**8
"""Entries of all candidates, each a byte."""


def dichotomies(points: NDArray[Any]) -> NDArray[np.bool_]:
    """Enumerate the sides w·x > 0 of points in general position, over all w.

    Every cell of the arrangement of the hyperplanes w·x_i = 0 has a ray, at which n − 1 of them
    meet, on its border; around such a ray those n − 1 points take all signs, and the others keep
    theirs. Their number, 2 Σ_{i<n} C(N − 1, i) (Cover, 1965), is checked.

    Args:
        points: `[N, n]`, any n of them independent; for half spaces that need not contain the
            origin, with a last column of ones.

    Returns:
        `[patterns, N]`, each once, in the order of their bits.

    Raises:
        InputError: the points are not in general position or not finite, or there are too many.

    Cost: C(N, n − 1) null vectors and 2ⁿ times as many candidates of N bytes.

    """
    if points.ndim != 2 or 0 in points.shape or not bool(np.isfinite(points).all()):
        raise InputError("points", f"an array of shape {points.shape}", "finite rows, [N, n]")
    count, dimension = points.shape
    chosen = min(count, dimension) - 1
    if comb(count, chosen) * 2 ** (chosen + 1) * count > _MOST:
        raise InputError("points", f"{count} points in {dimension} dimensions", "fewer")
    if count <= dimension:
        every = np.array(list(product((False, True), repeat=count)))
        return _checked(every, points)
    subsets = np.array(list(combinations(range(count), chosen)), dtype=np.int64)
    normals = np.linalg.svd(points[subsets])[2][:, -1] if chosen else np.ones((1, dimension))
    sides = normals @ points.T > 0
    candidates = []
    for signs in product((False, True), repeat=chosen):
        for side in (sides, ~sides):
            own = side.copy()
            np.put_along_axis(own, subsets, np.broadcast_to(signs, subsets.shape), 1)
            candidates.append(np.packbits(own, axis=1))
    every = np.unique(np.concatenate(candidates), axis=0)
    return _checked(np.unpackbits(every, axis=1)[:, :count].astype(bool), points)


def _checked(found: NDArray[np.bool_], points: NDArray[Any]) -> NDArray[np.bool_]:
    count, dimension = points.shape
    wanted = 2 * sum(comb(count - 1, i) for i in range(dimension))
    independent = np.linalg.matrix_rank(points) == min(count, dimension)
    if len(found) != wanted or not independent:
        raise InputError(
            "points", f"{len(found)} patterns", f"points in general position: {wanted}"
        )
    return found
