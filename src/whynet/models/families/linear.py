"""Linear models: one affine map, the simplest network there is."""

from __future__ import annotations

import math

from torch import nn

from whynet.core.errors import InputError
from whynet.core.family import Family


def build(
    inputs: int, outputs: int, *, bias: bool = True, parametrization: str = "standard"
) -> nn.Linear:
    """Return a linear model with fresh weights of variance `1 / inputs` and zero biases.

    It is linear in its parameters, biases included, hence homogeneous of degree 1. Deep linear
    networks are `whynet.models.families.mlp.build(..., activation="linear")`.

    Args:
        inputs: features in.
        outputs: features out.
        bias: whether there is a bias.
        parametrization: `standard`.

    Returns:
        A network from `[batch, inputs]` to `[batch, outputs]`, in the default dtype.

    Raises:
        InputError: a size below 1, or an unknown parametrization.

    """
    if parametrization not in FAMILY.parametrizations:
        raise InputError("parametrization", repr(parametrization), "standard")
    if min(inputs, outputs) < 1:
        raise InputError("inputs", f"{inputs} inputs and {outputs} outputs", "at least 1 of each")
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(inputs))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


FAMILY = Family(
    title="linear models",
    build=build,
    parametrizations=("standard",),
    tags=(
        "float-inputs",
        "deterministic",
        "trainable",
        "piecewise-linear",
        "homogeneous",
        "smooth",
    ),
    infinite_width=False,
)
