"""Gradient flow of two-layer rectified networks from starts of any scale, many at once.

Weights are held in units of their deviations at the start, so that an error of a step is small
beside what the weights began with, however small that was. Where the network stays near its
linearization a step is as long as all of training, and where weights grow from a tiny start a step
is a share of the time in which they double: the clock needs no scaling with the exponents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.training.gradient_flow import GradientFlow, flow_ensemble
from whynet.training.stopping import Below

INPUTS: Final = (-1.0, -0.4, 0.3, 1.0)
TARGETS: Final = (0.6, -0.4, 0.5, -0.3)
"""Four points on a line; a constant input of 1 stands beside each."""

TOLERANCE: Final = 0.02
"""Error of a step beside the weights at the start. Distances are then up to 5 % larger than those
of the flow (a test holds them against another integrator), by nearly the same factor at every
width, which leaves exponents as they are."""

FITTED: Final = 1e-4
"""Half the mean squared error at which every run ends; it starts near 0.1."""

MOST_STEPS: Final = 20_000


@dataclass(frozen=True)
class Flows:
    """What flows of a group came to.

    Attributes:
        distance: `‖W - W₀‖ / ‖W₀‖` of the input weights, `[members]`.
        loss: half the mean squared error, `[members]`.
        steps: that were taken.

    """

    distance: NDArray[Any]
    loss: NDArray[Any]
    steps: NDArray[Any]


def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return `κ Σ a (w·x)₊` of one network, weights in units of their deviations."""
    outputs: Tensor = parameters["kappa"] * (
        torch.relu(inputs @ parameters["w"].transpose(0, 1)) @ parameters["a"]
    )
    return outputs


def half_mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the mean squared error."""
    return 0.5 * (outputs - targets).square().mean()


def flows(starts: Sequence[tuple[NDArray[Any], NDArray[Any]]], deviations: NDArray[Any]) -> Flows:
    """Follow networks of one width until the four points are fitted.

    Args:
        starts: standard normal output weights `[width]` and input weights `[width, 2]`.
        deviations: of output and input weights, `[members, 2]`, positive.

    """
    outer = torch.as_tensor(np.stack([a for a, _ in starts]))
    inner = torch.as_tensor(np.stack([w for _, w in starts]))
    units = torch.as_tensor(deviations)
    points = torch.tensor(INPUTS, dtype=torch.float64)
    result = flow_ensemble(
        forward,
        {"a": outer, "w": inner},
        torch.stack([points, torch.ones_like(points)], 1),
        torch.tensor(TARGETS, dtype=torch.float64),
        half_mean_square,
        times=(1e250,),
        flow=GradientFlow("exponential", TOLERANCE, TOLERANCE),
        stop=Below("loss", FITTED),
        constants={"kappa": units.prod(1)},
        speeds={"a": units[:, 0] ** -2, "w": units[:, 1] ** -2},
        limit=MOST_STEPS,
    )
    moved = (result.parameters["w"] - inner).flatten(1).norm(dim=1) / inner.flatten(1).norm(dim=1)
    return Flows(moved.numpy(), result.losses.numpy(), result.steps.numpy())
