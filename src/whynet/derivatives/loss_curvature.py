"""Second derivatives of losses in the outputs, in closed form, and draws from their models.

Up to a constant cross-entropy, binary cross-entropy and squared error are negative logarithms of
a likelihood of the targets, with the outputs as its natural parameters (its mean, for squares).
Their second derivative does not depend on the targets, so that it is also the Fisher information
of the outputs (Martens 2014, arXiv:1412.1193, section 9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from whynet.models.losses import IGNORED, Likelihood

FEW = 15
"""Most classes that do not fill a vector register of 512 bits in float32."""


def output_curvature(
    likelihood: Likelihood, outputs: Tensor, targets: Any
) -> Callable[[Tensor], Tensor]:
    """Return the map w to H w of the summed loss of a batch.

    Args:
        likelihood: which loss.
        outputs: `[N, ...]`, of any dtype; classes are the last axis of a categorical one.
        targets: only says which positions are scored.

    Returns:
        A function of tangents `[..., N, ...]`. Memory: two tensors of the size of the tangents.

    """
    if likelihood == "categorical":
        chance = _chances(outputs)
        kept = scored(outputs, targets)
        weighted = chance if kept is None else chance * kept[..., None].to(chance.dtype)

        def curve(tangent: Tensor) -> Tensor:
            mean = (chance * tangent).sum(-1, keepdim=True)
            return weighted * (tangent - mean)

        return curve
    entries = outputs[0].numel()
    if likelihood == "gaussian":
        return lambda tangent: tangent * (2 / entries)
    slope = outputs.sigmoid()
    factor = slope * (1 - slope) / entries
    return lambda tangent: factor * tangent


def _chances(outputs: Tensor) -> Tensor:
    """Return the softmax over the last axis; PyTorch's takes few classes number by number."""
    if outputs.shape[-1] > FEW:
        return outputs.softmax(-1)
    return outputs.movedim(-1, 0).contiguous().softmax(0).movedim(0, -1).contiguous()


def drawn_slopes(
    likelihood: Likelihood, outputs: Tensor, targets: Any, draws: int, generator: torch.Generator
) -> Tensor:
    """Draw targets from the model of the outputs; return the loss's slopes in the outputs there.

    Their mean is zero and their second moment is `output_curvature`, position by position.

    Args:
        likelihood: which loss.
        outputs: `[N, ...]`.
        targets: only says which positions are scored.
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
        kept = scored(outputs, targets)
        return _like(outputs, (chance - hot) * (1 if kept is None else kept[..., None].cpu()))
    entries = outputs[0].numel()
    if likelihood == "gaussian":
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return _like(outputs, noise * (2 / entries) ** 0.5)
    chance = outputs.double().sigmoid().cpu()
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    return _like(outputs, (chance - (uniform < chance).double()) / entries**0.5)


def _like(outputs: Tensor, slopes: Tensor) -> Tensor:
    return slopes.to(outputs.device, outputs.dtype)


def scored(outputs: Tensor, targets: Any) -> Tensor | None:
    """Mask of the positions that count, `outputs.shape[:-1]`; None where all of them do."""
    labels = isinstance(targets, Tensor) and targets.shape == outputs.shape[:-1]
    if not labels or targets.is_floating_point():
        return None
    kept = targets != IGNORED
    return None if bool(kept.all()) else kept
