"""Fully connected networks at their start: many draws at once, outputs and tangent kernels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.claim import Cell

Array = NDArray[Any]
WEIGHT_VARIANCE: Final = 2.0
"""`σ_w²`."""

FREEDOM: Final = 1.5
"""Degrees of freedom of the heavy-tailed weights: they have a mean and no variance."""


@dataclass(frozen=True)
class Networks:
    """Draws of one architecture with a single output.

    Attributes:
        weights: of each layer, `[networks, out, in]`.
        biases: of each layer, `[networks, out]`.
        activation: `relu` or `erf`.
        bias_scale: `σ_b`.
        standard: whether weights are held with their scale in them, so that it does not multiply
            the gradients.

    """

    weights: list[Tensor]
    biases: list[Tensor]
    activation: str
    bias_scale: float
    standard: bool = False

    def layer(self, number: int, hidden: Tensor) -> Tensor:
        """Return `σ_w W h / √fan + σ_b b`, `[networks, n, out]`."""
        weight = self.weights[number]
        product = hidden @ weight.transpose(1, 2) * _gain(weight)
        return product + self.bias_scale * self.biases[number][:, None, :]


def sphere_points(cell: Cell, rows: int, features: int, *, shared: tuple[str, ...]) -> Array:
    """Draw points uniformly on the sphere of radius `√features`, `[rows, features]`."""
    generator = np.random.default_rng(cell.seed_for("data", shared=shared))
    points = generator.standard_normal((rows, features))
    return np.asarray(np.sqrt(features) * points / np.linalg.norm(points, axis=1, keepdims=True))


def draw_networks(cell: Cell, features: int) -> Networks:
    """Draw the networks of a cell.

    Args:
        cell: with parameters `networks`, `width`, `depth`, `activation`, `bias_scale`,
            `weights` (`gaussian` or `heavy-tailed`), and perhaps `parametrization`.
        features: of an input.

    """
    generator = np.random.default_rng(
        cell.seed_for("networks", shared=("weights", "parametrization"))
    )
    count, width, depth = (int(cell.number(name)) for name in ("networks", "width", "depth"))
    sizes = [features, *(width for _ in range(depth)), 1]
    heavy = cell.parameters["weights"] == "heavy-tailed"

    def draw(*shape: int) -> Tensor:
        normal = generator.standard_normal(shape)
        if heavy:
            normal /= np.sqrt(generator.chisquare(FREEDOM, shape) / FREEDOM)
        return torch.from_numpy(normal)

    weights = [draw(count, out, fan) for fan, out in pairwise(sizes)]
    biases = [torch.from_numpy(generator.standard_normal((count, out))) for out in sizes[1:]]
    standard = cell.parameters.get("parametrization") == "standard"
    activation, bias_scale = str(cell.parameters["activation"]), cell.number("bias_scale")
    return Networks(weights, biases, activation, bias_scale, standard)


def outputs_of(networks: Networks, points: Array) -> Tensor:
    """Return the outputs of all networks, `[networks, n]`."""
    return _forward(networks, points)[0]


def tangent_kernels(networks: Networks, points: Array) -> Tensor:
    """Return the tangent kernels of all networks, `[networks, n, n]`.

    The gradients of a layer's weights are outer products of what goes into it and of the
    derivative of the output with respect to what comes out, so that the kernel is a sum over
    layers of entrywise products of two Gram matrices.
    """
    _, hidden, slopes = _forward(networks, points)
    last = len(hidden) - 1
    back = torch.ones(len(hidden[0]), len(points), 1, dtype=torch.float64)
    kernel = torch.zeros(len(hidden[0]), len(points), len(points), dtype=torch.float64)
    for number in range(last, -1, -1):
        weight, below = networks.weights[number], hidden[number]
        gain = 1.0 if networks.standard else _gain(weight)
        share = gain**2 * _gram(below) + networks.bias_scale**2
        kernel += share * _gram(back)
        if number:
            back = (back @ weight) * _gain(weight) * slopes[number - 1]
    return kernel


def _gain(weight: Tensor) -> float:
    return float((WEIGHT_VARIANCE / weight.shape[2]) ** 0.5)


def _gram(rows: Tensor) -> Tensor:
    return rows @ rows.transpose(1, 2)


def _forward(networks: Networks, points: Array) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return outputs, what goes into each layer, and the slopes of the hidden units."""
    own = torch.from_numpy(points).expand(len(networks.weights[0]), *points.shape)
    hidden, slopes = [own], []
    last = len(networks.weights) - 1
    for number in range(last):
        before = networks.layer(number, hidden[-1])
        if networks.activation == "relu":
            hidden.append(before.clamp(min=0))
            slopes.append((before > 0).double())
        else:
            hidden.append(torch.erf(before))
            slopes.append(2 / torch.pi**0.5 * torch.exp(-before.square()))
    return networks.layer(last, hidden[-1])[..., 0], hidden, slopes
