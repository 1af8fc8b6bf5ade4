"""Which parameters of a network share which channels, seen while it runs.

Functions of torch are watched on a small batch. A tensor that holds channels carries a label for
every element; what keeps channels apart is followed, a linear map with parameters of the network
reads them, and anything else leaves them alone, with the reason. Assumes that the course of the
forward does not depend on the values of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from whynet.models.channel_functions import (
    COMBINING,
    LAYERS,
    LOOKS,
    NEGATIONS,
    Combination,
    layer_of_call,
    pooling_of_call,
)
from whynet.models.channel_nodes import (
    Activated,
    Group,
    Layer,
    Multiplied,
    Node,
    Normalized,
    Pooled,
    Produced,
    Read,
    Scaled,
    Shifted,
    Summed,
    walk,
)
from whynet.models.torch_functions import ACTIVATIONS, INDEXING, NORMS, SAME, SHAPES, labels_along


@dataclass(frozen=True)
class _Held:
    """A tensor that holds channels: their expression, group, and a label an element."""

    node: Node
    group: int
    labels: Tensor


@dataclass
class _Gathered:
    """What is known of the groups while the network runs."""

    widths: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    producers: list[tuple[int, Layer]] = field(default_factory=list)
    readers: list[tuple[int, Layer]] = field(default_factory=list)
    vectors: list[tuple[int, str]] = field(default_factory=list)
    refusals: list[tuple[int, str]] = field(default_factory=list)

    def opened(self, width: int) -> int:
        self.widths.append(width)
        self.parents.append(len(self.parents))
        return len(self.parents) - 1

    def root(self, group: int) -> int:
        while self.parents[group] != group:
            group = self.parents[group]
        return group

    def joined(self, groups: Sequence[int]) -> int:
        first = min(self.root(group) for group in groups)
        for group in groups:
            self.parents[self.root(group)] = first
        return first

    def groups(self) -> tuple[Group, ...]:
        found = []
        for root in sorted({self.root(g) for g in range(len(self.parents))}):
            producers = [layer for group, layer in self.producers if self.root(group) == root]
            readers = [layer for group, layer in self.readers if self.root(group) == root]
            vectors = [name for group, name in self.vectors if self.root(group) == root]
            refusals = [reason for group, reason in self.refusals if self.root(group) == root]
            refusal = refusals[0] if refusals else None
            if refusal is None and not readers:
                refusal = "nothing was seen to read them"
            names = tuple(dict.fromkeys(vectors))
            found.append(Group(self.widths[root], tuple(producers), tuple(readers), names, refusal))
        return tuple(found)


def channel_groups(module: nn.Module, run: Callable[[], Any]) -> tuple[Group, ...]:
    """Find the groups of channels of a network, in the order in which they are made.

    Args:
        module: in evaluation mode; not changed.
        run: calls it once on a small batch (two examples are enough) and returns its output.

    Returns:
        All groups, also those that are left alone; each says why.

    Cost: one forward pass, and int32 labels of the size of the activations.

    """
    mode = _Watching(module)
    with torch.no_grad(), mode:
        output = run()
    return mode.finished(output)


class _Watching(TorchFunctionMode):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._held: MutableMapping[Tensor, _Held] = WeakTensorKeyDictionary()
        self._names: dict[int, str] = {}
        named = (*module.named_parameters(), *module.named_buffers())
        for name, tensor in named:
            self._names.setdefault(id(tensor), name)
        self._uses: dict[str, int] = {}
        self._gathered = _Gathered()

    def finished(self, output: Any) -> tuple[Group, ...]:
        for held in self._among((output,), {}):
            self._refuse(held, "they are the network's own output")
        groups = self._gathered.groups()
        return tuple(_without_ties(group, self._uses) for group in groups)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        held = {id(tensor): found for tensor, found in self._tensors(args, kwargs)}
        if func not in LOOKS:
            for tensor in _flat((args, kwargs)):
                if id(tensor) in self._names:
                    name = self._names[id(tensor)]
                    self._uses[name] = self._uses.get(name, 0) + 1
        result = func(*args, **kwargs)
        if func in LAYERS:
            self._layer(func, args, kwargs, held, result)
        elif held and func not in LOOKS:
            self._follow(func, args, kwargs, held, result)
        return result

    def _tensors(self, args: Any, kwargs: Any) -> list[tuple[Tensor, _Held]]:
        return [(t, self._held[t]) for t in _flat((args, kwargs)) if t in self._held]

    def _among(self, args: Any, kwargs: Any) -> list[_Held]:
        return [held for _, held in self._tensors(args, kwargs)]

    def _refuse(self, held: _Held, reason: str) -> None:
        self._gathered.refusals.append((held.group, reason))

    def _layer(
        self, func: Any, args: Any, kwargs: Any, held: Mapping[int, _Held], result: Any
    ) -> None:
        call = layer_of_call(func, args, kwargs, self._names)
        source = held.get(id(call.inputs))
        beside = [other for key, other in held.items() if key != id(call.inputs)]
        if isinstance(call.layer, str):
            for other in held.values():
                self._refuse(other, call.layer)
            return
        for other in beside:
            self._refuse(other, f"they are weights of `{call.layer.path}`")
        layer = call.layer
        if source is not None:
            columns = along(source.labels, call.axis)
            if columns is None:
                self._refuse(source, f"`{layer.path}` mixes them with other axes")
            else:
                layer = replace(layer, source=Read(source.node, columns))
                self._gathered.readers.append((source.group, layer))
        width = result.shape[call.out_axis]
        group = self._gathered.opened(width)
        self._gathered.producers.append((group, layer))
        labels = labels_along(call.out_axis % result.ndim, result)
        self._held[result] = _Held(Produced(layer), group, labels)

    def _follow(
        self, func: Any, args: Any, kwargs: Any, held: Mapping[int, _Held], result: Any
    ) -> None:
        source = args[0] if args else kwargs.get("input")
        one = held.get(id(source))
        rest = (args[1:], {k: v for k, v in kwargs.items() if k != "input"})
        made: _Held | str | None = None
        if func in COMBINING:
            made = self._combine(COMBINING[func], args, kwargs, held, result)
        elif one is not None and isinstance(result, Tensor):
            made = self._unary(func, one, source, rest, result)
        if isinstance(made, _Held):
            self._held[result] = made
            return
        name = getattr(func, "__name__", "an operation").strip("_")
        for other in held.values():
            self._refuse(other, made or f"{name} reads them, which is not followed")
        for tensor in _flat((result,)):  # written in place by something that is not followed
            self._held.pop(tensor, None)

    def _unary(
        self, func: Any, held: _Held, source: Tensor, rest: Any, result: Tensor
    ) -> _Held | str | None:
        args, kwargs = rest
        if func in ACTIVATIONS and result.shape == source.shape:
            return self._activate(func, held, args, kwargs)
        if func in SAME and result.shape == source.shape:
            return held
        if func in SHAPES or func in INDEXING:
            return replace(held, labels=func(held.labels, *args, **kwargs))
        if func in NORMS:
            return self._normalize(held, args, kwargs)
        if func in NEGATIONS:
            return replace(held, node=Scaled(held.node, -1.0))
        pooling = pooling_of_call(func, args, kwargs, source, held.labels, result)
        if pooling is None or isinstance(pooling, str):
            return pooling
        largest, padded, labels = pooling
        return replace(held, node=Pooled(held.node, largest, padded), labels=labels)

    def _activate(self, func: Any, held: _Held, args: Any, kwargs: Any) -> _Held | str:
        name, slope = ACTIVATIONS[func], None
        if name in ("clamp", "clamp_min"):
            low = kwargs.get("min", args[0] if args else None)
            high = kwargs.get("max", args[1] if len(args) > 1 else None)
            name = "relu" if low == 0 and high is None and not isinstance(low, Tensor) else name
        if any(t in self._held for t in _flat((args, kwargs))):
            return f"a bound of {name} depends on the input"
        if name == "prelu":
            weight = kwargs.get("weight", args[0] if args else None)
            if weight is not None and weight.numel() > 1:
                slope = self._names.get(id(weight))
                if slope is None or along(held.labels, min(1, held.labels.ndim - 1)) is None:
                    return "the slopes of its PReLU are computed"
                self._gathered.vectors.append((held.group, slope))

        def function(values: Tensor) -> Tensor:
            result: Tensor = func(values.clone(), *args, **kwargs)
            return result

        return replace(held, node=Activated(held.node, name, function, slope))

    def _normalize(self, held: _Held, args: Any, kwargs: Any) -> _Held | str:
        words = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(words, args, strict=False)) | dict(kwargs)
        names = [
            None if given.get(word) is None else self._names.get(id(given[word]), "")
            for word in words[:4]
        ]
        mean, variance, weight, bias = names
        if given.get("training") or not mean or not variance or "" in names:
            return "its batch normalization uses statistics of the batch"
        if along(held.labels, min(1, held.labels.ndim - 1)) is None:
            return "batch normalization runs along another axis"
        self._gathered.vectors += [(held.group, name) for name in names if name]
        node = Normalized(held.node, mean, variance, weight, bias, given.get("eps", 1e-5))
        return replace(held, node=node)

    def _combine(
        self, how: Combination, args: Any, kwargs: Any, held: Mapping[int, _Held], result: Any
    ) -> _Held | str:
        if len(args) != 2 or kwargs.get("alpha", 1) != 1 or kwargs.get("rounding_mode"):
            return f"{how.name} with further arguments reads them"
        args = args[::-1] if how.swapped else args
        sides = [held.get(id(argument)) for argument in args]
        if sides[0] is not None and sides[1] is not None:
            return self._both(how, sides[0], sides[1], result)
        place = 0 if sides[0] is not None else 1
        mine, other = sides[place], args[1 - place]
        assert mine is not None
        if mine.labels.shape != result.shape:
            return f"{how.name} spreads them over further axes"
        if how.name == "divide" and place == 1:
            return "something is divided by them"
        constant: float | str
        if isinstance(other, int | float) and not isinstance(other, bool):
            constant = float(other)
        elif isinstance(other, Tensor) and other.numel() == 1 and id(other) not in self._names:
            return f"{how.name} with a computed number reads them"
        else:
            name = self._vector(mine, other)
            if name is None or how.name == "divide":
                return f"{how.name} joins them with something whose channels are not followed"
            constant = name
        return replace(mine, node=_with_constant(how, mine.node, constant, place))

    def _vector(self, mine: _Held, other: Any) -> str | None:
        """Return the name of a parameter with one entry a channel."""
        name = self._names.get(id(other))
        width = self._gathered.widths[mine.group]
        if name is None or other.numel() != width or other.ndim > mine.labels.ndim:
            return None
        numbers = torch.arange(width, dtype=torch.int32).reshape(other.shape)
        if not torch.equal(numbers.expand_as(mine.labels), mine.labels):
            return None
        self._gathered.vectors.append((mine.group, name))
        return name

    def _both(self, how: Combination, one: _Held, two: _Held, result: Any) -> _Held | str:
        if how.name == "divide":
            return "they are divided by each other"
        widths = self._gathered.widths
        if widths[one.group] != widths[two.group]:
            return f"{how.name} joins them with channels of another layer of another width"
        labels, others = one.labels.expand(result.shape), two.labels.expand(result.shape)
        if not torch.equal(labels, others):
            return f"{how.name} joins different channels"
        group = self._gathered.joined((one.group, two.group))
        if how.name == "multiply":
            return _Held(Multiplied((one.node, two.node)), group, labels)
        second = Scaled(two.node, -1.0) if how.name == "subtract" else two.node
        return _Held(Summed((one.node, second)), group, labels)


def _with_constant(how: Combination, node: Node, constant: float | str, place: int) -> Node:
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


def along(labels: Tensor, axis: int) -> Tensor | None:
    """Return the labels along an axis where they are the same along all others, else None."""
    moved = labels.movedim(axis, -1).reshape(-1, labels.shape[axis])
    if moved.numel() == 0 or not torch.equal(moved, moved[:1].expand_as(moved)):
        return None
    return moved[0].clone()


def _flat(value: Any) -> list[Tensor]:
    """Return all tensors in nested containers."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for inner in value.values() for t in _flat(inner)]
    if isinstance(value, tuple | list):
        return [t for inner in value for t in _flat(inner)]
    held = vars(value) if hasattr(value, "__dataclass_fields__") else None
    return _flat(held) if held else []


def _without_ties(group: Group, uses: Mapping[str, int]) -> Group:
    """Leave a group alone where a parameter that would be cut is used more than once."""
    layers = (*group.producers, *group.readers)
    names = {layer.weight for layer in layers} | {*group.vectors}
    names |= {layer.bias for layer in group.producers if layer.bias is not None}
    tied = sorted(name for name in names if uses.get(name, 0) > 1)
    return group.refused(f"`{tied[0]}` is used more than once") if tied else group


def reads_of(group: Group) -> tuple[Node, ...]:
    """Return the distinct nodes at which a group is read."""
    return tuple(dict.fromkeys(layer.source.node for layer in group.readers if layer.source))


def is_simple(group: Group) -> bool:
    """Whether one layer alone makes the channels, and no other enters any expression of them."""
    kinds = [node for read in reads_of(group) for node in walk(read)]
    return len(group.producers) == 1 and not any(
        isinstance(node, Summed | Multiplied) for node in kinds
    )
