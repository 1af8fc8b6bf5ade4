"""What a channel of a network is made of, as an expression, and the groups that share a width.

A channel is an output feature of a linear layer or an output channel of a convolution. What is
computed from it channel by channel (normalization, activation, pooling, depthwise convolution, sums
and products with channels of other layers) is written as a tree of nodes; every layer that reads it
says at which node. A node has entries, each of one channel; nodes of several layers may be joined
(concatenation), and entries of a node selected (a split).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["linear", "transposed", "convolution", "transposed convolution"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One call of a linear map whose weights are parameters of the network.

    Attributes:
        path: dotted name of the module that owns the weight (foreign text).
        weight: name of the weight among the parameters.
        bias: name of the bias, or None.
        kind: how the weight lies: `[out, in]`, `[in, out]`, `[out, in, *kernel]`, or
            `[in, out, *kernel]`.
        padded: whether zeros stand beside its inputs.
        source: what it reads, where that is followed.
        outputs: in a group: `[outputs]`, the unit that each output is of, -1 for another group's.

    """

    path: str
    weight: str
    bias: str | None
    kind: Kind
    padded: bool = False
    source: Read | None = None
    outputs: Tensor | None = None

    @property
    def turned(self) -> bool:
        """Whether inputs come before outputs in the weight."""
        return self.kind.startswith("transposed")

    @property
    def out_axis(self) -> int:
        """Axis of the weight along which outputs lie."""
        return 1 if self.turned else 0

    @property
    def in_axis(self) -> int:
        """Axis of the weight along which inputs lie."""
        return 0 if self.turned else 1


@dataclass(frozen=True, eq=False)
class Read:
    """What a layer reads.

    Attributes:
        node: the expression of what is read.
        columns: `[inputs]`, the entry of the node that each input feature of the layer belongs to.
            In a group entries are units, and features of others have -1.

    """

    node: Node
    columns: Tensor


@dataclass(frozen=True, eq=False)
class Entries:
    """Numbers of a parameter, one for each entry of a node.

    Attributes:
        name: of the parameter or buffer.
        places: `[entries]`, along the one axis on which its numbers lie.

    """

    name: str
    places: Tensor


@dataclass(frozen=True, eq=False)
class Produced:
    """What a layer returns."""

    layer: Layer


@dataclass(frozen=True, eq=False)
class Normalized:
    """Batch normalization in evaluation mode."""

    child: Node
    mean: Entries
    variance: Entries
    weight: Entries | None
    bias: Entries | None
    epsilon: float


@dataclass(frozen=True, eq=False)
class Scaled:
    """Multiplied by a number, or by one number of a parameter for each entry."""

    child: Node
    factor: float | Entries


@dataclass(frozen=True, eq=False)
class Shifted:
    """A number, or one number of a parameter for each entry, added."""

    child: Node
    shift: float | Entries


@dataclass(frozen=True, eq=False)
class Activated:
    """An activation function, element by element.

    Attributes:
        child: what enters.
        name: name of the function; `relu` also for `clamp(min=0)`.
        function: the function with its settings bound; never writes into its argument.
        slope: one slope for each entry (PReLU), or None.

    """

    child: Node
    name: str
    function: Callable[[Tensor], Tensor]
    slope: Entries | None = None


@dataclass(frozen=True, eq=False)
class Pooled:
    """Positions combined, each channel for itself: the largest or a weighted mean.

    Attributes:
        child: what is pooled.
        largest: whether it is the largest; otherwise a combination with weights above zero.
        padded: whether zeros are put beside it, so that a constant does not stay one.

    """

    child: Node
    largest: bool
    padded: bool


@dataclass(frozen=True, eq=False)
class Filtered:
    """A depthwise convolution: every entry is convolved with a kernel of its own.

    Attributes:
        child: what is read, one entry for each that is returned.
        weight: the kernels, along the first axis of the parameter.
        bias: added, or None.
        padded: whether zeros stand beside what is read.

    """

    child: Node
    weight: Entries
    bias: Entries | None
    padded: bool


@dataclass(frozen=True, eq=False)
class Summed:
    """The same channel of several expressions, added."""

    children: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Multiplied:
    """The same channel of two expressions, multiplied (gated networks)."""

    children: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Selected:
    """Some entries of an expression, in another order; made by `selected`."""

    child: Node
    index: Tensor


@dataclass(frozen=True, eq=False)
class Joined:
    """The entries of several expressions, one after the other.

    Attributes:
        children: the expressions.
        sizes: number of entries of each.

    """

    children: tuple[Node, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Unfollowed:
    """Something joined with channels of which nothing is known; one entry stands for all."""


Node = (
    Produced
    | Normalized
    | Scaled
    | Shifted
    | Activated
    | Pooled
    | Filtered
    | Summed
    | Multiplied
    | Selected
    | Joined
    | Unfollowed
)


@dataclass(frozen=True, eq=False)
class Vector:
    """A parameter or buffer with numbers for every unit.

    Attributes:
        name: of the parameter or buffer.
        axis: along which its entries lie.
        units: `[size of that axis]`, the unit each entry is of, -1 for another group's.

    """

    name: str
    axis: int
    units: Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """Units that are removed alike: each is one channel, or several that can only go together.

    Attributes:
        width: number of units.
        producers: layers whose outputs they are; several where layers write into one stream.
        readers: layers that read them, each with its `source`; a layer stands here once for each
            entry of a unit that it reads.
        vectors: parameters and buffers with entries for each unit.
        refusal: why the units are left alone, a clause, or None.
        part: where the channels of one layer are of several groups, which this is, from 1; else 0.

    """

    width: int
    producers: tuple[Layer, ...]
    readers: tuple[Layer, ...]
    vectors: tuple[Vector, ...]
    refusal: str | None = None
    part: int = 0

    @property
    def path(self) -> str:
        """Name of the group, that of the first layer that makes its channels (foreign text)."""
        return self.producers[0].path + (f" (part {self.part})" if self.part else "")

    def refused(self, reason: str) -> Group:
        """Return the group left alone for a reason."""
        return replace(self, refusal=self.refusal or reason)

    @property
    def least(self) -> int:
        """How many units stay at least.

        A depthwise convolution of one channel could no longer be told from any other.
        """
        reads = (layer.source.node for layer in self.readers if layer.source is not None)
        return 2 if any(isinstance(node, Filtered) for read in reads for node in walk(read)) else 1

    @property
    def whole(self) -> bool:
        """Whether its units are the outputs of one layer, all of them and in their order."""
        if len(self.producers) != 1:
            return False
        outputs = self.producers[0].outputs
        return outputs is not None and torch.equal(outputs, torch.arange(self.width))


def children_of(node: Node) -> tuple[Node, ...]:
    """Return what a node is computed from."""
    if isinstance(node, Produced | Unfollowed):
        return ()
    return node.children if isinstance(node, Summed | Multiplied | Joined) else (node.child,)


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything below it, each once."""
    seen: set[Node] = set()
    left = [node]
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            yield one
            left.extend(reversed(children_of(one)))


def mapped(node: Node, make: Callable[[Node, slice], Node]) -> Node:
    """Apply what treats entries alone to a node; of joined ones to each for itself.

    Args:
        node: the expression.
        make: of a node and of the places of its entries among all.

    """
    if isinstance(node, Unfollowed):
        return node
    if not isinstance(node, Joined):
        return make(node, slice(None))
    made, start = [], 0
    for child, size in zip(node.children, node.sizes, strict=True):
        places = slice(start, start + size)
        made.append(child if isinstance(child, Unfollowed) else make(child, places))
        start += size
    return Joined(tuple(made), node.sizes)


def selected(node: Node, index: Tensor, size: int) -> Node:
    """Return some entries of a node of `size` entries, in the simplest form."""
    if isinstance(node, Unfollowed) or torch.equal(index, torch.arange(size)):
        return node
    if isinstance(node, Selected):
        return Selected(node.child, node.index[index])
    if isinstance(node, Joined) and len(index):
        start = 0
        for child, width in zip(node.children, node.sizes, strict=True):
            if start <= int(index.min()) and int(index.max()) < start + width:
                return selected(child, index - start, width)
            start += width
    return Selected(node, index)
