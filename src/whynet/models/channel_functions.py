"""Functions of torch that read channels or combine them, and how their calls are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from whynet.models.channel_nodes import Layer
from whynet.models.torch_functions import functions_named

CONVOLUTIONS: Final[dict[Any, int]] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
_TURNED: Final[dict[Any, int]] = {
    torch.conv_transpose1d: 1,
    torch.conv_transpose2d: 2,
    torch.conv_transpose3d: 3,
}
LAYERS: Final = frozenset(
    (
        functional.linear,
        *CONVOLUTIONS,
        *_TURNED,
        torch.addmm,
        torch.matmul,
        Tensor.matmul,
        Tensor.__matmul__,
        torch.mm,
        Tensor.mm,
    )
)
"""Functions that are linear maps with weights as an argument."""


def _looking() -> frozenset[Any]:
    names = [
        "size",
        "dim",
        "ndimension",
        "numel",
        "is_floating_point",
        "is_complex",
        "stride",
        "is_contiguous",
        "element_size",
        "get_device",
        "data_ptr",
        "storage_offset",
        "is_pinned",
    ]
    properties = [
        "shape",
        "ndim",
        "device",
        "dtype",
        "is_cuda",
        "requires_grad",
        "layout",
        "is_sparse",
        "is_leaf",
        "names",
        "grad",
        "grad_fn",
        "is_quantized",
        "is_meta",
        "is_nested",
        "is_cpu",
        "is_mps",
        "is_mkldnn",
        "itemsize",
    ]
    methods = [getattr(Tensor, name) for name in (*names, "__len__")]
    base = vars(torch._C.TensorBase)
    return frozenset(methods) | {base[p].__get__ for p in properties if p in base}


LOOKS: Final = _looking()
"""Functions that ask about the form of a tensor and not about its values."""


@dataclass(frozen=True)
class Combination:
    """A sum, difference, product or quotient; `swapped` where the second argument comes first."""

    name: str
    swapped: bool = False


def _combining() -> dict[Any, Combination]:
    table = {
        "add": "add __add__ __radd__ __iadd__ add_",
        "subtract": "sub __sub__ __isub__ sub_ subtract subtract_ __rsub__ rsub",
        "multiply": "mul __mul__ __rmul__ __imul__ mul_ multiply multiply_",
        "divide": "div __truediv__ __itruediv__ div_ divide true_divide __rdiv__",
    }
    made = {}
    for name, words in table.items():
        for word in words.split():
            for owner in (torch, Tensor):
                if callable(getattr(owner, word, None)):
                    swapped = word in ("__rsub__", "__rdiv__", "rsub")
                    made[getattr(owner, word)] = Combination(name, swapped)
    return made


COMBINING: Final = _combining()
"""Function to what it does with its first two arguments."""


JOINING: Final = frozenset(functions_named("cat", "concat", "concatenate", "stack"))
"""Functions that put the tensors of a sequence beside each other."""

SPLITTING: Final = frozenset(
    functions_named("split", "split_with_sizes", "chunk", "tensor_split", "unbind", "unsafe_chunk")
)
"""Functions that return a tensor in pieces."""

_SPOKEN: Final = {
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "rms_norm": "RMSNorm",
    "instance_norm": "instance normalization",
    "softmax": "softmax",
    "scaled_dot_product_attention": "attention",
}


def refusal_of(func: Any) -> str:
    """Say why channels that a function reads are left alone, a clause about them."""
    name = getattr(func, "__name__", "an operation").strip("_")
    if name in _SPOKEN:
        return f"{_SPOKEN[name]} mixes them"
    return f"{name} reads them, which is not followed"


NEGATIONS: Final = frozenset((*functions_named("neg", "negative"), Tensor.__neg__))


@dataclass(frozen=True)
class LayerCall:
    """A call of a linear map.

    Attributes:
        layer: the layer, or why its weights cannot be cut, a clause about what it reads.
        inputs: what it maps.
        axis: axis of the inputs along which it reads.
        out_axis: axis of its result along which its outputs lie.
        groups: of a convolution.

    """

    layer: Layer | str
    inputs: Any
    axis: int = -1
    out_axis: int = -1
    groups: int = 1


def layer_of_call(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Mapping[int, str]
) -> LayerCall:
    """Read a call of one of `LAYERS`; `names` has the parameters by identity."""
    if func is functional.linear:
        given = _given(("input", "weight", "bias"), args, kwargs)
        return LayerCall(_layer(given, names, "linear"), given.get("input"))
    if func in CONVOLUTIONS:
        return _convolution(CONVOLUTIONS[func], args, kwargs, names)
    if func in _TURNED:
        return _transposed_convolution(_TURNED[func], args, kwargs, names)
    if func is torch.addmm:
        given = _given(("bias", "input", "weight"), args, kwargs)
        plain = not {"beta", "alpha"} & kwargs.keys()
    else:
        given = _given(("input", "weight"), args, kwargs)
        plain = True
    weight = given.get("weight")
    if not plain or not isinstance(weight, Tensor) or weight.ndim != 2:
        return LayerCall(
            "they are multiplied with something that is no weight, as in attention", None
        )
    return LayerCall(_layer(given, names, "transposed"), given.get("input"))


def _given(
    words: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    return dict(zip(words, args, strict=False)) | dict(kwargs)


def _layer(given: Mapping[str, Any], names: Mapping[int, str], kind: Any) -> Layer | str:
    weight = names.get(id(given.get("weight")))
    bias: Any = given.get("bias")
    if weight is None:
        return "a product with computed weights reads them"
    name = None if bias is None else names.get(id(bias), "")
    if name == "" or (name is not None and bias.ndim != 1):
        return f"the bias of `{weight.rpartition('.')[0]}` is computed"
    return Layer(weight.rpartition(".")[0] or weight, weight, name, kind)


def _convolution(
    axes: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Mapping[int, str]
) -> LayerCall:
    words = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = _given(words, args, kwargs)
    layer = _layer(given, names, "convolution")
    if isinstance(layer, str):
        return LayerCall(layer, given["input"])
    if given["input"].ndim != axes + 2:
        return LayerCall(f"`{layer.path}` reads a single example", given["input"])
    padding, weight = given.get("padding", 0), given["weight"]
    if isinstance(padding, str):
        padded = padding == "same" and any(size > 1 for size in weight.shape[2:])
    else:
        padded = bool(padding) if isinstance(padding, int) else any(padding)
    made = Layer(layer.path, layer.weight, layer.bias, "convolution", padded)
    return LayerCall(made, given["input"], 1, 1, given.get("groups", 1))


def _transposed_convolution(
    axes: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Mapping[int, str]
) -> LayerCall:
    words = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups")
    given = _given(words, args, kwargs)
    layer = _layer(given, names, "transposed convolution")
    if isinstance(layer, str):
        return LayerCall(layer, given["input"])
    if given.get("groups", 1) != 1:
        return LayerCall(f"`{layer.path}` is a grouped convolution", given["input"])
    if given["input"].ndim != axes + 2:
        return LayerCall(f"`{layer.path}` reads a single example", given["input"])
    # Every position is reached by other parts of the kernel, as if zeros stood between.
    made = Layer(layer.path, layer.weight, layer.bias, "transposed convolution", True)
    return LayerCall(made, given["input"], 1, 1)


_POOLS: Final = {
    f"{adaptive}{kind}_pool{axes}d": (f"{kind}_pool{axes}d", axes, bool(adaptive))
    for axes in (1, 2, 3)
    for kind in ("max", "avg")
    for adaptive in ("", "adaptive_")
}
_MEANS: Final = functions_named("mean", "sum", "amax")


def pooling_of_call(
    func: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    source: Tensor,
    labels: Tensor,
    result: Tensor,
) -> tuple[bool, bool, Tensor] | str | None:
    """Read a function that combines positions of each channel.

    Args:
        func: the function.
        args: its positional arguments after the tensor.
        kwargs: its named ones.
        source: the tensor.
        labels: the channel of each of its elements.
        result: what it returned.

    Returns:
        Whether it takes the largest, whether zeros stand beside the tensor, and the labels of
        the result; why it mixes channels; or None where it is no such function.

    """
    if func in _MEANS:
        return _mean(_MEANS[func], args, kwargs, labels, result)
    if func is functional.pad:
        return _padding(args, kwargs, labels, result)
    called = getattr(func, "__name__", "").strip("_")
    if called not in _POOLS:
        return None
    name, axes, adaptive = _POOLS[called]
    if labels.ndim != axes + 2 or result.ndim != labels.ndim:
        return f"{name} reads them without an axis of examples"
    row = _constant_but(labels, 1)
    if row is None:
        return f"{name} runs along their axis"
    shape = [1, -1, *[1] * axes]
    padded = False
    if name.startswith("avg") and not adaptive:
        words = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
        given = _given(words, args, kwargs)
        width = given.get("padding", 0)
        wide = bool(width) if isinstance(width, int) else any(width)
        padded = wide and bool(given.get("count_include_pad", True))
    return name.startswith("max"), padded, row.reshape(shape).expand(result.shape).contiguous()


def _constant_but(labels: Tensor, axis: int) -> Tensor | None:
    moved = labels.movedim(axis, -1).reshape(-1, labels.shape[axis])
    return moved[0] if torch.equal(moved, moved[:1].expand_as(moved)) else None


def _mean(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], labels: Tensor, result: Tensor
) -> tuple[bool, bool, Tensor] | str:
    given = _given(("dim", "keepdim"), args, kwargs)
    axes = given.get("dim", given.get("axis"))
    if axes is None:
        return f"{name} over everything mixes them"
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    keep = bool(given.get("keepdim", False))
    low, high = labels.amin(axes, keepdim=keep), labels.amax(axes, keepdim=keep)
    if not torch.equal(low, high) or low.shape != result.shape:
        return f"{name} runs along their axis"
    return name == "amax", False, low


def _padding(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], labels: Tensor, result: Tensor
) -> tuple[bool, bool, Tensor] | str:
    given = _given(("pad", "mode", "value"), args, kwargs)
    axes, mode = len(given["pad"]) // 2, given.get("mode", "constant")
    if given.get("value"):
        return "they are padded by a number"
    row = _constant_but(labels, 1) if labels.ndim - axes >= 2 else None
    if row is None:
        return "their axis is padded"
    shape = [1, -1, *[1] * (labels.ndim - 2)]
    return False, mode == "constant", row.reshape(shape).expand(result.shape).contiguous()
