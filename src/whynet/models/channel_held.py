"""A tensor that holds channels, and how two or more of them are brought together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from whynet.models.channel_functions import Combination
from whynet.models.channel_nodes import (
    Entries,
    Joined,
    Node,
    Scaled,
    Shifted,
    Unfollowed,
    selected,
)
from whynet.models.channel_units import NONE


@dataclass(frozen=True)
class Held:
    """A tensor that holds channels.

    Attributes:
        node: what they are, an expression of so many entries.
        channels: `[entries]`, the number of the channel of each, -1 where it is not followed.
        labels: in the shape of the tensor, the entry of each element.

    """

    node: Node
    channels: Tensor
    labels: Tensor

    def along(self, axis: int) -> Tensor | None:
        """Return the entries along an axis where they are the same along all others."""
        return along(self.labels, axis)

    def there(self) -> Tensor:
        """Return the entries that occur."""
        flat = torch.bincount(self.labels.reshape(-1), minlength=len(self.channels))
        return torch.nonzero(flat).reshape(-1)


def along(labels: Tensor, axis: int) -> Tensor | None:
    """Return the labels along an axis where they are the same along all others, else None."""
    moved = labels.movedim(axis, -1).reshape(-1, labels.shape[axis])
    if moved.numel() == 0 or not torch.equal(moved, moved[:1].expand_as(moved)):
        return None
    return moved[0].clone()


def unfollowed(tensor: Tensor) -> Held:
    """Return a tensor of which nothing is known as if it held one channel of no number."""
    labels = torch.zeros(tensor.shape, dtype=torch.int32)
    return Held(Unfollowed(), torch.tensor([NONE]), labels)


def joined(sides: Sequence[Held], put: Callable[[list[Tensor]], Tensor]) -> Held:
    """Put the entries of several tensors one after the other.

    Args:
        sides: the tensors; one that stands twice has its entries once.
        put: joins their labels as the tensors were joined.

    """
    nodes: list[Node] = []
    sizes: list[int] = []
    channels: list[Tensor] = []
    starts: dict[Node, int] = {}
    for held in sides:
        if held.node in starts:
            continue
        starts[held.node] = sum(sizes)
        nodes += held.node.children if isinstance(held.node, Joined) else [held.node]
        sizes += held.node.sizes if isinstance(held.node, Joined) else [len(held.channels)]
        channels.append(held.channels)
    labels = put([held.labels + starts[held.node] for held in sides])
    node = nodes[0] if len(nodes) == 1 else Joined(tuple(nodes), tuple(sizes))
    return Held(node, torch.cat(channels), labels)


def aligned(one: Held, two: Held, shape: torch.Size) -> tuple[Held, Held] | None:
    """Return both with entries in one order, or None where channels meet others of their own."""
    labels, others = one.labels.expand(shape).long(), two.labels.expand(shape).long()
    size = len(two.channels)
    pairs, places = torch.unique(labels * size + others, return_inverse=True)
    first, second = pairs // size, pairs % size
    if len(torch.unique(first)) < len(first) or len(torch.unique(second)) < len(second):
        return None
    made = []
    for held, index in ((one, first), (two, second)):
        node = selected(held.node, index, len(held.channels))
        made.append(Held(node, held.channels[index], places.to(torch.int32)))
    left, right = (held.channels for held in made)
    # A channel meets itself, or one that is nowhere on the other side.
    if not torch.equal(left, right) and bool(torch.isin(left[left != NONE], right).any()):
        return None
    return made[0], made[1]


def part_of(entries: Entries | None, places: slice) -> Entries | None:
    """Return the numbers of some of the entries."""
    return None if entries is None else replace(entries, places=entries.places[places])


def with_constant(how: Combination, node: Node, constant: float | Entries, place: int) -> Node:
    """Return a channel combined with a number or a parameter; `place` is where the channel is."""
    if how.name == "multiply":
        return Scaled(node, constant)
    if how.name == "divide":
        assert isinstance(constant, float)
        return Scaled(node, 1 / constant)
    if how.name == "subtract":
        if place == 1:
            return Shifted(Scaled(node, -1.0), constant)
        return Scaled(Shifted(Scaled(node, -1.0), constant), -1.0)
    return Shifted(node, constant)


def tensors_in(value: Any) -> list[Tensor]:
    """Return all tensors in nested containers."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for inner in value.values() for t in tensors_in(inner)]
    if isinstance(value, tuple | list):
        return [t for inner in value for t in tensors_in(inner)]
    held = vars(value) if hasattr(value, "__dataclass_fields__") else None
    return tensors_in(held) if held else []
