"""Activations with known Gaussian averages: in closed form, or as a series with a stated error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from whynet.numerics.gaussian_averages import CLOSED, Averages, leaky_relu
from whynet.numerics.hermite_averages import Series

Array = NDArray[Any]


@dataclass(frozen=True)
class Activation:
    """An activation and the averages of pairs of it.

    Attributes:
        name: what it is.
        averages: of pairs of values and of slopes.
        series: where the averages are a series with an error; None in closed form.
        slope: below zero, of a leaky rectified unit; None for others.

    """

    name: str
    averages: Averages
    series: Series | None = None
    slope: float | None = None


def _of_series(name: str, value: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Any:
    series = Series(value, slope)
    return Activation(name, series.averages, series)


def _gelu_tanh(z: Array) -> Array:
    return np.asarray(z / 2 * (1 + np.tanh(_INNER * (z + 0.044715 * z**3))))


def _gelu_tanh_slope(z: Array) -> Array:
    tanh = np.tanh(_INNER * (z + 0.044715 * z**3))
    inner = _INNER * (1 + 3 * 0.044715 * z**2)
    return np.asarray((1 + tanh) / 2 + z / 2 * (1 - tanh**2) * inner)


_INNER: Final = np.sqrt(2 / np.pi)

_SERIES: Final[dict[str, Activation]] = {
    "tanh": _of_series("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": _of_series("sigmoid", expit, lambda z: expit(z) * expit(-z)),
    "softplus": _of_series("softplus", lambda z: np.logaddexp(0, z), expit),
    "silu": _of_series("silu", lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z))),
    "gelu-tanh": _of_series("gelu-tanh", _gelu_tanh, _gelu_tanh_slope),
}

NAMES: Final = (*CLOSED, "leaky-relu", *_SERIES)
"""All that are known."""


def rectified(slope: float) -> Activation:
    """Return the leaky rectified unit with a slope below zero; 0 is the plain one."""
    name = "relu" if slope == 0 else f"leaky-relu {slope:g}"
    return Activation(name, leaky_relu(slope), slope=slope)


def named(name: str) -> Activation:
    """Return an activation by its name; `leaky-relu` has slope 0.01."""
    if name in ("relu", "leaky-relu", "abs"):
        return rectified({"relu": 0.0, "leaky-relu": 0.01, "abs": -1.0}[name])
    if name in CLOSED:
        return Activation(name, CLOSED[name])
    return _SERIES[name]


def of_module(module: nn.Module) -> Activation | None:
    """Return what a module of PyTorch computes, or None where it is no known activation."""
    if isinstance(module, nn.LeakyReLU):
        return rectified(float(module.negative_slope))
    if isinstance(module, nn.GELU):
        return named("gelu" if module.approximate == "none" else "gelu-tanh")
    if isinstance(module, nn.Softplus):
        return named("softplus") if (module.beta, module.threshold) == (1, 20) else None
    plain = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SiLU: "silu"}
    return named(plain[type(module)]) if type(module) in plain else None


def of_function(name: str, settings: dict[str, Any], rest: tuple[Any, ...]) -> Activation | None:
    """Return what a function of PyTorch computes by its name, or None.

    Args:
        name: of the function or method.
        settings: its keyword arguments.
        rest: positional arguments after the first.

    """
    settings = {key: value for key, value in settings.items() if key not in ("inplace", "input")}
    if name == "leaky_relu":
        slope = settings.pop("negative_slope", rest[0] if rest else 0.01)
        return None if settings or len(rest) > 1 else rectified(float(slope))
    if name == "gelu":
        approximate = settings.pop("approximate", "none")
        return None if settings or rest else named("gelu" if approximate == "none" else "gelu-tanh")
    if name == "sigmoid" or name in (
        "relu",
        "tanh",
        "sin",
        "cos",
        "erf",
        "abs",
        "softplus",
        "silu",
    ):
        return None if settings or rest else named(name)
    return None
