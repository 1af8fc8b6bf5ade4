"""Networks trained on the handwritten digits, and the smooth and the rough part of what they say.

The smooth part of values on rows is their average over neighbors, weighted by a Gaussian of the
distance between inputs; the rough part is what is left (Xu et al. 2020, arXiv:1901.06523).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.claim import Cell
from whynet.training.bundled_data import digits
from whynet.training.ensemble import Optimization, train_ensemble

Array = NDArray[Any]
QUANTILES: Final = (0.01, 0.05, 0.2)
"""Widths of the filters, as quantiles of the distances between rows."""

RATES: Final = {"adam": 1e-3, "gradient-descent": 0.02}
"""Learning rates; at 0.1 gradient descent overshoots along the smoothest directions."""
PENALTY: Final = 400.0
"""Weight of the rough part in the loss that favors it, over that of the smooth part."""


@cache
def bundled(rows: int, seed: int) -> tuple[Array, Array]:
    """Return some training digits, `[rows, 64]`, and their labels less the mean, `[rows, 10]`."""
    (inputs, labels), _ = digits((64,))
    chosen = np.random.default_rng(seed).permutation(len(labels))[:rows]
    targets = np.eye(10)[labels[chosen]]
    return inputs[chosen].astype(np.float64), targets - targets.mean(0)


def filters(inputs: Array) -> Array:
    """Return the matrices that take values on rows to their smooth parts, `[widths, n, n]`."""
    square = ((inputs[:, None] - inputs[None]) ** 2).sum(-1)
    upper = np.sqrt(square[np.triu_indices(len(inputs), 1)])
    widths = np.quantile(upper, QUANTILES)
    weights = np.exp(-square / (2 * widths[:, None, None] ** 2))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def start_of(cell: Cell) -> dict[str, Array]:
    """Return the start of a network with one hidden layer that computes 0."""
    width = int(cell.number("width"))
    generator = np.random.default_rng(cell.seed_for("start", shared=("loss", "optimizer")))
    return {
        "w": generator.standard_normal((64, width)) * (2 / 64) ** 0.5,
        "b": np.zeros(width),
        "v": np.zeros((width, 10)),
        "c": np.zeros(10),
    }


def forward(parameters: Any, inputs: Tensor) -> Tensor:
    """Return `v (w x + b)₊ + c`."""
    hidden = torch.relu(inputs @ parameters["w"] + parameters["b"])
    outputs: Tensor = hidden @ parameters["v"] + parameters["c"]
    return outputs


def loss_of(kind: str, smooth: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean square, or one that favors the rough part of the residual.

    Args:
        kind: `plain` or `rough`.
        smooth: filter `[n, n]` of the second.

    """

    def plain(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(-1).mean()

    def rough(outputs: Tensor, targets: Tensor) -> Tensor:
        residual = outputs - targets
        low = smooth @ residual
        return ((residual - low).square() + low.square() / PENALTY).sum(-1).mean()

    return plain if kind == "plain" else rough


def part_errors(cells: Sequence[Cell]) -> tuple[Array, Array]:
    """Train networks on the same digits, and return errors of both parts over training.

    Returns:
        Steps `[times]`; relative errors of smooth and rough part, `[cells, times, 2, filters]`.

    """
    first = cells[0]
    rows, steps = int(first.number("rows")), int(first.number("steps"))
    inputs, targets = bundled(rows, 0)
    matrices = torch.from_numpy(filters(inputs)).float()
    x, y = torch.from_numpy(inputs).float(), torch.from_numpy(targets).float()
    starts = [start_of(cell) for cell in cells]
    parameters = {n: torch.from_numpy(np.stack([s[n] for s in starts])).float() for n in starts[0]}
    outputs = torch.func.vmap(forward, in_dims=(0, None))
    low = torch.einsum("fij,jk->fik", matrices, y)
    sizes = torch.stack([low.square().sum((1, 2)), (y - low).square().sum((1, 2))])

    def errors(now: Any) -> Tensor:
        residual = outputs(now, x) - y
        smooth = torch.einsum("fij,bjk->bfik", matrices, residual)
        parts = smooth, residual[:, None] - smooth
        squares = torch.stack([part.square().sum((2, 3)) for part in parts], 1)
        return (squares / sizes).sqrt()

    planned = sorted({0, *(round(v) for v in np.geomspace(1, steps, 60))})
    rule = str(first.parameters["optimizer"])
    result = train_ensemble(
        forward,
        parameters,
        x,
        y,
        loss_of(str(first.parameters["loss"]), matrices[1]),
        Optimization(rule, RATES[rule]),  # type: ignore[arg-type]
        steps=steps,
        record={"errors": errors},
        schedule=planned,
    )
    table = result.records["errors"].transpose("member", "step", ...).values
    return np.array(planned), np.asarray(table, dtype=np.float64)


def settling_times(steps: Array, errors: Array, share: float = 0.5) -> Array:
    """Return from when on errors stay at a share of their start or below, interpolated.

    Args:
        steps: `[times]`, from 0.
        errors: `[cells, times, ...]`.
        share: of the start.

    Returns:
        `[cells, ...]`; the last step where they are above it at the end, or not finite.

    """
    relative = np.nan_to_num(errors / errors[:, :1], nan=1e9, posinf=1e9)
    above = relative > share
    last = above.shape[1] - 1
    place = np.minimum(last - above[:, ::-1].argmax(1), last - 1)
    pair = [np.take_along_axis(relative, (place + k)[:, None], 1)[:, 0] for k in (0, 1)]
    fraction = np.clip((pair[0] - share) / np.maximum(pair[0] - pair[1], 1e-12), 0, 1)
    found = steps[place] + fraction * (steps[place + 1] - steps[place])
    return np.asarray(np.where(above[:, -1], float(steps[-1]), found))
