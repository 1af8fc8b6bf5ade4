"""Smooth functions of one number with proven bounds on their second and third derivatives.

A bound on derivatives is all that sound lines need (`whynet.models.curve_lines`). Where a function
is bounded with all its derivatives on the whole line, one constant serves for every interval; the
constants are the exact extremes, rounded up, and are tested on fine grids. Elsewhere they are those
of the interval's end with the larger derivative, by monotony.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from whynet.models.piecewise_linear_operations import Curve

_DENSITY: Final = 1 / math.sqrt(2 * math.pi)
_TANH_GELU: Final = math.sqrt(2 / math.pi)
_CUBIC: Final = 0.044715


def _constant(size: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda low, high: torch.full_like(low, size)


def _sigmoid_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * torch.sigmoid(-x)


def _silu_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) + x * _sigmoid_slope(x)


def _gelu_slope(x: Tensor) -> Tensor:
    density = _DENSITY * torch.exp(-x * x / 2)
    return torch.add(torch.special.ndtr(x), x * density)


def _tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(_TANH_GELU * (x + _CUBIC * x**3)))


def _tanh_gelu_slope(x: Tensor) -> Tensor:
    bent = torch.tanh(_TANH_GELU * (x + _CUBIC * x**3))
    inner = _TANH_GELU * (1 + 3 * _CUBIC * x**2)
    return 0.5 * (1 + bent) + 0.5 * x * (1 - bent**2) * inner


def _tanh_slope(x: Tensor) -> Tensor:
    return 1 - torch.tanh(x) ** 2


SIGMOID: Final = Curve(
    # Largest at sigmoid = 1/2 ± 1/sqrt(12): 1/(6 sqrt 3); third derivative largest at 0: 1/8.
    "sigmoid", torch.sigmoid, _sigmoid_slope, _constant(0.0962251), _constant(0.125001)
)  # fmt: skip
TANH: Final = Curve(
    # Twice the sigmoid of twice the input: 4/(3 sqrt 3), and 2.
    "tanh", torch.tanh, _tanh_slope, _constant(0.7698005), _constant(2.00001)
)  # fmt: skip
SILU: Final = Curve(
    # x sigmoid(x): second derivative largest at 0, 1/2; third at 1.03196, 0.30818.
    "silu", lambda x: x * torch.sigmoid(x), _silu_slope, _constant(0.500001), _constant(0.308182)
)  # fmt: skip
GELU: Final = Curve(
    # x Phi(x): (2 - x^2) phi is largest at 0; (x^3 - 4 x) phi where x^2 = (7 - sqrt 33)/2: 0.77877.
    "gelu",
    functional.gelu,
    _gelu_slope,
    _constant(0.7978847),
    _constant(0.7787697),
)
TANH_GELU: Final = Curve(
    # Second derivative largest at 0, 0.79789; third at 0.78758, 0.77669.
    "gelu (tanh)", _tanh_gelu, _tanh_gelu_slope, _constant(0.797885), _constant(0.776692)
)  # fmt: skip
ERF: Final = Curve(
    # -2 x times the slope is largest at 1/sqrt 2; the third derivative at 0: 4/sqrt(pi).
    "erf",
    torch.erf,
    lambda x: 2 / math.sqrt(math.pi) * torch.exp(-x * x),
    _constant(0.9678829),
    _constant(2.2567584),
)
SINE: Final = Curve("sin", torch.sin, torch.cos, _constant(1.0), _constant(1.0))
COSINE: Final = Curve("cos", torch.cos, lambda x: -torch.sin(x), _constant(1.0), _constant(1.0))
SQUARE: Final = Curve(
    "square", torch.square, lambda x: 2 * x, _constant(2.0), lambda low, high: 0 * low
)
EXPONENTIAL: Final = Curve(
    "exp",
    torch.exp,
    torch.exp,
    lambda low, high: torch.exp(high),
    lambda low, high: torch.exp(high),
)
SOFTSIGN: Final = Curve(
    # Twice differentiable but at 0, where the second derivative jumps from 2 to -2.
    "softsign",
    lambda x: x / (1 + x.abs()),
    lambda x: (1 + x.abs()) ** -2,
    lambda low, high: 2 * (1 + _nearest_zero(low, high)) ** -3,
    lambda low, high: torch.where(
        low * high > 0, 6 * (1 + _nearest_zero(low, high)) ** -4, torch.inf
    ),
)


def _nearest_zero(low: Tensor, high: Tensor) -> Tensor:
    return torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs()))


def _at_low(factor: float, power: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the bound of a derivative of size `factor x^power` on positive numbers."""

    def bound(low: Tensor, high: Tensor) -> Tensor:
        inside = low > 0
        return torch.where(inside, factor * torch.where(inside, low, 1.0) ** power, torch.inf)

    return bound


ROOT: Final = Curve(
    "sqrt", torch.sqrt, lambda x: 0.5 * x**-0.5, _at_low(0.25, -1.5), _at_low(0.375, -2.5)
)
INVERSE_ROOT: Final = Curve(
    "rsqrt", torch.rsqrt, lambda x: -0.5 * x**-1.5, _at_low(0.75, -2.5), _at_low(1.875, -3.5)
)
LOGARITHM: Final = Curve("log", torch.log, lambda x: 1 / x, _at_low(1.0, -2.0), _at_low(2.0, -3.0))


def _at_nearest(factor: float, power: float) -> Callable[[Tensor, Tensor], Tensor]:
    def bound(low: Tensor, high: Tensor) -> Tensor:
        near = _nearest_zero(low, high)
        return torch.where(near > 0, factor * torch.where(near > 0, near, 1.0) ** power, torch.inf)

    return bound


RECIPROCAL: Final = Curve(
    "reciprocal",
    torch.reciprocal,
    lambda x: -(x**-2.0),
    _at_nearest(2.0, -3.0),
    _at_nearest(6.0, -4.0),
)


def softplus(steepness: float, threshold: float) -> Curve:
    """Return softplus; torch computes the identity above the threshold, off by its last part."""
    return Curve(
        "softplus",
        lambda x: torch.logaddexp(steepness * x, torch.zeros_like(x)) / steepness,
        lambda x: torch.sigmoid(steepness * x),
        _constant(0.250001 * steepness),
        _constant(0.0962251 * steepness**2),
        error=math.log1p(math.exp(-threshold)) / steepness,
    )


def exponential_unit(name: str, scale: float, alpha: float, width: float = 1.0) -> Curve:
    """Return ELU and its kin: `scale x` above zero, `scale alpha (exp(x / width) - 1)` below."""
    smooth = abs(alpha / width - 1) < 1e-15

    def value(x: Tensor) -> Tensor:
        below = alpha * torch.expm1(x.clamp_max(0.0) / width)
        return scale * torch.where(x > 0, x, below)

    def slope(x: Tensor) -> Tensor:
        below = alpha / width * torch.exp(x.clamp_max(0.0) / width)
        return scale * torch.where(x > 0, torch.ones_like(x), below)

    def most(power: int) -> Callable[[Tensor, Tensor], Tensor]:
        def bound(low: Tensor, high: Tensor) -> Tensor:
            size = abs(scale * alpha) * width**-power * torch.exp(high.clamp_max(0.0) / width)
            size = torch.where(low >= 0, 0.0, size)
            return torch.where((low < 0) & (high > 0), torch.inf, size) if power > 2 else size

        return bound

    return Curve(name, value, slope, most(2), most(3), () if smooth else (0.0,))


def power(exponent: int) -> Curve:
    """Return a whole power of at least 2."""

    def most(order: int) -> Callable[[Tensor, Tensor], Tensor]:
        factor, rest = math.perm(exponent, order), max(exponent - order, 0)
        return lambda low, high: factor * torch.maximum(low.abs(), high.abs()) ** rest

    return Curve(
        f"power {exponent}",
        lambda x: x**exponent,
        lambda x: exponent * x ** (exponent - 1),
        most(2),
        most(3),
    )
