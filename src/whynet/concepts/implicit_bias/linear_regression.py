"""Overparametrized linear regression: data, starts, and training of many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.claim import Cell
from whynet.training.ensemble import Optimization, train_ensemble

Array = NDArray[Any]


@dataclass(frozen=True)
class Regressions:
    """Problems of equal shape, one a cell.

    Attributes:
        inputs: `[cells, rows, features]`, Gaussian over the root of the features.
        targets: `[cells, rows]`, Gaussian.
        start: `[cells, features]`.

    """

    inputs: Array
    targets: Array
    start: Array


def regressions(cells: Sequence[Cell], *, shared: tuple[str, ...]) -> Regressions:
    """Draw the problems of some cells of equal shape.

    Args:
        cells: with parameters `rows`, `features` and `start` (size of the start's entries).
        shared: parameters that the draws do not depend on, so that a control has the same data.

    """
    inputs, targets, starts = [], [], []
    for cell in cells:
        rows, features = int(cell.number("rows")), int(cell.number("features"))
        generator = np.random.default_rng(cell.seed_for("data", shared=shared))
        inputs.append(generator.standard_normal((rows, features)) / np.sqrt(features))
        targets.append(generator.standard_normal(rows))
        starts.append(cell.number("start") * generator.standard_normal(features))
    return Regressions(np.stack(inputs), np.stack(targets), np.stack(starts))


def half_square_sum(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return `½ Σ (f − y)²`."""
    return 0.5 * (outputs - targets).square().sum()


def linear(parameters: Any, inputs: Tensor) -> Tensor:
    """Return `X w`."""
    weights: Tensor = parameters["w"]
    return inputs @ weights


def trained(problems: Regressions, rule: str, weight_decay: float, steps: int) -> Array:
    """Train all problems on `½‖Xw − y‖²`, and return the weights `[cells, features]`.

    The step size is one over the largest eigenvalue of `XᵀX`; with momentum 0.9, that is within
    the stable range; Adam's is 0.01.
    """
    largest = np.linalg.svd(problems.inputs, compute_uv=False)[:, 0]
    rate: Any = 0.01 if rule == "adam" else torch.as_tensor(1 / largest**2)
    result = train_ensemble(
        linear,
        {"w": torch.as_tensor(problems.start)},
        torch.as_tensor(problems.inputs),
        torch.as_tensor(problems.targets),
        half_square_sum,
        Optimization(rule, rate, weight_decay),  # type: ignore[arg-type]
        steps=steps,
        per_member=("inputs", "targets"),
    )
    return np.asarray(result.parameters["w"].numpy())
