"""The running statistics of batch normalization before training.

Those stored at initialization (mean 0, variance 1) are not the network that was trained, so they
are recalibrated on a copy before anything is measured there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

RECALIBRATED = (
    "The running statistics of batch normalization before training are those of the training "
    "data passed through the initial weights."
)


def batch_normalized(module: nn.Module) -> bool:
    """Whether a network holds batch normalization."""
    return any(isinstance(child, _BATCH_NORMS) for child in module.modules())


def recalibrate(module: nn.Module, batches: Iterator[tuple[Any, Any]]) -> bool:
    """Set running statistics to the averages over all batches, weighted by their rows.

    A batch of one row has no variance and is left out.

    Args:
        module: changed in place; in evaluation mode before and after.
        batches: inputs and targets.

    Returns:
        Whether there was a batch to learn from.

    """
    norms = [child for child in module.modules() if isinstance(child, _BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    seen = 0
    with torch.no_grad():
        for inputs, targets in batches:
            if len(targets) < 2:
                continue
            seen += len(targets)
            for norm in norms:
                norm.momentum = len(targets) / seen
            if isinstance(inputs, dict):
                module(**inputs)
            else:
                module(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return seen > 0
