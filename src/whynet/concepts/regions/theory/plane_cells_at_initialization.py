"""How many cells of a plane a random ReLU network is expected to have, and one layer has."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import comb, pi, sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ellipe

from whynet.concepts.regions.theory.breakpoints_at_initialization import expected_breakpoints
from whynet.core.errors import InputError

Floats = NDArray[np.float64]

_NODES: Final = 32
"""Gauss-Legendre nodes along each of the two coordinates of a triangle."""


def expected_plane_cells(
    origin: Floats,
    axes: Floats,
    polygon: Floats,
    widths: Sequence[int],
    *,
    weight_scale: float = sqrt(2.0),
    bias_scale: float,
) -> float:
    """Predict the mean number of cells that a convex polygon of a plane is cut into.

    Where walls cross, or a wall bends at another, four cells meet, so that by Euler's formula a
    polygon has 1 + B / 2 + V cells, B walls that end at its border and V inner vertices; walls
    that close up inside and meet no other would add one each and are left out. The mean of B is
    that of `expected_breakpoints` along the edges; that of V the sum over pairs of units of the
    integral of `_crossings`. Over a whole plane through the origin two units of one layer cross
    once in the mean, at any depth. One hidden layer is exact at any width; deeper ones are a
    prediction for wide ones. Derived here from the same Gaussian fields as the one along segments.

    Args:
        origin: input at the coordinates (0, 0), [inputs].
        axes: orthonormal, [2, inputs].
        polygon: corners in the plane, convex, counter-clockwise, [corners, 2].
        widths: Units of every hidden layer.
        weight_scale: Standard deviation of a weight times the root of its fan-in.
        bias_scale: Standard deviation of every bias.

    Raises:
        InputError: If shapes do not fit, axes are not orthonormal, or as `expected_breakpoints`.

    Cost: corners times 1024 points times the square of the number of layers.
    """
    _check(origin, axes, polygon)
    corners = origin + polygon @ axes
    ends = sum(
        expected_breakpoints(start, end, widths, weight_scale=weight_scale, bias_scale=bias_scale)
        for start, end in zip(corners, np.roll(corners, -1, 0), strict=True)
    )
    points, weights = _quadrature(polygon)
    x = origin + points @ axes
    factor = weight_scale**2
    variance = factor * (x**2).sum(1) / origin.size + bias_scale**2
    speed = factor / origin.size
    # Of value and gradient in the plane: speed times the projection of x onto it.
    covariance = ((x @ axes.T) ** 2).sum(1) * speed**2
    fields = []
    for _ in widths:
        fields.append((variance, speed, np.maximum(speed - covariance / variance, 0.0)))
        variance = variance * factor / 2 + bias_scale**2
        speed, covariance = speed * factor / 2, covariance * (factor / 2) ** 2
    vertices = 0.0
    for one, two in combinations_with_replacement(range(len(widths)), 2):
        pairs = widths[one] * widths[two] if one < two else comb(widths[one], 2)
        vertices += pairs * float(weights @ _crossings(fields[one], fields[two]))
    return 1 + ends / 2 + vertices


def _crossings(one: tuple[Floats, float, Floats], two: tuple[Floats, float, Floats]) -> Floats:
    """Return how densely the zeros of two independent Gaussian fields cross in a plane, [points].

    Each has variance K and, where it vanishes, a gradient of independent parts along two axes they
    share, of variance D around the foot of the origin and A = D - |C|^2 / K away from it, C the
    covariance of value and gradient. By the formula of Kac and Rice in two dimensions (Adler and
    Taylor, 2007, theorem 11.2.1) the density is E|det| / (2 pi sqrt(K_1 K_2)) with

        E|det| = (2 / pi) sqrt(M) E(1 - m / M),  M, m = the larger and smaller of A_1 D_2, A_2 D_1,

    E the complete elliptic integral of the second kind of that parameter.

    Args:
        one: K [points], D and A [points] of the first field.
        two: of the second.

    """
    products = one[2] * two[1], two[2] * one[1]
    large, small = np.maximum(*products), np.minimum(*products)
    share = np.divide(small, large, out=np.ones_like(large), where=large > 0)
    determinant = (2 / pi) * np.sqrt(large) * ellipe(1 - share)
    return np.asarray(determinant / (2 * pi * np.sqrt(one[0] * two[0])))


def arrangement_cells(weight: Floats, bias: Floats, polygon: Floats) -> int:
    """Count the cells that lines in general position cut a convex polygon into, exactly.

    They are 1 + lines that meet the inside + crossings of two of them inside (Zaslavsky, 1975, by
    Euler's formula). General position: no line through a corner, no three through a point inside.

    Args:
        weight: normals of the lines weight @ x + bias = 0, [lines, 2].
        bias: [lines].
        polygon: corners, convex, counter-clockwise, [corners, 2].

    Raises:
        InputError: If the shapes do not fit or something is not finite.

    Cost: pairs of lines times corners.
    """
    if weight.ndim != 2 or weight.shape[1] != 2 or bias.shape != weight.shape[:1]:
        raise InputError(
            "bias", f"shapes {weight.shape} and {bias.shape}", "[lines, 2] and [lines]"
        )
    if not all(bool(np.isfinite(part).all()) for part in (weight, bias, polygon)):
        raise InputError("weight", "entries that are not finite", "finite numbers")
    sides = weight @ polygon.T + bias[:, None]
    meets = (sides.min(1) < 0) & (sides.max(1) > 0)
    w, b = weight[meets], bias[meets]
    one, two = np.triu_indices(len(w), 1)
    cross = w[one, 0] * w[two, 1] - w[one, 1] * w[two, 0]
    crossing = cross != 0
    one, two, cross = one[crossing], two[crossing], cross[crossing]
    points = (
        np.stack(
            [
                w[one, 1] * b[two] - w[two, 1] * b[one],
                w[two, 0] * b[one] - w[one, 0] * b[two],
            ],
            1,
        )
        / cross[:, None]
    )
    edges = np.roll(polygon, -1, 0) - polygon
    away = points[:, None] - polygon
    inside = (edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0] > 0).all(1)
    return 1 + len(w) + int(inside.sum())


def _quadrature(polygon: Floats) -> tuple[Floats, Floats]:
    """Return nodes and weights over a convex polygon: triangles, each a squashed square."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = (nodes + 1) / 2, weights / 2
    s, t = (part.ravel() for part in np.meshgrid(nodes, nodes, indexing="ij"))
    area = np.outer(weights * nodes, weights).ravel()
    points, shares = [], []
    apex = polygon.mean(0)
    for start, end in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        u, v = start - apex, end - start
        points.append(apex + s[:, None] * (u + t[:, None] * v))
        shares.append(area * float(u[0] * v[1] - u[1] * v[0]))
    return np.concatenate(points), np.concatenate(shares)


def _check(origin: Floats, axes: Floats, polygon: Any) -> None:
    if origin.ndim != 1 or axes.shape != (2, origin.size):
        raise InputError("axes", f"an array of shape {axes.shape}", f"[2, {origin.size}]")
    if np.abs(axes @ axes.T - np.eye(2)).max() > 1e-9:
        raise InputError("axes", "directions that are not orthonormal", "orthonormal ones")
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
        raise InputError("polygon", f"an array of shape {polygon.shape}", "[corners, 2]")
    u = np.roll(polygon, -1, 0) - polygon
    v = np.roll(u, -1, 0)
    if not (np.isfinite(polygon).all() and (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] > 0).all()):
        raise InputError("polygon", "corners that do not turn left", "a convex one")
