"""Which parameters of a network share which channels, seen while it runs.

Functions of torch are watched on a small batch. A tensor that holds channels carries a label for
every element; what keeps channels apart is followed, a linear map with parameters of the network
reads them, and anything else leaves them alone, with the reason. Channels of several layers may be
concatenated, those of one layer split. Assumes that the course of the forward does not depend on
the values of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from whynet.models.channel_functions import (
    COMBINING,
    JOINING,
    LAYERS,
    LOOKS,
    NEGATIONS,
    SPLITTING,
    Combination,
    LayerCall,
    layer_of_call,
    pooling_of_call,
    refusal_of,
)
from whynet.models.channel_held import (
    Held,
    aligned,
    joined,
    part_of,
    tensors_in,
    unfollowed,
    with_constant,
)
from whynet.models.channel_nodes import (
    Activated,
    Entries,
    Filtered,
    Group,
    Joined,
    Layer,
    Multiplied,
    Node,
    Normalized,
    Pooled,
    Produced,
    Read,
    Scaled,
    Selected,
    Summed,
    mapped,
    selected,
    walk,
)
from whynet.models.channel_units import NONE, Gathered
from whynet.models.pieced_activations import whole_activations
from whynet.models.torch_functions import ACTIVATIONS, INDEXING, NORMS, SAME, SHAPES, labels_along


def channel_groups(module: nn.Module, run: Callable[[], Any]) -> tuple[Group, ...]:
    """Return all groups of channels in the order they are made; what is left alone says why.

    Args:
        module: in evaluation mode; not changed.
        run: calls it once on a small batch (two examples are enough) and returns its output.

    Cost: one forward pass, and int32 labels of the size of the activations.

    """
    mode = Watching(module)
    with torch.no_grad(), whole_activations(module, mode.whole), mode:
        output = run()
    return mode.finished(output)


class Watching(TorchFunctionMode):
    """Follows channels through functions of torch while a network runs inside it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._held: MutableMapping[Tensor, Held] = WeakTensorKeyDictionary()
        self._names: dict[int, str] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._names.setdefault(id(tensor), name)
        self._uses: dict[str, int] = {}
        self.gathered = Gathered()

    def finished(self, output: Any) -> tuple[Group, ...]:
        """Return the groups, once the network has returned its output."""
        for held in self._among((output,), {}):
            self._refuse(held, "they are the network's own output")
        return self.gathered.groups(self._uses)

    def whole(self, name: str, child: nn.Module, source: Tensor, result: Tensor) -> None:
        """Follow an activation that is written in pieces."""
        if (held := self.held(source)) is not None:
            self._held[result] = self._activate_by(held, name, child, None)

    def held(self, tensor: Any) -> Held | None:
        """Return what channels a tensor holds, or None."""
        return self._held.get(tensor) if isinstance(tensor, Tensor) else None

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
            for tensor in tensors_in((args, kwargs)):
                if id(tensor) in self._names:
                    name = self._names[id(tensor)]
                    self._uses[name] = self._uses.get(name, 0) + 1
        result = func(*args, **kwargs)
        if func in LAYERS:
            self._layer(func, args, kwargs, held, result)
        elif held and func not in LOOKS:
            self._follow(func, args, kwargs, held, result)
        return result

    def _tensors(self, args: Any, kwargs: Any) -> list[tuple[Tensor, Held]]:
        return [(t, self._held[t]) for t in tensors_in((args, kwargs)) if t in self._held]

    def _among(self, args: Any, kwargs: Any) -> list[Held]:
        return [held for _, held in self._tensors(args, kwargs)]

    def _refuse(self, held: Held, reason: str) -> None:
        self.gathered.refusals.append((held.channels[held.there()], reason))

    def _layer(
        self, func: Any, args: Any, kwargs: Any, held: Mapping[int, Held], result: Any
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
        if call.groups > 1:
            self._grouped(call, source, result)
            return
        layer = call.layer
        if source is not None:
            columns = source.along(call.axis)
            if columns is None:
                self._refuse(source, f"`{layer.path}` mixes them with other axes")
            else:
                layer = replace(layer, source=Read(source.node, columns))
                self.gathered.readers.append((layer, source.node, columns, source.channels))
        self._made(layer, call, result)

    def _made(self, layer: Layer, call: LayerCall, result: Tensor) -> Held:
        channels = self.gathered.opened(layer, result.shape[call.out_axis])
        labels = labels_along(call.out_axis % result.ndim, result).cpu()
        made = self._held[result] = Held(Produced(layer), channels, labels)
        return made

    def _grouped(self, call: LayerCall, source: Held | None, result: Tensor) -> None:
        """Follow a depthwise convolution; leave what another one reads and returns alone."""
        layer = call.layer
        assert isinstance(layer, Layer)
        entries = None if source is None else source.along(call.axis)
        if source is None or entries is None or len(entries) != call.groups:
            reason = f"`{layer.path}` convolves several of them at a time, in groups of one width"
            if source is not None:
                self._refuse(source, reason)
            made = self._made(layer, call, result)
            self._refuse(made, "their convolution has groups that must stay of one width")
            return
        width = result.shape[call.out_axis]
        index = entries.long().repeat_interleave(width // call.groups)
        places = torch.arange(width)
        bias = None if layer.bias is None else Entries(layer.bias, places)
        node = selected(source.node, index, len(source.channels))
        channels = source.channels[index]
        for name in (layer.weight, layer.bias):
            if name is not None:
                self.gathered.vectors.append((name, 0, channels))
        node = Filtered(node, Entries(layer.weight, places), bias, layer.padded)
        labels = labels_along(call.out_axis % result.ndim, result).cpu()
        self._held[result] = Held(node, channels, labels)

    def _follow(
        self, func: Any, args: Any, kwargs: Any, held: Mapping[int, Held], result: Any
    ) -> None:
        source = args[0] if args else kwargs.get("input")
        one = held.get(id(source))
        rest = (args[1:], {k: v for k, v in kwargs.items() if k != "input"})
        made: Held | str | None = None
        if func in COMBINING:
            made = self._combine(COMBINING[func], args, kwargs, held, result)
        elif func in JOINING:
            made = self._join(func, source, rest)
        elif one is not None and func in SPLITTING:
            pieces = func(one.labels, *rest[0], **rest[1])
            for piece, labels in zip(result, pieces, strict=True):
                self._held[piece] = replace(one, labels=labels)
            return
        elif one is not None and isinstance(result, Tensor):
            made = self._unary(func, one, source, rest, result)
        if isinstance(made, Held):
            self._held[result] = made
            return
        for other in held.values():
            self._refuse(other, made or refusal_of(func))
        for tensor in tensors_in((result,)):  # written in place by something that is not followed
            self._held.pop(tensor, None)

    def _join(self, func: Any, tensors: Any, rest: Any) -> Held | str | None:
        """Put the entries of several tensors one after the other."""
        if not isinstance(tensors, tuple | list):
            return None
        sides = [self._held.get(t) or unfollowed(t) for t in tensors]
        return joined(sides, lambda labels: func(labels, *rest[0], **rest[1]))

    def _unary(
        self, func: Any, held: Held, source: Tensor, rest: Any, result: Tensor
    ) -> Held | str | None:
        args, kwargs = rest
        if func in ACTIVATIONS and result.shape == source.shape:
            return self._activate(func, held, args, kwargs)
        if func in SAME and result.shape == source.shape:
            return held
        if func in SHAPES or func in INDEXING:
            return replace(held, labels=func(held.labels, *args, **kwargs))
        if func in NORMS:
            return self._normalize(held, args, kwargs)
        if func is functional.glu:
            axis = kwargs.get("dim", args[0] if args else -1)
            values, gates = (replace(held, labels=part) for part in held.labels.chunk(2, axis))
            gates = self._activate_by(gates, "sigmoid", torch.sigmoid, None)
            return self._both(Combination("multiply"), values, gates, result)
        if func in NEGATIONS:
            return replace(held, node=mapped(held.node, lambda node, _: Scaled(node, -1.0)))
        pooling = pooling_of_call(func, args, kwargs, source, held.labels, result)
        if pooling is None or isinstance(pooling, str):
            return pooling
        largest, padded, labels = pooling
        node = mapped(held.node, lambda node, _: Pooled(node, largest, padded))
        return replace(held, node=node, labels=labels)

    def _entries(self, held: Held, name: str, entries: Tensor | None, axis: int) -> Entries | None:
        """Return the numbers of a parameter, given the entry that each place of it belongs to."""
        if entries is None or len(torch.unique(entries)) < len(entries):
            return None
        places = torch.zeros(len(held.channels), dtype=torch.long)
        places[entries.long()] = torch.arange(len(entries))
        self.gathered.vectors.append((name, axis, held.channels[entries.long()]))
        return Entries(name, places)

    def _activate(self, func: Any, held: Held, args: Any, kwargs: Any) -> Held | str:
        name, slope = ACTIVATIONS[func], None
        if name in ("clamp", "clamp_min"):
            low = kwargs.get("min", args[0] if args else None)
            high = kwargs.get("max", args[1] if len(args) > 1 else None)
            name = "relu" if low == 0 and high is None and not isinstance(low, Tensor) else name
        if any(t in self._held for t in tensors_in((args, kwargs))):
            return f"a bound of {name} depends on the input"
        if name == "prelu":
            weight = kwargs.get("weight", args[0] if args else None)
            if weight is not None and weight.numel() > 1:
                path = self._names.get(id(weight), "")
                entries = held.along(min(1, held.labels.ndim - 1))
                slope = self._entries(held, path, entries, 0) if path else None
                if slope is None:
                    return "the slopes of its PReLU are computed"

        def function(values: Tensor) -> Tensor:
            result: Tensor = func(values.clone(), *args, **kwargs)
            return result

        return self._activate_by(held, name, function, slope)

    @staticmethod
    def _activate_by(
        held: Held, name: str, function: Callable[[Tensor], Tensor], slope: Entries | None
    ) -> Held:
        def make(node: Node, places: slice) -> Node:
            return Activated(node, name, function, part_of(slope, places))

        return replace(held, node=mapped(held.node, make))

    def _normalize(self, held: Held, args: Any, kwargs: Any) -> Held | str:
        words = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(words, args, strict=False)) | dict(kwargs)
        names = [
            None if given.get(word) is None else self._names.get(id(given[word]), "")
            for word in words[:4]
        ]
        if given.get("training") or not names[0] or not names[1] or "" in names:
            return "its batch normalization uses statistics of the batch"
        entries = held.along(min(1, held.labels.ndim - 1))
        found = [name and self._entries(held, name, entries, 0) for name in names]
        mean, variance, weight, bias = found
        if not isinstance(mean, Entries) or not isinstance(variance, Entries):
            return "batch normalization runs along another axis"
        epsilon = given.get("eps", 1e-5)

        def make(node: Node, places: slice) -> Node:
            first, second = part_of(mean, places), part_of(variance, places)
            assert first is not None and second is not None
            scale = part_of(weight or None, places), part_of(bias or None, places)
            return Normalized(node, first, second, *scale, epsilon)

        return replace(held, node=mapped(held.node, make))

    def _combine(
        self, how: Combination, args: Any, kwargs: Any, held: Mapping[int, Held], result: Any
    ) -> Held | str:
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
        constant: float | Entries
        if isinstance(other, int | float) and not isinstance(other, bool):
            constant = float(other)
        elif isinstance(other, Tensor) and other.numel() == 1 and id(other) not in self._names:
            return f"{how.name} with a computed number reads them"
        else:
            found = self._vector(mine, other)
            if found is None or how.name == "divide":
                return f"{how.name} joins them with something whose channels are not followed"
            constant = found

        def make(node: Node, places: slice) -> Node:
            value = part_of(constant, places) if isinstance(constant, Entries) else constant
            assert value is not None
            return with_constant(how, node, value, place)

        return replace(mine, node=mapped(mine.node, make))

    def _vector(self, mine: Held, other: Any) -> Entries | None:
        """Return the numbers of a parameter that are combined with the entries of a tensor."""
        name = self._names.get(id(other))
        if name is None or other.ndim > mine.labels.ndim:
            return None
        if other.numel() == 1 and len(mine.there()) > 1:  # one number for all
            return Entries(name, torch.zeros(len(mine.channels), dtype=torch.long))
        axes = [axis for axis, size in enumerate(other.shape) if size > 1]
        axes = axes or [axis for axis in range(other.ndim) if mine.labels.shape[axis] == 1]
        if len(axes) != 1:
            return None
        axis = axes[0]
        entries = mine.along(axis - other.ndim)
        return self._entries(mine, name, entries, axis)

    def _both(self, how: Combination, one: Held, two: Held, result: Any) -> Held | str:
        if how.name == "divide":
            return "they are divided by each other"
        pair = aligned(one, two, result.shape)
        if pair is None:
            return f"{how.name} joins different channels"
        one, two = pair
        known = (one.channels != NONE) & (two.channels != NONE)
        for side in pair:
            if not bool(known.all()):
                reason = f"{how.name} joins them with something whose channels are not followed"
                self.gathered.refusals.append((side.channels[~known], reason))
        self.gathered.edges.append((one.channels[known], two.channels[known]))
        if how.name == "multiply":
            return replace(one, node=Multiplied((one.node, two.node)))
        second = Scaled(two.node, -1.0) if how.name == "subtract" else two.node
        return replace(one, node=Summed((one.node, second)))


def reads_of(group: Group) -> tuple[Node, ...]:
    """Return the distinct nodes at which a group is read."""
    return tuple(dict.fromkeys(layer.source.node for layer in group.readers if layer.source))


def is_simple(group: Group) -> bool:
    """Whether one layer alone makes the channels, and no other enters any expression of them."""
    kinds = [node for read in reads_of(group) for node in walk(read)]
    return group.whole and not any(
        isinstance(node, Summed | Multiplied | Filtered | Selected | Joined) for node in kinds
    )
