"""What layers read and return while a network runs, layer by layer, and their inputs as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from whynet.models.channel_functions import CONVOLUTIONS, LAYERS, layer_of_call
from whynet.models.channel_nodes import Layer


@dataclass(frozen=True, eq=False)
class LayerCalled:
    """One call of a layer.

    Attributes:
        layer: the layer; its source is not filled in.
        inputs: what it read.
        output: what it returned.
        settings: of a convolution: stride, padding and dilation.

    """

    layer: Layer
    inputs: Tensor
    output: Tensor
    settings: Mapping[str, Any]


See = Callable[[LayerCalled], Tensor | None]
"""Is told of every call; returns another output, or None."""


class _Calls(TorchFunctionMode):
    def __init__(self, module: nn.Module, see: See) -> None:
        super().__init__()
        self._names = {id(tensor): name for name, tensor in module.named_parameters()}
        self._see = see

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func not in LAYERS:
            return result
        call = layer_of_call(func, args, kwargs, self._names)
        if isinstance(call.layer, str) or call.groups > 1:
            return result
        settings: dict[str, Any] = {}
        if func in CONVOLUTIONS:
            words = ("input", "weight", "bias", "stride", "padding", "dilation")
            given = {"stride": 1, "padding": 0, "dilation": 1}
            given |= dict(zip(words, args, strict=False)) | dict(kwargs)
            settings = {word: given[word] for word in words[3:]}
        other = self._see(LayerCalled(call.layer, call.inputs, result, settings))
        return result if other is None else other


@contextmanager
def watching_layers(module: nn.Module, see: See) -> Iterator[None]:
    """Watch, or replace, what linear layers and convolutions return inside this context.

    Seen are calls with parameters of the network as weights, also functional ones.
    """
    with _Calls(module, see):
        yield


MOST_FEATURES: Final = 4_096
"""Inputs of a layer (patches of a convolution) above which its moments are not kept."""


def rows_read(call: LayerCalled, weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return what a layer read as `[rows, features]`, and what it returned as `[rows, outputs]`.

    Features are in the order of the flattened weights of one output. None for a convolution of
    three axes, one padded by a rule, and a transposed one.
    """
    if call.layer.kind == "transposed convolution":
        return None
    if call.layer.kind != "convolution":
        return call.inputs.flatten(0, -2), call.output.flatten(0, -2)
    if weight.ndim > 4 or isinstance(call.settings["padding"], str):
        return None
    inputs, output, flat = call.inputs, call.output, weight.ndim == 3
    if flat:
        inputs, output = inputs[:, :, None], output[:, :, None]
    settings = {name: _both(value, name, flat) for name, value in call.settings.items()}
    kernel = (1, weight.shape[2]) if flat else tuple(weight.shape[2:])
    patches = functional.unfold(inputs, kernel, **settings)
    return patches.transpose(1, 2).flatten(0, 1), output.flatten(2).transpose(1, 2).flatten(0, 1)


def _both(value: Any, name: str, flat: bool) -> tuple[int, int]:
    values = (value,) * (1 if flat else 2) if isinstance(value, int) else tuple(value)
    if flat:
        return (0 if name == "padding" else 1, int(values[0]))
    return int(values[0]), int(values[-1])


def weight_rows(layer: Layer, weight: Tensor) -> Tensor:
    """Return a weight as `[outputs, features]`."""
    return (weight.transpose(0, 1) if layer.turned else weight).flatten(1)


def from_rows(layer: Layer, rows: Tensor, like: Tensor) -> Tensor:
    """Return `[outputs, features]` in the layout of the layer's weight."""
    return rows.T.contiguous() if layer.kind == "transposed" else rows.reshape(like.shape)
