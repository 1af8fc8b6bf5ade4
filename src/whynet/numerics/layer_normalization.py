"""Second derivatives of layer normalization in one pass over memory, compiled.

With y = s (x - mean x), s one over the deviation of a row and P(a) = a - mean a - y mean(a y), the
gradients by the input, weight w and bias are s P(g w), the sum of g y and that of g. What follows
is the gradient of their inner product with cotangents (u, v, t).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.floating]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def layer_norm_products(
    u: Array,
    g: Array,
    x: Array,
    mean: Array,
    scale: Array,
    by_row: tuple[Array, Array, Array],
    outs: tuple[Array, Array, Array],
    full: bool,
) -> None:
    """Write the gradients by g, x and w of the inner product of a gradient with cotangents.

    Args:
        u: [rows, n] cotangent of the gradient by the input.
        g: [rows, n] what came back to the output.
        x: [rows, n] input.
        mean: [rows] of the input.
        scale: [rows] one over its deviation.
        by_row: the weight w, and the cotangents v and t of its gradient and of the bias's, [n].
        outs: [rows, n] by g, [rows, n] by x, [n] by w (added to); the last two only where `full`.
        full: whether all three are wanted.

    """
    w, v, t = by_row
    by_g, by_x, by_w = outs
    rows, n = x.shape
    y = np.empty(n, x.dtype)
    for row in range(rows):
        s, m = scale[row], mean[row]
        mean_u = part = both = along = middle = first = second = x.dtype.type(0)
        for i in range(n):
            value = (x[row, i] - m) * s
            y[i] = value
            mean_u += u[row, i]
            part += u[row, i] * value
            if full:
                weighted, crossed = g[row, i] * w[i], g[row, i] * v[i]
                both += u[row, i] * weighted
                along += weighted * value
                middle += weighted
                first += crossed
                second += crossed * value
        mean_u, part, both = mean_u / n, part / n, both / n
        along, middle, first, second = along / n, middle / n, first / n, second / n
        if not full:
            for i in range(n):
                by_g[row, i] = s * (u[row, i] - mean_u - y[i] * part) * w[i] + y[i] * v[i] + t[i]
            continue
        shift = s * (along * mean_u + part * middle) - first
        turn = second + s * (both - mean_u * middle - 3 * along * part)
        for i in range(n):
            moved = s * (u[row, i] - mean_u - y[i] * part)
            by_g[row, i] = moved * w[i] + y[i] * v[i] + t[i]
            by_w[i] += g[row, i] * moved
            own = g[row, i] * (v[i] - s * part * w[i]) - s * along * u[row, i]
            by_x[row, i] = s * (own + shift - y[i] * turn)
