"""Derivatives of losses in the outputs, in closed form, and draws from their models.

Up to a constant cross-entropy, binary cross-entropy and squared error are negative logarithms of
a likelihood of the targets, with the outputs as its natural parameters (its mean, for squares).
Their second derivative does not depend on what the targets are, so that it is also the Fisher
information of the outputs (Martens 2014, arXiv:1412.1193, section 9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from whynet.models.losses import IGNORED, Likelihood

FEW = 15
"""Most classes that do not fill a vector register of 512 bits in float32."""


@dataclass(frozen=True)
class OutputDerivatives:
    """Derivatives of the summed loss of a batch in the outputs z, of shape `[N, ...]`.

    Attributes:
        curve: tangents w of z, which may have a leading axis of vectors, to `H w`, H the second
            derivative.
        slope: makes the gradient; None where only the second derivative is known.

    """

    curve: Callable[[Tensor], Tensor]
    slope: Callable[[], Tensor] | None = None


def output_derivatives(likelihood: Likelihood, outputs: Tensor, targets: Any) -> OutputDerivatives:
    """Return the derivatives of a built-in loss.

    Args:
        likelihood: which loss.
        outputs: `[N, ...]`, of any dtype; classes are the last axis of a categorical one.
        targets: as the loss takes them. Of them the second derivative needs only how much each
            position weighs.

    Memory: three tensors of the size of the outputs, and two of the size of the tangents.

    """
    if likelihood == "categorical":
        return _of_cross_entropy(outputs, targets)
    entries = outputs[0].numel()
    wanted = partial(_shaped, targets, outputs)
    if likelihood == "gaussian":
        return OutputDerivatives(
            lambda tangent: tangent * (2 / entries),
            lambda: (outputs - wanted()) * (2 / entries),
        )
    chance = outputs.sigmoid()
    factor = chance * (1 - chance) / entries
    return OutputDerivatives(
        lambda tangent: factor * tangent, lambda: (chance - wanted()) / entries
    )


def _of_cross_entropy(outputs: Tensor, targets: Tensor) -> OutputDerivatives:
    chance = _chances(outputs)
    weight = weights(outputs, targets)
    weighted = chance if weight is None else chance * weight[..., None]

    def curve(tangent: Tensor) -> Tensor:
        mean = (chance * tangent).sum(-1, keepdim=True)
        return weighted * (tangent - mean)

    def slope() -> Tensor:
        if targets.shape == outputs.shape:
            return weighted - targets.to(outputs.dtype)
        hit = torch.ones_like(chance[..., :1]) if weight is None else weight[..., None]
        return weighted.scatter_add(-1, targets.long().clamp(min=0)[..., None], -hit)

    return OutputDerivatives(curve, slope)


def _shaped(targets: Tensor, outputs: Tensor) -> Tensor:
    return targets.to(outputs.dtype).reshape(outputs.shape)


def _chances(outputs: Tensor) -> Tensor:
    """Return the softmax over the last axis; PyTorch's takes few classes number by number."""
    if outputs.shape[-1] > FEW:
        return outputs.softmax(-1)
    return outputs.movedim(-1, 0).contiguous().softmax(0).movedim(0, -1).contiguous()


def drawn_slopes(
    likelihood: Likelihood, outputs: Tensor, targets: Any, draws: int, generator: torch.Generator
) -> Tensor:
    """Draw targets from the model of the outputs; return the loss's slopes in the outputs there.

    Their mean is zero and their second moment is the second derivative, position by position.

    Args:
        likelihood: which loss.
        outputs: `[N, ...]`.
        targets: only say how much each position weighs.
        draws: of every position.
        generator: on the CPU.

    Returns:
        `[draws, *outputs.shape]`, in the dtype of the outputs.

    """
    shape = (draws, *outputs.shape)
    if likelihood == "categorical":
        chance = outputs.softmax(-1).double().cpu()
        rows = chance.reshape(-1, chance.shape[-1])
        picked = torch.multinomial(rows, draws, replacement=True, generator=generator)
        hot = torch.nn.functional.one_hot(picked.T, rows.shape[-1]).reshape(shape)
        weight = weights(outputs, targets)
        root = 1 if weight is None else weight.double().sqrt()[..., None].cpu()
        return _like(outputs, (chance - hot) * root)
    entries = outputs[0].numel()
    if likelihood == "gaussian":
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return _like(outputs, noise * (2 / entries) ** 0.5)
    chance = outputs.double().sigmoid().cpu()
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    return _like(outputs, (chance - (uniform < chance).double()) / entries**0.5)


def _like(outputs: Tensor, slopes: Tensor) -> Tensor:
    return slopes.to(outputs.device, outputs.dtype)


def weights(outputs: Tensor, targets: Any) -> Tensor | None:
    """Return how much each position of cross-entropy weighs, `outputs.shape[:-1]`.

    0 or 1 with labels, the sum of its probabilities with those, which differs from 1 by at most
    their round-off; None where all are 1.
    """
    if not isinstance(targets, Tensor):
        return None
    if targets.shape == outputs.shape:
        weight = targets.to(outputs.dtype).sum(-1)
    elif targets.shape == outputs.shape[:-1] and not targets.is_floating_point():
        weight = (targets != IGNORED).to(outputs.dtype)
    else:
        return None
    return None if bool((weight == 1).all()) else weight
