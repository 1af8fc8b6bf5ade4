"""What a network got right, example by example."""

from __future__ import annotations

import torch
from torch import Tensor

from whynet.models.losses import Loss

IGNORED = -100
"""Target of a position that is not scored, as in PyTorch."""


def labels_of(targets: Tensor, outputs: Tensor, loss: Loss) -> Tensor:
    """Return class indices, also where targets are probabilities; shape of the predictions."""
    if loss.task == "binary classification":
        return (targets > 0.5).long().reshape(loss.predictions(outputs).shape)
    if targets.is_floating_point() and targets.shape == outputs.shape:
        return targets.argmax(-1)
    return targets.long()


def correct(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of scored positions that are right, for every example.

    Args:
        loss: a loss of a classification task.
        outputs: `[examples, ..., classes]`, or logits of a binary task.
        targets: labels or probabilities; positions labeled -100 are not scored.

    Returns:
        `[examples]` in float64: 0 or 1 where an example has one label, else a share. Examples
        without a scored position are left out.

    """
    predicted = loss.predictions(outputs)
    labels = labels_of(targets, outputs, loss)
    scored = (labels != IGNORED).reshape(len(labels), -1)
    right = ((predicted == labels).reshape(len(labels), -1) & scored).sum(1, dtype=torch.float64)
    count = scored.sum(1)
    return right[count > 0] / count[count > 0]


def has_one_label(loss: Loss, outputs: Tensor) -> bool:
    """Whether every example carries one label (rather than a sequence or a set of them)."""
    return loss.predictions(outputs).ndim == 1
