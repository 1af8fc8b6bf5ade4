"""Smooth functions of single numbers that carry a tangent, in one pass over memory each way.

With y = f(x), the tangent f'(x) t and cotangents g of y and h of that tangent, the gradients are
g f'(x) + h f''(x) t by x and h f'(x) by t.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from whynet.numerics.shared_rows import share_rows

Array = NDArray[np.floating]

FAST = {"contract", "nsz"}

HIGH = 0.693145751953125
"""Leading bits of log 2: their product with a small whole number is exact in float32."""

LOW = math.log(2) - HIGH
LOG2_E = 1 / math.log(2)
DENSITY = 1 / math.sqrt(2 * math.pi)
INVERSE = tuple(1 / math.factorial(n) for n in range(14))


def _bits_read(typing: Any, bits: Any) -> Any:
    """Read a whole number as the floating-point number of the same bits."""
    floating = types.float32 if bits == types.int32 else types.float64

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return floating(bits), generate


_from_bits: Any = intrinsic(_bits_read)


def _exp(y: Any) -> Any:
    """Return e^y for y <= 0 in a form that compilers can vectorize; next to 0 where it is tiny.

    e^y = 2^k e^r with k whole and |r| at most log(2) / 2, e^r by its series to round-off.
    """
    raise NotImplementedError("inside compiled functions only")


@overload(_exp, inline="always")
def _typed_exp(y: Any) -> Any:
    return _single_exp if y == types.float32 else _double_exp


def _single_exp(y: Any) -> Any:
    y = max(y, np.float32(-87))
    k = np.int32(y * np.float32(LOG2_E) - np.float32(0.5))
    r = (y - np.float32(k) * np.float32(HIGH)) - np.float32(k) * np.float32(LOW)
    p = np.float32(INVERSE[7])
    p = p * r + np.float32(INVERSE[6])
    p = p * r + np.float32(INVERSE[5])
    p = p * r + np.float32(INVERSE[4])
    p = p * r + np.float32(INVERSE[3])
    p = p * r + np.float32(INVERSE[2])
    p = p * r + np.float32(INVERSE[1])
    p = p * r + np.float32(INVERSE[0])
    return p * _from_bits(np.int32((k + np.int32(127)) << np.int32(23)))


def _double_exp(y: Any) -> Any:
    y = max(y, -708.0)
    k = np.int32(y * LOG2_E - 0.5)
    r = (y - k * HIGH) - k * LOW
    p = INVERSE[13]
    p = p * r + INVERSE[12]
    p = p * r + INVERSE[11]
    p = p * r + INVERSE[10]
    p = p * r + INVERSE[9]
    p = p * r + INVERSE[8]
    p = p * r + INVERSE[7]
    p = p * r + INVERSE[6]
    p = p * r + INVERSE[5]
    p = p * r + INVERSE[4]
    p = p * r + INVERSE[3]
    p = p * r + INVERSE[2]
    p = p * r + INVERSE[1]
    p = p * r + INVERSE[0]
    return p * _from_bits((np.int64(k) + np.int64(1023)) << np.int64(52))


@njit(cache=True, nogil=True, fastmath=FAST)
def _gelu(x: Array, y: Array, along: Array, slope: Array, tangent: Array, bent: Array) -> None:
    half, two, tiny = x.dtype.type(0.5), x.dtype.type(2), x.dtype.type(1e-30)
    density = x.dtype.type(DENSITY)
    for i in range(len(x)):
        square = x[i] * x[i]
        bell = density * _exp(-half * square)
        below = y[i] / x[i] if abs(x[i]) > tiny else half
        slope[i] = below + x[i] * bell
        tangent[i] = slope[i] * along[i]
        bent[i] = (two - square) * bell * along[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def _back(g: Array, h: Array, slope: Array, bent: Array, by_x: Array, by_t: Array) -> None:
    for i in range(len(g)):
        by_x[i] = g[i] * slope[i] + h[i] * bent[i]
        by_t[i] = h[i] * slope[i]


def gelu_tangents(
    x: Array, y: Array, along: Array, threads: int, outs: tuple[Array, Array, Array]
) -> None:
    """Write what x Phi(x), Phi the normal distribution, carries along.

    Args:
        x: [n].
        y: x Phi(x).
        along: the tangent t of x.
        threads: most that share the numbers.
        outs: the slope f', the tangent f' t, and f'' t.

    """
    share_rows(_gelu, (x, y, along, *outs), x.size, threads)


def smooth_gradients(
    g: Array, h: Array, slope: Array, bent: Array, threads: int, outs: tuple[Array, Array]
) -> None:
    """Write the gradients by x and t.

    Args:
        g: [n] cotangent of y.
        h: cotangent of the tangent.
        slope: f'.
        bent: f'' t.
        threads: most that share the numbers.
        outs: by x, and by t.

    """
    share_rows(_back, (g, h, slope, bent, *outs), g.size, threads)
