"""Inputs of one or several tensors that share their first axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Inputs = Tensor | dict[str, Tensor] | tuple[Tensor, ...]


@dataclass(frozen=True)
class Leaf:
    """The description of one tensor of a row, without the batch axis."""

    label: str
    dtype: torch.dtype
    shape: tuple[int, ...]


def leaves(tree: Any) -> list[tuple[str, Any]]:
    """Return the arrays of a structure with their labels; the sole one has the label `""`."""
    if isinstance(tree, Mapping):
        return [(str(key), value) for key, value in tree.items()]
    if isinstance(tree, tuple | list):
        return [(str(index), value) for index, value in enumerate(tree)]
    return [("", tree)]


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function to each array of a structure."""
    if isinstance(tree, Mapping):
        return {str(key): change(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(change(value) for value in tree)
    return change(tree)


def joined(trees: list[Any]) -> Any:
    """Concatenate structures of the same form along the first axis."""
    first = trees[0]
    if len(trees) == 1:
        return first
    if isinstance(first, dict):
        return {key: torch.cat([tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple):
        return tuple(torch.cat(parts) for parts in zip(*trees, strict=True))
    return torch.cat(trees)


def described(tree: Inputs) -> tuple[Leaf, ...]:
    """Describe the tensors of a batch."""
    return tuple(
        Leaf(label, tensor.dtype, tuple(tensor.shape[1:])) for label, tensor in leaves(tree)
    )


def is_cast_to_float(leaf: Leaf, alone: bool) -> bool:
    """Whether a tensor reaches the network in its precision, rather than as integers or flags.

    Floats do; so do bytes that are the sole input or an image (8 bits are how images are kept),
    and flags that are the sole input. Other integers are tokens, other flags are masks.
    """
    if leaf.dtype.is_floating_point:
        return True
    if leaf.dtype == torch.uint8:
        return alone or len(leaf.shape) >= 2
    return leaf.dtype == torch.bool and alone


def cast(tree: Inputs, dtype: torch.dtype | None, device: torch.device | str) -> Inputs:
    """Move a batch of inputs to a device, in the dtypes in which the network gets them.

    Args:
        tree: inputs as they are stored.
        dtype: precision of the network; None keeps floats as stored and gives bytes the default.
        device: where to put them.

    """
    alone = isinstance(tree, Tensor)

    def one(tensor: Tensor) -> Tensor:
        leaf = Leaf("", tensor.dtype, tuple(tensor.shape[1:]))
        target = torch.int64
        if is_cast_to_float(leaf, alone):
            kept = tensor.dtype if tensor.dtype.is_floating_point else torch.get_default_dtype()
            target = dtype or kept
        elif tensor.dtype == torch.bool:
            target = torch.bool
        return tensor.to(device=device, dtype=target)

    changed: Inputs = mapped(tree, one)
    return changed


def cast_targets(targets: Tensor, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    """Move targets to a device: floats in the network's precision, all else as int64."""
    if targets.is_floating_point():
        return targets.to(device=device, dtype=dtype or targets.dtype)
    return targets.to(device=device, dtype=torch.int64)
