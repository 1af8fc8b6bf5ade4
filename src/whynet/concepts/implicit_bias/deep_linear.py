"""Deep linear networks: products of matrices, their losses and conserved quantities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def product(parameters: Mapping[str, Tensor]) -> Tensor:
    """Return `W = W_N ⋯ W₁` from `factors`, `[..., depth, size, size]` with `W₁` first."""
    factors = parameters["factors"]
    whole = factors[..., 0, :, :]
    for layer in range(1, factors.shape[-3]):
        whole = factors[..., layer, :, :] @ whole
    return whole


def half_square_sum(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return `½‖W − M‖²`, summed over entries."""
    return 0.5 * torch.sum((outputs - targets) ** 2)
