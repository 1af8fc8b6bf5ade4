"""What a channel of a network is made of, as an expression, and the groups that share a width.

A channel is an output feature of a linear layer or an output channel of a convolution. What is
computed from it channel by channel (normalization, activation, pooling, sums and products with
the same channel of other layers) is written as a tree of nodes; every layer that reads it says
at which node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

Kind = Literal["linear", "transposed", "convolution"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One call of a linear map whose weights are parameters of the network.

    Attributes:
        path: dotted name of the module that owns the weight (foreign text).
        weight: name of the weight among the parameters.
        bias: name of the bias, or None.
        kind: how the weight lies: `[out, in]`, `[in, out]`, or `[out, in, *kernel]`.
        padded: whether zeros stand beside its inputs.
        source: what it reads, where that is followed.

    """

    path: str
    weight: str
    bias: str | None
    kind: Kind
    padded: bool = False
    source: Read | None = None


@dataclass(frozen=True, eq=False)
class Read:
    """What a layer reads.

    Attributes:
        node: the expression of a channel where it is read.
        columns: `[inputs]`, the channel that each input feature of the layer belongs to.

    """

    node: Node
    columns: Tensor


@dataclass(frozen=True, eq=False)
class Produced:
    """What a layer returns."""

    layer: Layer


@dataclass(frozen=True, eq=False)
class Normalized:
    """Batch normalization in evaluation mode; names of its parameters and statistics."""

    child: Node
    mean: str
    variance: str
    weight: str | None
    bias: str | None
    epsilon: float


@dataclass(frozen=True, eq=False)
class Scaled:
    """Multiplied by a number, or by one parameter a channel."""

    child: Node
    factor: float | str


@dataclass(frozen=True, eq=False)
class Shifted:
    """A number, or one parameter a channel, added."""

    child: Node
    shift: float | str


@dataclass(frozen=True, eq=False)
class Activated:
    """An activation function, element by element.

    Attributes:
        child: what enters.
        name: name of the function; `relu` also for `clamp(min=0)`.
        function: the function with its settings bound; never writes into its argument.
        slope: parameter with one slope a channel (PReLU), or None.

    """

    child: Node
    name: str
    function: Callable[[Tensor], Tensor]
    slope: str | None = None


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
class Summed:
    """The same channel of several expressions, added."""

    children: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Multiplied:
    """The same channel of two expressions, multiplied (gated networks)."""

    children: tuple[Node, ...]


Node = Produced | Normalized | Scaled | Shifted | Activated | Pooled | Summed | Multiplied


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that several parameters have in common, so that they are removed together.

    Attributes:
        width: number of channels.
        producers: layers whose outputs they are; several where layers write into one stream.
        readers: layers that read them, each with its `source`.
        vectors: names of parameters and buffers with one entry a channel.
        refusal: why the channels are left alone, a clause, or None.

    """

    width: int
    producers: tuple[Layer, ...]
    readers: tuple[Layer, ...]
    vectors: tuple[str, ...]
    refusal: str | None = None

    @property
    def path(self) -> str:
        """Dotted name of the first layer that makes the channels (foreign text)."""
        return self.producers[0].path

    def refused(self, reason: str) -> Group:
        """Return the group left alone for a reason."""
        return replace(self, refusal=self.refusal or reason)


def children_of(node: Node) -> tuple[Node, ...]:
    """Return what a node is computed from."""
    if isinstance(node, Produced):
        return ()
    return node.children if isinstance(node, Summed | Multiplied) else (node.child,)


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything below it."""
    yield node
    for child in children_of(node):
        yield from walk(child)
