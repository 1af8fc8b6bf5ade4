"""Rectified networks at their start, and how many of their units switch along segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whynet.core.claim import Cell
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.models.piecewise_linear_source import graph_from

HE: Final = sqrt(2.0)
"""Deviation of a weight times the root of its fan-in that keeps the size of the signal."""


def widths_of(cell: Cell) -> list[int]:
    """Return the widths of the hidden layers of a claim's cell with a depth and a width."""
    return [int(cell.number("width"))] * int(cell.number("depth"))


def relu_network(
    generator: np.random.Generator, inputs: int, widths: Sequence[int], bias_scale: float
) -> nn.Sequential:
    """Draw a rectified network of one output in float64: He's normal weights, normal biases.

    Args:
        generator: of the numbers; networks of equal sizes draw the same weights whatever
            `bias_scale` is.
        inputs: of the network.
        widths: units of every hidden layer.
        bias_scale: standard deviation of every bias.

    """
    layers: list[nn.Module] = []
    sizes = [inputs, *widths, 1]
    for fan, out in pairwise(sizes):
        layer = nn.Linear(fan, out, dtype=torch.float64)
        weight = HE / sqrt(fan) * generator.standard_normal((out, fan))
        bias = bias_scale * generator.standard_normal(out)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def switches_along(
    network: nn.Module, starts: NDArray[Any], ends: NDArray[Any]
) -> NDArray[np.int64]:
    """Count the switches of all units along segments, exactly; a unit may switch more than once.

    Args:
        network: piecewise linear.
        starts: `[segments, inputs]`.
        ends: `[segments, inputs]`.

    Returns:
        One number a segment. Units that switch at one point count each.

    Raises:
        InputError: the network is not piecewise linear or has too many pieces.

    """
    graph = graph_from(network, torch.as_tensor(starts[0]).double())
    if isinstance(graph, NotApplicable):
        raise InputError("network", graph.reason, "a piecewise-linear network")
    found = segment_pieces(graph, torch.as_tensor(starts), torch.as_tensor(ends))
    if isinstance(found, NotApplicable):
        raise InputError("network", found.reason, "one with fewer pieces")
    counts = torch.zeros(len(starts), dtype=torch.int64)
    return np.asarray(counts.index_add(0, found.segment, found.switches).numpy())
