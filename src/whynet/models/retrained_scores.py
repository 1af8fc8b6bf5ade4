"""What networks that were trained again get right and wrong, test example by test example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from whynet.models.retraining import Diverged, Log, Variation
from whynet.models.scores import correct
from whynet.models.subject import Subject


@dataclass(frozen=True)
class Scores:
    """One network on the test data, both lower is better.

    Attributes:
        error: `[examples]`, share of an example that is wrong; for regression what it adds to
            1 - R², linearized, so that its spread holds that of the variance of the targets too;
            for other tasks its loss.
        loss: `[examples]`, as training defines it.

    """

    error: np.ndarray
    loss: np.ndarray


def scores_of(subject: Subject) -> Scores:
    """Score a subject on its test data; float64."""
    outputs, targets = subject.outputs("test")
    with torch.no_grad():
        loss = subject.loss.per_example(outputs, targets).double().numpy()
    if "classification" in subject.loss.task:
        return Scores(1 - correct(subject.loss, outputs, targets).numpy(), loss)
    if subject.loss.task != "regression":
        return Scores(loss, loss)
    rows = targets.double().numpy().reshape(len(targets), -1)
    given = outputs.double().numpy().reshape(rows.shape)
    squares, deviation = ((given - rows) ** 2).mean(1), ((rows - rows.mean(0)) ** 2).mean(1)
    spread = float(deviation.mean()) or 1.0
    ratio = float(squares.mean()) / spread
    return Scores((squares - ratio * (deviation - deviation.mean())) / spread, loss)


def attempt(
    subject: Subject, variation: Variation, log: Callable[[nn.Module], Log] | None = None
) -> Scores | None:
    """Train again and score; None where training diverged.

    Args:
        subject: one that can be trained again.
        variation: how to differ.
        log: see `Trainer.run`.

    """
    try:
        found = scores_of(subject.retrained(variation, log))
    except Diverged:
        return None
    finite = np.isfinite(found.error).all() and np.isfinite(found.loss).all()
    return found if finite else None
