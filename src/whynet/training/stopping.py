"""When a member of an ensemble has done enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.training.optimizers import per_member


@dataclass(frozen=True)
class Below:
    """Stop a member as soon as a quantity of its own is at most a threshold.

    Attributes:
        quantity: `loss` (over all of the member's data), `gradient` (Euclidean norm of its
            gradient over all data), or the name of a recorded observable.
        threshold: a number, or a tensor `[members]`.
        every: look at steps that are multiples of it. By default the loss of full-batch training
            is looked at in every step, where it costs nothing; everything else every 100 steps.

    """

    quantity: str
    threshold: float | Tensor
    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise InputError("every", str(self.every), "at least 1 step")
        if bool(torch.isnan(torch.as_tensor(self.threshold)).any()):
            raise InputError("threshold", "no number", "a number")

    def thresholds(self, like: Tensor) -> Tensor:
        """Return the threshold of each member."""
        return per_member("threshold", self.threshold, like)


@dataclass(frozen=True)
class Above(Below):
    """Stop a member as soon as a quantity of its own is at least a threshold."""


def reached(stop: Below, values: Tensor, thresholds: Tensor) -> Tensor:
    """Return which members have reached their threshold, `[members]`; NaN has not.

    Raises:
        InputError: an observable that is not one number a member.

    """
    if values.shape != thresholds.shape:
        raise InputError(
            "stop", f"{stop.quantity!r} of shape {tuple(values.shape)}", "one number a member"
        )
    return values >= thresholds if isinstance(stop, Above) else values <= thresholds
