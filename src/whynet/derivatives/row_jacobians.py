"""Jacobians of the outputs of rows with respect to some parameters, by plain differentiation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.utils._pytree import tree_leaves, tree_map

from whynet.models.fitting_rows import row_count
from whynet.models.subject import Subject

ACTIVITIES = 2**20
"""Numbers in the inputs of a chunk, times outputs, whose Jacobians are taken at once."""


def rows_of(inputs: Any, start: int, stop: int) -> Any:
    """Cut a batch of any structure to some of its rows."""
    return tree_map(lambda leaf: leaf[start:stop] if isinstance(leaf, Tensor) else leaf, inputs)


def batched_jacobian(subject: Subject, inputs: Any, names: tuple[str, ...]) -> Tensor:
    """Return Jacobians `[rows, outputs, parameters]` with respect to some parameters at once."""
    if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(inputs)):
        raise TypeError("inputs that are no tensors have no rows")

    def outputs(chosen: dict[str, Tensor], row: Any) -> Tensor:
        one = tree_map(lambda leaf: leaf[None], row)
        return subject.forward({**subject.parameters, **chosen}, one).reshape(-1)

    chosen = {name: subject.parameters[name] for name in names}
    rows, count = row_count(inputs), subject.forward(subject.parameters, rows_of(inputs, 0, 1))
    numbers = sum(leaf[0].numel() for leaf in tree_leaves(inputs)) * count.numel()
    chunk = max(1, min(64, ACTIVITIES // max(1, numbers)))
    blocks = []
    for start in range(0, rows, chunk):
        part = rows_of(inputs, start, start + chunk)
        found = vmap(jacrev(outputs), in_dims=(None, 0))(chosen, part)
        blocks.append(torch.cat([found[name].detach().flatten(2) for name in names], dim=2))
    return torch.cat(blocks)


def looped_jacobian(subject: Subject, inputs: Any, names: tuple[str, ...]) -> Tensor:
    """Return the same by plain autograd, one row and one output at a time."""
    rows = []
    for i in range(row_count(inputs)):
        chosen = {name: subject.parameters[name].clone().requires_grad_() for name in names}
        one = subject.forward({**subject.parameters, **chosen}, rows_of(inputs, i, i + 1))
        per_output = []
        for value in one.reshape(-1):
            parts = torch.autograd.grad(
                value, list(chosen.values()), retain_graph=True, materialize_grads=True
            )
            per_output.append(torch.cat([part.reshape(-1) for part in parts]))
        rows.append(torch.stack(per_output))
    return torch.stack(rows)
