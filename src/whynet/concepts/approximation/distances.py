"""How far two piecewise-linear functions of one input lie apart, without a grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whynet.concepts.regions.polylines import along
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable


class _Gap(nn.Module):
    """The absolute difference of two networks."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        gap: Tensor = (self.first(x) - self.second(x)).abs()
        return gap


def integrated_gap(first: nn.Module, second: nn.Module, low: float, high: float) -> float:
    """Return the integral of |first − second| over an interval, exact up to round-off.

    The absolute difference is a piecewise-linear network itself, whose knots, places where it
    touches 0 included, are found exactly; between them the trapezoid rule is exact.

    Args:
        first: a network of one input and one output.
        second: another one, of the same dtype.
        low: where the interval begins.
        high: where it ends, above `low`.

    Raises:
        InputError: the ends are not in order, or a network is not piecewise linear.

    Cost: about one forward pass of both for each knot.

    """
    if not low < high:
        raise InputError("high", f"{high} after {low}", "a number above `low`")
    found = along(_Gap(first, second), torch.tensor([[low], [high]], dtype=torch.float64))
    if isinstance(found, NotApplicable):
        raise InputError("first", found.reason, "two piecewise-linear networks")
    values = found.segments.outputs.flatten()
    means = (values[1:] + values[:-1]) / 2
    return float((means * found.segments.width[:-1]).sum()) * (high - low)
