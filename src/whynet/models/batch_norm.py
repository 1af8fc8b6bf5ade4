"""The running statistics of batch normalization before training.

Those stored at initialization (mean 0, variance 1) are not the network that was trained, so they
are recalibrated on a copy before anything is measured there. They are pooled over rows, layer by
layer, so that they are those of one pass with all rows in one batch, whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from whynet.models.data.examples import Examples

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Batches = Callable[[], Iterator[tuple[Any, Any]]]

ROW_PASSES: Final = 2**18
"""Rows that pass the network for all layers together; fewer rows are used where layers are many."""

RECALIBRATED = (
    "The running statistics of batch normalization before training are those of the training "
    "data passed through the initial weights."
)


def batch_normalized(module: nn.Module) -> bool:
    """Whether a network holds batch normalization."""
    return any(isinstance(child, _BATCH_NORMS) for child in module.modules())


def recalibrated_on(
    module: nn.Module,
    data: Examples | None,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
) -> bool:
    """Recalibrate a network on its training data; see `recalibrate`."""
    if data is None:
        return False
    rows = _calibration_rows(module, data)
    return recalibrate(module, lambda: rows.batches(batch_size, device=device, dtype=dtype))


def _calibration_rows(module: nn.Module, data: Examples) -> Examples:
    """Return the rows to recalibrate on: all, or evenly spaced ones where layers are many."""
    layers = sum(isinstance(child, _BATCH_NORMS) for child in module.modules())
    most = max(2048, ROW_PASSES // max(1, layers))
    if data.count <= most:
        return data
    return data.subset(np.linspace(0, data.count - 1, most).astype(np.int64).tolist())


def recalibrate(module: nn.Module, batches: Batches) -> bool:
    """Set running statistics to those of all rows together, one layer after the other.

    Each layer is fed by layers before it that already have theirs, so the result is that of one
    training pass with all rows in one batch; only round-off depends on how rows are batched. A
    layer that is called several times in a pass gets the statistics of its first call. Cost: one
    pass for every layer, each up to that layer.

    Args:
        module: changed in place; in evaluation mode before and after.
        batches: returns an iterator over inputs and targets, the same ones each time.

    Returns:
        Whether there were rows to learn from: at least two values for every channel.

    """
    norms = [
        child
        for child in module.modules()
        if isinstance(child, _BATCH_NORMS) and child.track_running_stats
    ]
    for norm in norms:
        norm.reset_running_stats()
        norm.eval()
    pooled: list[tuple[_BatchNorm, _Pool]] = []
    with torch.no_grad():
        for norm in _in_order(module, norms, batches):
            pool = _pooled(module, norm, batches)
            if pool.count < 2:
                return False
            _set(norm, pool.mean, pool.squares / pool.count)
            pooled.append((norm, pool))
        for norm, pool in pooled:  # what training keeps is the unbiased variance
            _set(norm, pool.mean, pool.squares / (pool.count - 1))
    return bool(pooled)


@dataclass
class _Pool:
    """Count, mean and sum of squared deviations of every channel, in float64."""

    mean: Tensor
    squares: Tensor
    count: int = 0

    def add(self, values: Tensor) -> None:
        """Take in a batch `[rows, channels, ...]`, by the update of Chan, Golub and LeVeque."""
        flat = values.detach().to(torch.float64).transpose(0, 1).flatten(1)
        count = flat.shape[1]
        mean = flat.mean(1)
        gap = mean - self.mean
        total = self.count + count
        self.squares += (flat - mean[:, None]).square().sum(1) + gap.square() * (
            self.count * count / total
        )
        self.mean += gap * (count / total)
        self.count = total


class _Reached(Exception):
    """Ends a forward pass at the layer whose inputs are collected."""


def _in_order(module: nn.Module, norms: list[_BatchNorm], batches: Batches) -> list[_BatchNorm]:
    """Return the layers in the order in which a forward pass first calls them."""
    reached: dict[_BatchNorm, None] = {}
    hooks = [norm.register_forward_pre_hook(lambda m, _: reached.setdefault(m)) for norm in norms]
    try:
        for inputs, _ in batches():
            _call(module, inputs)
            break
    finally:
        for hook in hooks:
            hook.remove()
    return list(reached)


def _pooled(module: nn.Module, norm: _BatchNorm, batches: Batches) -> _Pool:
    pool = _Pool(
        torch.zeros(norm.num_features, dtype=torch.float64, device=_device(norm)),
        torch.zeros(norm.num_features, dtype=torch.float64, device=_device(norm)),
    )

    def collect(_: nn.Module, given: tuple[Any, ...]) -> None:
        pool.add(given[0])
        raise _Reached

    hook = norm.register_forward_pre_hook(collect)
    try:
        for inputs, _ in batches():
            try:
                _call(module, inputs)
            except _Reached:
                continue
    finally:
        hook.remove()
    return pool


def _device(norm: _BatchNorm) -> torch.device:
    assert norm.running_mean is not None
    return norm.running_mean.device


def _set(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _call(module: nn.Module, inputs: Any) -> None:
    if isinstance(inputs, dict):
        module(**inputs)
    else:
        module(*(inputs if isinstance(inputs, tuple) else (inputs,)))
