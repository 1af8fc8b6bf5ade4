"""Small networks on handwritten digits whose sharpness is watched while they train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from whynet.core.claim import Cell
from whynet.numerics.lanczos import lanczos_batch, tridiagonal
from whynet.training.bundled_data import digits
from whynet.training.ensemble import Optimization, train_ensemble

Array = NDArray[Any]
Stacked = dict[str, Tensor]

PRODUCTS: Final = 12
"""Lanczos steps for a largest eigenvalue."""

LATE: Final = 8
"""Looks at the sharpness in the second half of training; half as many in the first."""

FEW: Final = 5
"""Rows of a step that does not see all of them."""

SCALE: Final = 0.6
"""Of the weights at the start, over the root of the inputs of a layer."""

UNSHARED: Final = ("rate", "momentum", "steps", "batch", "trained")
"""Parameters that data and start do not depend on."""


@dataclass(frozen=True)
class Watched:
    """What was seen while networks trained.

    Attributes:
        steps: `[looks]`, when.
        sharpness: `[cells, looks]`, largest eigenvalue of the Hessian of the loss over all rows.
        losses: `[cells, looks]`.

    """

    steps: Array
    sharpness: Array
    losses: Array


def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the outputs of two hidden layers of tanh."""
    first = torch.tanh(inputs @ parameters["w1"] + parameters["b1"])
    second = torch.tanh(first @ parameters["w2"] + parameters["b2"])
    return second @ parameters["w3"] + parameters["b3"]


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the mean over rows of squared errors, summed over outputs."""
    return 0.5 * (outputs - targets).square().sum(-1).mean()


def sharpness_of(
    objective: Callable[[Stacked, Stacked], Tensor], parameters: Stacked, constants: Stacked
) -> Tensor:
    """Return the largest eigenvalue of every member's Hessian, `[members]`, a bound from below.

    Lanczos from one start vector each, the members side by side, all products from one graph. With
    12 products the value is within 1 % of the largest eigenvalue of such networks (held by a test).

    Args:
        objective: parameters and constants of one member to its loss.
        parameters: stacked, `[members, ...]`.
        constants: stacked entries that are not trained.

    """
    held = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    leaves, sizes = tuple(held.values()), [value[0].numel() for value in held.values()]
    with torch.enable_grad():
        total = vmap(objective)(held, constants).sum()
        slopes = torch.autograd.grad(total, leaves, create_graph=True)

    def products(columns: Tensor) -> Tensor:
        parts = torch.split(columns.T, sizes, 1)
        along = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        moved = torch.autograd.grad(slopes, leaves, along, retain_graph=True)
        return torch.cat([part.flatten(1) for part in moved], 1).T

    generator = torch.Generator().manual_seed(0)
    like = leaves[0]
    start = torch.randn(sum(sizes), len(like), generator=generator, dtype=like.dtype)
    found = lanczos_batch(products, start.to(like.device), PRODUCTS)
    values: Tensor = torch.linalg.eigvalsh(tridiagonal(found.alphas, found.betas))
    return values[:, -1]


def _drawn(cells: Sequence[Cell]) -> tuple[Tensor, Tensor, Stacked]:
    """Return inputs `[cells, rows, 64]`, targets `[cells, rows, 10]` and starts of all cells."""
    rows, width = (int(cells[0].number(name)) for name in ("rows", "width"))
    (images, labels), _ = digits((64,))
    inputs, targets, starts = [], [], []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("data", shared=(*UNSHARED, "width")))
        chosen = generator.permutation(len(labels))[:rows]
        picked, wanted = images[chosen].astype(np.float64), np.eye(10)[labels[chosen]]
        inputs.append(picked - picked.mean(0))
        targets.append(wanted - wanted.mean(0))
        generator = np.random.default_rng(cell.seed_for("start", shared=(*UNSHARED, "rows")))
        ends, layers = (64, width, width, 10), {}
        for layer in (1, 2, 3):
            shape = ends[layer - 1], ends[layer]
            layers[f"w{layer}"] = SCALE * generator.standard_normal(shape) / shape[0] ** 0.5
            layers[f"b{layer}"] = np.zeros(shape[1])
        starts.append(layers)
    stacked = {name: torch.from_numpy(np.stack([s[name] for s in starts])) for name in starts[0]}
    return torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets)), stacked


def watched(cells: Sequence[Cell]) -> Watched:
    """Train the networks of a group, and watch sharpness and loss over all rows.

    The cells agree in all parameters but step size and momentum.
    """
    first, steps = cells[0], int(cells[0].number("steps"))
    inputs, targets, start = _drawn(cells)
    fixed: Stacked = {}
    if first.parameters["trained"] == "last-layer":
        fixed = {name: start.pop(name) for name in list(start) if not name.endswith("3")}
    few = first.parameters["batch"] == "few"

    def objective(own: Stacked, constants: Stacked) -> Tensor:
        x, y = constants["inputs"], constants["targets"]
        return loss(forward({**own, **constants}, x), y)

    data = {**fixed, "inputs": inputs, "targets": targets}
    early = np.linspace(0, steps // 2, LATE // 2, endpoint=False)
    planned = np.unique([*early.astype(int), *np.linspace(steps // 2, steps, LATE).astype(int)])
    result = train_ensemble(
        forward,
        start,
        inputs,
        targets,
        loss,
        Optimization(
            "momentum",
            torch.tensor([cell.number("rate") for cell in cells]),
            momentum=torch.tensor([cell.number("momentum") for cell in cells]),
        ),
        steps=steps,
        record={"sharpness": lambda now: sharpness_of(objective, dict(now), data)},
        schedule=planned.tolist(),
        batch=FEW if few else None,
        seeds=[cell.seed_for("order") for cell in cells] if few else None,
        per_member=("inputs", "targets"),
        constants=fixed,
    )
    tables = (result.records[name].transpose("member", "step") for name in ("sharpness", "loss"))
    return Watched(planned, *(np.asarray(table.values) for table in tables))
