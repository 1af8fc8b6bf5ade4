"""The weights a network starts from: which of them were drawn, and the same at another scale."""

from __future__ import annotations

import torch
from torch import nn


def drawn_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters of a fresh network that its builder drew.

    Gains of normalizations start as ones, which is no draw. Biases at zero count as drawn, since
    they are part of their layer and no factor moves them.

    Args:
        module: untrained.

    Returns:
        Name to parameter, in the order of the module, tied ones once.

    """
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and not bool((parameter.detach() == 1).all())
    }


def rescale(module: nn.Module, factor: float) -> None:
    """Multiply what `drawn_parameters` returns by a number, in place.

    Args:
        module: untrained.
        factor: above 0.

    """
    with torch.no_grad():
        for parameter in drawn_parameters(module).values():
            parameter.mul_(factor)
