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
