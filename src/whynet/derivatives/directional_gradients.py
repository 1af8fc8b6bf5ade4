"""Parameter gradients of combinations of a row's outputs, dense layers kept as factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from whynet.derivatives.empirical_ntk import Gradients


def joined(parts: Sequence[Gradients]) -> Gradients:
    """Join gradients of several blocks of rows."""
    layers = range(len(parts[0].entering))
    return Gradients(
        tuple(torch.cat([part.entering[layer] for part in parts]) for layer in layers),
        tuple(torch.cat([part.returning[layer] for part in parts]) for layer in layers),
        torch.cat([part.rest for part in parts]),
    )


def on_cpu(found: Gradients) -> Gradients:
    """Bring gradients to the CPU."""
    return Gradients(
        tuple(part.cpu() for part in found.entering),
        tuple(part.cpu() for part in found.returning),
        found.rest.cpu(),
    )


def at_rows(found: Gradients, rows: Tensor) -> Gradients:
    """Return the gradients of some rows, which may repeat."""
    return Gradients(
        tuple(part[rows] for part in found.entering),
        tuple(part[rows] for part in found.returning),
        found.rest[rows],
    )


def along(found: Gradients, vectors: Tensor) -> Gradients:
    """Return the gradients of combinations of the outputs of each row.

    Args:
        found: gradients of n rows.
        vectors: `[n, combinations, outputs]`, the weights of the outputs.

    Returns:
        The same form, with the combinations in place of the outputs.

    """
    return Gradients(
        found.entering,
        tuple(vectors @ part for part in found.returning),
        vectors @ found.rest,
    )


def cross(left: Gradients, right: Gradients) -> Tensor:
    """Return inner products of all gradients of two blocks, `[n, c, m, d]`."""
    n, c, p = left.rest.shape
    m, d, _ = right.rest.shape
    total = (left.rest.reshape(n * c, p) @ right.rest.reshape(m * d, p).T).reshape(n, c, m, d)
    for a, b, u, v in zip(
        left.entering, right.entering, left.returning, right.returning, strict=True
    ):
        part = (u.reshape(n * c, -1) @ v.reshape(m * d, -1).T).reshape(n, c, m, d)
        total += part * (a @ b.T)[:, None, :, None]
    return total


def own_blocks(found: Gradients) -> Tensor:
    """Return inner products within each row only, `[n, c, c]`."""
    total = found.rest @ found.rest.transpose(1, 2)
    for entering, returning in zip(found.entering, found.returning, strict=True):
        part = returning @ returning.transpose(1, 2)
        total += part * entering.square().sum(1)[:, None, None]
    return total


def dense(found: Gradients) -> Tensor:
    """Write the gradients out, `[n, c, parameters]`."""
    parts = [
        (returning[:, :, :, None] * entering[:, None, None, :]).flatten(2)
        for entering, returning in zip(found.entering, found.returning, strict=True)
    ]
    return torch.cat([*parts, found.rest], dim=2)
