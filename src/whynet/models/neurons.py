"""The neurons of any network: what enters and leaves each activation, unit by unit.

A neuron is an output feature of a linear layer or an output channel of a convolution that feeds
a known activation function; a channel is one neuron over all its positions, a unit of a
transformer's network one neuron over all tokens. Outputs of layers are followed through batch
normalization, dropout, casts and changes of shape; not through sums (residual blocks that add
before they activate), pooling, other normalizations, or fused recurrent and attention kernels. Of a
gated block, `activation(gate) * value`, the units are the products; they fire under the name of the
layer that makes the values, also where it makes the gates as well (`chunk`, `split`, slices). A
layer whose activation is the network's own output is not hidden and is left out. Activations that
Hugging Face writes in pieces, such as GPT-2's GELU, are one activation each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from whynet.models.channel_functions import COMBINING, SPLITTING
from whynet.models.pieced_activations import whole_activations
from whynet.models.torch_functions import (
    ACTIVATIONS,
    INDEXING,
    NORMS,
    SAME,
    SHAPES,
    axis_of,
    labels_along,
)

GATE: Final = " gate"
"""Stands after the name of an activation whose results multiply other channels."""

_CONVOLUTIONS: Final = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


Activate = Callable[[Tensor], Tensor]
"""A function of every element by itself."""


@dataclass(frozen=True)
class Gates:
    """What multiplied the values of a gated block.

    Attributes:
        before: `[..., width]`, what entered the activation of the gates; a copy.
        activate: that activation, as it was called.

    """

    before: Tensor
    activate: Activate


@dataclass(frozen=True)
class Firing:
    """One activation of one batch.

    Of products of gates and values `before` and `after` are the same, `activation` is that of the
    gate with the word gate after it, and `inputs` is None where the two read different tensors.

    Attributes:
        path: dotted name of the layer, as in `named_modules` (foreign text).
        module: the layer.
        activation: name of the activation function.
        normalized: whether batch normalization stood between layer and activation.
        inputs: what the layer read; None where it was not passed by position.
        before: `[..., width]` or `[rows, width]`, what entered the activation; a copy.
        after: the same for what left it.
        gates: of products, what multiplied; None where gates and values read different tensors.

    """

    path: str
    module: nn.Module
    activation: str
    normalized: bool
    inputs: Tensor | None
    before: Tensor
    after: Tensor
    gates: Gates | None = None


@dataclass(frozen=True)
class _Trace:
    """A tensor that still is the output of a layer, or a part of it: where its channels lie."""

    path: str
    module: nn.Module
    inputs: Tensor | None
    width: int
    axis: int | None
    labels: Tensor | None = None
    normalized: bool = False
    part: bool = False


@dataclass(frozen=True)
class _Gate:
    """A tensor that left an activation: of which layer, by which function, from what."""

    trace: _Trace
    activation: str
    gates: Gates


class Following(TorchFunctionMode):
    """Watches functions of torch while a network runs; made by `following`."""

    def __init__(
        self, see: Callable[[Firing], None], silenced: Mapping[str, Tensor] | None
    ) -> None:
        super().__init__()
        self._see = see
        self._silenced = silenced or {}
        self._traces: MutableMapping[Tensor, _Trace] = WeakTensorKeyDictionary()
        self._activated: MutableMapping[Tensor, str] = WeakTensorKeyDictionary()
        self._gates: MutableMapping[Tensor, _Gate] = WeakTensorKeyDictionary()

    def whole(self, name: str, module: nn.Module, source: Tensor, output: Tensor) -> None:
        """Note that an activation that is written in pieces returned `output`."""
        trace = self._traces.get(source)
        if trace is not None:
            gates = Gates(_units_last(source, trace).clone(), module)
            self._fired(trace, name, source, gates, output)

    def is_activation(self, output: object) -> str | None:
        """Return the layer whose activation this tensor is, up to its shape, or None."""
        return self._activated.get(output) if isinstance(output, Tensor) else None

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Note that a layer returned `output`."""
        if not isinstance(output, Tensor):
            return
        axis = _channel_axis(module, output)
        inputs = args[0] if args and isinstance(args[0], Tensor) else None
        self._traces[output] = _Trace(path, module, inputs, output.shape[axis], axis)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        source = args[0] if args else kwargs.get("input")
        if not isinstance(source, Tensor):
            return func(*args, **kwargs)
        trace = self._traces.get(source)
        if trace is not None and func in ACTIVATIONS:
            return self._fire(trace, func, source, args, kwargs)
        path = self._activated.get(source)
        gating = self._gating(func, args)
        result = func(*args, **kwargs)
        if gating is not None:
            self._fire_product(*gating, result)
        if trace is not None and (func in SPLITTING or func in INDEXING):
            pieces = func(_labels(trace, source), *args[1:], **kwargs)
            many = isinstance(pieces, Tensor)
            for piece, labels in [(result, pieces)] if many else zip(result, pieces, strict=True):
                self._part(trace, piece, labels)
            return result
        if path is not None and (func in SAME or func in SHAPES or func in INDEXING):
            self._activated[result] = path
        if trace is not None and isinstance(result, Tensor):
            followed = _followed(trace, func, source, args, kwargs, result)
            if followed is not None:
                self._traces[result] = followed
            elif result is source:  # changed in place by something that is not followed
                del self._traces[source]
        return result

    def _part(self, trace: _Trace, piece: Tensor, labels: Tensor) -> None:
        """Follow a run of the channels of a layer."""
        if labels.numel() == 0:
            return
        start = labels.min()
        for axis, width in enumerate(labels.shape):
            if 1 < width < trace.width and torch.equal(labels - start, labels_along(axis, labels)):
                self._traces[piece] = replace(trace, width=width, axis=axis, labels=None, part=True)

    def _gating(self, func: Any, args: tuple[Any, ...]) -> tuple[_Trace, _Gate] | None:
        """Return the values and the gates, where these are multiplied."""
        how = COMBINING.get(func)
        if how is None or how.name != "multiply" or len(args) != 2:
            return None
        if not all(isinstance(one, Tensor) for one in args) or args[0].shape != args[1].shape:
            return None
        for gates, values in (args, args[::-1]):
            gate, trace = self._gates.get(gates), self._traces.get(values)
            if gate is None or trace is None or trace.labels is not None:
                continue
            if (gate.trace.axis, gate.trace.width) == (trace.axis, trace.width):
                return trace, gate
        return None

    def _fire_product(self, trace: _Trace, gate: _Gate, result: Tensor) -> None:
        silent = self._silenced.get(trace.path)
        if silent is not None:
            _silence(result, trace, silent)
        product = _units_last(result, trace).clone()
        self._activated[result] = trace.path
        name = f"{gate.activation}{GATE}"
        plain = (type(trace.module), trace.normalized) == (type(gate.trace.module), False)
        same = trace.inputs is not None and trace.inputs is gate.trace.inputs
        inputs, gates = (trace.inputs, gate.gates) if plain and same else (None, None)
        self._see(
            Firing(
                trace.path, trace.module, name, trace.normalized, inputs, product, product, gates
            )
        )

    def _fire(
        self, trace: _Trace, func: Any, source: Tensor, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        before = _units_last(source, trace).clone()
        result = func(*args, **kwargs)
        gates = Gates(before, _again(func, args, kwargs))
        self._fired(trace, _name(func, args, kwargs), source, gates, result)
        return result

    def _fired(
        self, trace: _Trace, name: str, source: Tensor, gates: Gates, result: object
    ) -> None:
        """Note an activation of a layer; where it makes gates of other channels, only that."""
        if not isinstance(result, Tensor) or result.shape != source.shape:
            return
        self._traces.pop(source, None)
        self._gates[result] = _Gate(trace, name, gates)
        if trace.part:  # gates, whose values are others of the layer's channels
            return
        silent = self._silenced.get(trace.path)
        if silent is not None:
            _silence(result, trace, silent)
        before, after = gates.before, _units_last(result, trace).clone()
        self._activated[result] = trace.path
        self._see(
            Firing(trace.path, trace.module, name, trace.normalized, trace.inputs, before, after)
        )


@contextmanager
def following(
    module: nn.Module,
    see: Callable[[Firing], None],
    *,
    silenced: Mapping[str, Tensor] | None = None,
) -> Iterator[Following]:
    """Watch the neurons of a network while it runs inside this context.

    Hooks are removed on the way out, also after a failure; no parameter is touched. Outputs are
    those of the plain network (fused fast paths of PyTorch are not taken, hence up to round-off),
    unless units are silenced.

    Args:
        module: the network; it is called by the caller, as often as wanted.
        see: called at every activation of a layer that is followed.
        silenced: layer to indices of units whose activations are set to zero (needs
            `torch.no_grad`, since it writes in place).

    """
    mode = Following(see, silenced)
    handles = []
    try:
        for path, child in module.named_modules():
            if is_layer(child):
                handles.append(child.register_forward_hook(_hook(mode, path)))
        with whole_activations(module, mode.whole), mode:
            yield mode
    finally:
        for handle in handles:
            handle.remove()


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a linear layer or a convolution (GPT-2's `Conv1D` is a linear layer)."""
    return isinstance(module, (nn.Linear, *_CONVOLUTIONS)) or _is_transposed_linear(module)


def _is_transposed_linear(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _hook(mode: Following, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        mode.leave(path, module, args, output)

    return note


def spatial_axes(module: nn.Module) -> int:
    """Number of axes a convolution slides along; 0 for a linear layer."""
    return next((n for kind, n in _CONVOLUTIONS.items() if isinstance(module, kind)), 0)


def _channel_axis(module: nn.Module, output: Tensor) -> int:
    spatial = spatial_axes(module)
    return output.ndim - 1 - spatial


def _again(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Activate:
    """Return an activation with the settings of a call, and without the call's tensor."""
    rest = args[1:]
    others = {k: v for k, v in kwargs.items() if k not in ("input", "inplace")}
    return lambda tensor: func(tensor, *rest, **others)


def _name(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Name an activation; `clamp(min=0)` is ReLU."""
    name = ACTIVATIONS[func]
    if name not in ("clamp", "clamp_min"):
        return name
    low = kwargs.get("min", args[1] if len(args) > 1 else None)
    high = kwargs.get("max", args[2] if len(args) > 2 else None)
    at_zero = isinstance(low, (int, float)) and low == 0
    return "relu" if at_zero and high is None else "clamp"


def _followed(
    trace: _Trace, func: Any, source: Tensor, args: tuple[Any, ...], kwargs: Any, result: Tensor
) -> _Trace | None:
    """Return where the channels lie after a function, or None where it is not followed."""
    if func in NORMS:
        # Batch normalization treats the second axis as channels; anything else mixes units.
        return replace(trace, normalized=True) if trace.axis == min(1, source.ndim - 1) else None
    if func in SAME:
        return trace if result.shape == source.shape else None
    if func not in SHAPES or result.numel() != source.numel():
        return None
    labels = _labels(trace, source)
    labels = func(labels, *args[1:], **{k: v for k, v in kwargs.items() if k != "input"})
    axis = axis_of(labels, trace.width)
    return replace(trace, axis=axis, labels=None if axis is not None else labels)


def _labels(trace: _Trace, source: Tensor) -> Tensor:
    """Return the channel of every element."""
    if trace.labels is not None:
        return trace.labels
    assert trace.axis is not None
    return labels_along(trace.axis, source)


def _units_last(tensor: Tensor, trace: _Trace) -> Tensor:
    """Return `[..., width]`, or `[rows, width]` where channels are spread over several axes."""
    tensor = tensor.detach()
    if trace.axis is not None:
        return tensor.movedim(trace.axis, -1)
    assert trace.labels is not None
    order = trace.labels.reshape(-1).argsort(stable=True)
    return tensor.reshape(-1)[order].reshape(trace.width, -1).T


def _silence(result: Tensor, trace: _Trace, units: Tensor) -> None:
    if trace.axis is not None:
        result.index_fill_(trace.axis, units.to(result.device), 0.0)
        return
    assert trace.labels is not None
    result.masked_fill_(torch.isin(trace.labels, units.to(trace.labels)), 0.0)


def by_example(rows: Tensor, batch: int) -> Tensor | None:
    """Arrange `[..., width]` as `[examples, positions, width]`.

    The first or second axis may count the examples, or the first one examples times positions.

    Args:
        rows: what a firing holds.
        batch: number of examples that ran through the network.

    Returns:
        The same numbers, or None where no axis counts the examples.

    """
    width = rows.shape[-1]
    if rows.ndim >= 2 and rows.shape[0] == batch:
        return rows.reshape(batch, -1, width)
    if rows.ndim >= 3 and rows.shape[1] == batch:
        return rows.movedim(1, 0).reshape(batch, -1, width)
    if rows.ndim >= 2 and rows.shape[0] % batch == 0:
        return rows.reshape(batch, -1, width)
    return None
