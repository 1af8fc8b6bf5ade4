"""Separable two-class data, and linear predictors that follow the flow to very large times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.claim import Cell
from whynet.training.log_time_flow import flow_in_log_time

Array = NDArray[Any]

GAP = 0.3
"""Least distance of a row from the boundary that labels it."""


def separable_rows(cell: Cell, *, shared: tuple[str, ...]) -> tuple[Array, Array]:
    """Draw Gaussian rows of variance 4, labelled by a plane that keeps away from all of them.

    Args:
        cell: with parameters `rows` and `features`.
        shared: parameters the draw does not depend on.

    Returns:
        Rows `[rows, features]` and labels ±1.

    """
    rows, features = int(cell.number("rows")), int(cell.number("features"))
    generator = np.random.default_rng(cell.seed_for("data", shared=shared))
    normal = np.full(features, 0.5)
    normal[0] = 1.0
    normal /= np.linalg.norm(normal)
    kept = np.empty((0, features))
    while len(kept) < rows:
        drawn = 2 * generator.standard_normal((4 * rows, features))
        kept = np.vstack([kept, drawn[np.abs(drawn @ normal) > GAP]])
    kept = kept[:rows]
    return kept, np.sign(kept @ normal)


def linear(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return `X w`."""
    return inputs @ parameters["w"]


def diagonal(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return `X (u² − v²)`: a linear function, parametrized by squares."""
    return inputs @ (parameters["u"].square() - parameters["v"].square())


def paths(
    inputs: Array, labels: Array, starts: Array, *, model: str, tail: str, times: Sequence[float]
) -> Array:
    """Follow the flow of linear predictors and return their weights over time.

    Args:
        inputs: `[cells, rows, features]`.
        labels: `[cells, rows]`.
        starts: `[cells, features]`; of the `diagonal` model, `u = v` start at its absolute value.
        model: `linear` or `diagonal`.
        tail: `logistic` or `exponential`.
        times: increasing.

    Returns:
        `[cells, times, features]`, the weights of the linear function.

    """
    start = torch.as_tensor(starts)
    if model == "diagonal":
        parameters, forward = {"u": start.abs() + 0.1, "v": start.abs() + 0.1}, diagonal
    else:
        parameters, forward = {"w": start}, linear

    def weights(now: Mapping[str, Tensor]) -> Tensor:
        return now["w"] if model == "linear" else now["u"].square() - now["v"].square()

    result = flow_in_log_time(
        forward,
        parameters,
        torch.as_tensor(inputs),
        torch.as_tensor(labels),
        tail=tail,  # type: ignore[arg-type]
        times=list(times),
        record={"weights": weights},
        per_member=("inputs", "targets"),
    )
    assert result.records is not None
    return np.asarray(result.records["weights"].transpose("member", "time", ...).values)
