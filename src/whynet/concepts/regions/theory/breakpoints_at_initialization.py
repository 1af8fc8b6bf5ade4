"""How many breakpoints a random ReLU network is expected to have along a segment."""

from collections.abc import Sequence
from math import atan2, inf, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from whynet.core.errors import InputError


def expected_breakpoints(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    widths: Sequence[int],
    *,
    weight_scale: float = sqrt(2.0),
    bias_scale: float,
) -> float:
    """Predict the mean number of sign changes of all hidden units along a segment.

    Weights are independent normal with variance weight_scale² / fan-in and biases with standard
    deviation `bias_scale`. In the limit of infinite width the pre-activations of layer l along
    x(t) = start + t (end - start) are Gaussian with variance K(t), derivative variance D and
    cross-covariance C(t) = K'(t) / 2. K is a quadratic with leading coefficient D, so the
    discriminant s² = K D - C² is constant and Rice's formula, the integral of s / (pi K),
    is an arctangent: (1 / pi) [arctan(C / s)] between the ends. Each further layer multiplies
    K, C and D by weight_scale² / 2 and adds bias_scale² to K. Over a whole line every unit
    contributes exactly one, at any depth. The first layer is exact at any width; deeper layers
    are a prediction for wide ones.

    Args:
        start: One end of the segment, shape (inputs,).
        end: The other end, shape (inputs,).
        widths: Units of every hidden layer.
        weight_scale: Standard deviation of a weight times the root of its fan-in; He's is the
            root of two.
        bias_scale: Standard deviation of every bias.

    Raises:
        InputError: If the ends differ in shape, are not vectors or coincide, or a scale or width
            is out of range.
    """
    _check(start, end, widths, weight_scale, bias_scale)
    direction = end - start
    factor = weight_scale**2
    speed = factor * float(direction @ direction) / start.size
    slopes = [factor * float(point @ direction) / start.size for point in (start, end)]
    variance = factor * float(start @ start) / start.size + bias_scale**2
    total = 0.0
    for width in widths:
        root = sqrt(max(speed * variance - slopes[0] ** 2, 0.0))
        total += width * (atan2(slopes[1], root) - atan2(slopes[0], root)) / pi
        speed *= factor / 2
        slopes = [slope * factor / 2 for slope in slopes]
        variance = variance * factor / 2 + bias_scale**2
    return total


def expected_breakpoints_bound(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    widths: Sequence[int],
    *,
    weight_scale: float = sqrt(2.0),
    bias_scale: float,
) -> float:
    """Bound from above the mean number of sign changes along a segment, at any width.

    A unit z + b with an independent bias b of density at most C' vanishes, in the mean, at most
    C' times the integral of E|z'| often (Hanin and Rolnick, 2019, arXiv 1901.09021, theorem 1 and
    corollary 2, of which this is the case of one dimension with all constants). For normal biases
    C' = 1 / (bias_scale root(2 pi)), and E|z'| is at most the root of E z'^2, which is
    |end - start|^2 / inputs times weight_scale^2 (weight_scale^2 / 2)^(l - 1) in layer l at every
    width: half of each unit's power passes a ReLU, as its sign is symmetric.

    Args:
        start: As in `expected_breakpoints`, which is a prediction where this is a bound; and so
            all others.
        end: As there.
        widths: As there.
        weight_scale: As there.
        bias_scale: As there.

    Raises:
        InputError: As there.
    """
    _check(start, end, widths, weight_scale, bias_scale)
    speed = weight_scale**2 * float((end - start) @ (end - start)) / start.size
    total = 0.0
    for width in widths:
        total += width * sqrt(speed) / (bias_scale * sqrt(2 * pi))
        speed *= weight_scale**2 / 2
    return total


def _check(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    widths: Sequence[int],
    weight_scale: float,
    bias_scale: float,
) -> None:
    if start.ndim != 1 or start.shape != end.shape:
        raise InputError(
            "end", f"shapes {start.shape} and {end.shape}", "two vectors of the same length"
        )
    if not (np.isfinite(start).all() and np.isfinite(end).all()) or bool((start == end).all()):
        raise InputError("end", "the same point or no finite one", "a segment of positive length")
    if not widths or min(widths) < 1:
        raise InputError("widths", str(list(widths)), "at least one layer of at least one unit")
    if not 0 < weight_scale < inf:
        raise InputError("weight_scale", str(weight_scale), "a positive finite number")
    if not 0 < bias_scale < inf:
        raise InputError("bias_scale", str(bias_scale), "a positive finite number")
