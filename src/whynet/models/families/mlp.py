"""Fully connected networks, in the standard and in the NTK parametrization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.core.family import Family

ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "linear": nn.Identity,
}
"""Name to activation; `linear` makes a deep linear network."""

BIAS_SCALE: Final = 0.1
"""Factor on the biases in the NTK parametrization."""


class ScaledLinear(nn.Module):
    """A linear layer of the NTK parametrization, `y = (s / sqrt(n_in)) W x + 0.1 b`.

    `W` starts standard normal and `b` at zero; the factors stand in the forward pass, so that
    gradient descent moves each entry of `W` by an amount that shrinks with width.

    Args:
        inputs: features in, `n_in`.
        outputs: features out.
        gain: the factor `s`, a pure number.
        bias: whether there is a bias.

    """

    def __init__(self, inputs: int, outputs: int, gain: float, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.scale = gain / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Map a batch `[..., inputs]` to `[..., outputs]`."""
        bias = None if self.bias is None else BIAS_SCALE * self.bias
        return functional.linear(inputs, self.scale * self.weight, bias)

    def extra_repr(self) -> str:
        """Return what stands between the brackets of `repr`."""
        return f"{self.in_features}, {self.out_features}, scale={self.scale:.4g}"


def build(
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    activation: str = "relu",
    *,
    bias: bool = True,
    parametrization: str = "standard",
) -> nn.Sequential:
    """Return a fully connected network with fresh weights.

    Both parametrizations are the same function distribution at initialization: biases are zero,
    hidden weights have variance `s^2 / n_in` with `s^2 = 2` for ReLU (He et al. 2015,
    arXiv:1502.01852) and 1 otherwise, output weights `1 / n_in`. For ReLU the mean of `f(x)^2`
    over draws is therefore exactly `|x|^2 / inputs`, for every depth and width. They differ in
    training: in `ntk` (Jacot et al. 2018, arXiv:1806.07572) the factors stand in the forward
    pass and the tangent kernel has a limit at infinite width; in `standard` it grows with width.

    Without biases a ReLU or linear network is homogeneous in its parameters, of the degree
    `len(widths) + 1`.

    Args:
        inputs: features in.
        widths: number of units of each hidden layer; may be empty.
        outputs: features out.
        activation: one of `ACTIVATIONS`.
        bias: whether layers have biases.
        parametrization: `standard` or `ntk`.

    Returns:
        A network from `[batch, inputs]` to `[batch, outputs]`, in the default dtype.

    Raises:
        InputError: a size below 1, or an unknown activation or parametrization.

    """
    if activation not in ACTIVATIONS:
        raise InputError("activation", repr(activation), "one of " + ", ".join(ACTIVATIONS))
    if parametrization not in FAMILY.parametrizations:
        wanted = " or ".join(FAMILY.parametrizations)
        raise InputError("parametrization", repr(parametrization), wanted)
    sizes = [inputs, *widths, outputs]
    if min(sizes) < 1:
        raise InputError("widths", f"the sizes {sizes}", "sizes of at least 1")
    gain = math.sqrt(2.0) if activation == "relu" else 1.0
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(sizes)):
        last = index == len(widths)
        layers.append(_layer(before, after, 1.0 if last else gain, bias, parametrization))
        if not last:
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


def _layer(inputs: int, outputs: int, gain: float, bias: bool, parametrization: str) -> nn.Module:
    if parametrization == "ntk":
        return ScaledLinear(inputs, outputs, gain, bias)
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


FAMILY = Family(
    title="fully connected networks",
    build=build,
    parametrizations=("standard", "ntk"),
    tags=("float-inputs", "deterministic", "trainable", "piecewise-linear"),
    infinite_width=True,
)
