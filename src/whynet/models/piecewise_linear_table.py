"""Which operations are read as piecewise linear, by name, and what to do about the others."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whynet.models import piecewise_linear_bends as bends
from whynet.models import piecewise_linear_operations as affine
from whynet.models.piecewise_linear_operations import Call, Composite, Handler, Operation

_AXES = ("1d", "2d", "3d")
_MOVES = """flatten unflatten reshape view permute transpose swapaxes swapdims movedim squeeze
    unsqueeze contiguous clone expand narrow select getitem chunk split tensor_split unbind cat
    concat concatenate stack flip roll tile repeat pixel_shuffle pixel_unshuffle channel_shuffle
    mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d neg negative"""

FUNCTIONS: Final[dict[str, Handler]] = {
    **dict.fromkeys(_MOVES.split(), affine.same),
    **dict.fromkeys(("float", "double", "to", "type_as", "detach"), affine.identity),
    **dict.fromkeys(
        [f"{kind}dropout{d}" for kind in ("", "alpha_", "feature_alpha_") for d in ("", *_AXES)],
        affine.dropout,
    ),
    "pad": affine.pad,
    "interpolate": affine.interpolate,
    "add": affine.add,
    "sub": affine.add,
    "subtract": affine.add,
    "mul": affine.multiply,
    "multiply": affine.multiply,
    "matmul": affine.multiply,
    "mm": affine.multiply,
    "bmm": affine.multiply,
    "truediv": affine.divide,
    "div": affine.divide,
    "divide": affine.divide,
    "linear": affine.weighted(F.linear),
    "conv1d": affine.weighted(F.conv1d),
    "conv2d": affine.weighted(F.conv2d),
    "conv3d": affine.weighted(F.conv3d),
    "conv_transpose1d": affine.weighted(F.conv_transpose1d),
    "conv_transpose2d": affine.weighted(F.conv_transpose2d),
    "conv_transpose3d": affine.weighted(F.conv_transpose3d),
    "batch_norm": affine.batch_norm_function,
    "relu": bends.kink(bends.at_zero),
    "abs": bends.kink(bends.at_zero),
    "absolute": bends.kink(bends.at_zero),
    "relu6": bends.kink(lambda _: (0.0, 6.0)),
    "hardsigmoid": bends.kink(lambda _: (-3.0, 3.0)),
    "leaky_relu": bends.leaky,
    "rrelu": bends.rrelu,
    "prelu": bends.prelu,
    "hardtanh": bends.hardtanh,
    "softshrink": bends.softshrink,
    "threshold": bends.threshold,
    "clamp": bends.clamp("min", "max"),
    "clip": bends.clamp("min", "max"),
    "clamp_min": bends.clamp("min"),
    "clamp_max": bends.clamp("max"),
    "maximum": bends.extreme_of_two(1),
    "minimum": bends.extreme_of_two(-1),
    "max": bends.extreme_of_two(1),
    "min": bends.extreme_of_two(-1),
    "amax": bends.extreme_of_axis(1),
    "amin": bends.extreme_of_axis(-1),
    "max_pool1d": bends.max_pool(1),
    "max_pool2d": bends.max_pool(2),
    "max_pool3d": bends.max_pool(3),
    "adaptive_max_pool1d": bends.max_pool(1, adaptive=True),
    "adaptive_max_pool2d": bends.max_pool(2, adaptive=True),
    "adaptive_max_pool3d": bends.max_pool(3, adaptive=True),
}

_SAME_MODULES = (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
_POOLS = tuple(getattr(nn, f"{kind}AvgPool{d}d") for kind in ("", "Adaptive") for d in (1, 2, 3))
_WEIGHTED = (
    nn.Linear,
    *(getattr(nn, f"Conv{kind}{d}d") for kind in ("", "Transpose") for d in (1, 2, 3)),
)
_BORDERS = tuple(
    getattr(nn, f"{kind}Pad{d}d")
    for kind in ("Reflection", "Replication", "Circular")
    for d in (1, 2, 3)
)
_CONSTANT_PADS = (
    nn.ConstantPad1d,
    nn.ConstantPad2d,
    nn.ConstantPad3d,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
)
_KINKS = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.LeakyReLU: "leaky_relu",
    nn.PReLU: "prelu",
    nn.RReLU: "rrelu",
    nn.Hardtanh: "hardtanh",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Softshrink: "softshrink",
    nn.Threshold: "threshold",
}
_DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)

MODULES: Final[dict[type[nn.Module], Handler]] = {
    nn.Identity: affine.identity,
    **dict.fromkeys((*_SAME_MODULES, *_POOLS, *_BORDERS), affine.same),
    **dict.fromkeys(_WEIGHTED, affine.weighted(F.linear)),
    **dict.fromkeys(_CONSTANT_PADS, affine.pad_module),
    **dict.fromkeys(_DROPOUTS, affine.dropout),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), affine.batch_norm_module),
    nn.Upsample: affine.interpolate,
    nn.UpsamplingNearest2d: affine.interpolate,
    nn.UpsamplingBilinear2d: affine.interpolate,
    **{kind: FUNCTIONS[name] for kind, name in _KINKS.items()},
    **{
        getattr(nn, f"{a}MaxPool{d}d"): bends.max_pool(d, adaptive=bool(a))
        for a in ("", "Adaptive")
        for d in (1, 2, 3)
    },
}

_SMOOTH = """gelu silu mish swish elu selu celu softplus sigmoid logsigmoid log_sigmoid tanh
    softsign tanhshrink hardswish exp log sqrt rsqrt sin cos pow square erf reciprocal glu"""
_SOFTMAX = "softmax softmin logsoftmax log_softmax softmax2d gumbel_softmax"
_NORMALIZING = """layernorm layer_norm groupnorm group_norm instancenorm1d instancenorm2d
    instancenorm3d instance_norm rmsnorm rms_norm localresponsenorm local_response_norm
    normalize norm std var cosine_similarity"""
_ATTENDING = "multiheadattention scaled_dot_product_attention transformerencoderlayer"
_JUMPING = "sign round floor ceil hardshrink heaviside argmax argmin gt lt ge le eq bool long int"


def _table_of_reasons() -> dict[str, str]:
    alone = "examine the part of the network before it alone"
    kinds = (
        (_SMOOTH, "which is curved; exact pieces need ReLU, LeakyReLU or the like in its place"),
        (_SOFTMAX, "which is curved; give the network up to its logits"),
        (
            _NORMALIZING,
            "which divides by a statistic of its input; BatchNorm in evaluation mode is read",
        ),
        (_ATTENDING, f"which multiplies values that depend on the input; {alone}"),
        (_JUMPING, f"which jumps; {alone}"),
    )
    return {name: reason for names, reason in kinds for name in names.split()}


REASONS: Final[dict[str, str]] = _table_of_reasons()
"""Operation, in lower case, to what stands in the way of reading it as piecewise linear."""

UNKNOWN = (
    "which is not in whynet's table of piecewise-linear ones; write it with linear, relu, maximum "
    "or the like"
)

IN_PLACE: Final = frozenset({"iadd", "isub", "imul", "itruediv", "imatmul"})
"""Operators that write into their first argument."""

_HOMES = (torch, F, operator, torch._C._nn, Tensor)


def function_name(target: Callable[..., Any] | str) -> str:
    """Return the plain name of a function or tensor method, or "" where it is not torch's own.

    `relu_`, `operator.iadd` and `_threshold` are `relu`, `add` and `threshold`: the values of the
    graph are never written in place, and the whole graph is checked against the network.
    """
    raw = target if isinstance(target, str) else getattr(target, "__name__", "")
    if not isinstance(target, str) and all(getattr(h, raw, None) is not target for h in _HOMES):
        return ""
    name = raw.strip("_")
    return name[1:] if name in IN_PLACE else name


@dataclass(frozen=True)
class Table:
    """Operations that a reading of networks knows.

    Attributes:
        functions: name to handler.
        modules: class to handler.
        reasons: name, in lower case, to what is said of others: `which ...`.
        unknown: what is said of the rest.

    """

    functions: Mapping[str, Handler]
    modules: Mapping[type[nn.Module], Handler]
    reasons: Mapping[str, str]
    unknown: str


PIECEWISE: Final = Table(FUNCTIONS, MODULES, REASONS, UNKNOWN)


def find_handler(
    function: Callable[..., Any] | str, module: nn.Module | None, table: Table
) -> Handler | str:
    """Return the handler of an operation, or why there is none: `which …`, to follow its name.

    A subclass of a known module counts where it inherits `forward`.
    """
    if module is None:
        name = function_name(function)
        found = table.functions.get(name)
    else:
        name = type(module).__name__
        if any((module._forward_hooks, module._forward_pre_hooks)):
            return "which carries a forward hook; remove it first"
        known: Iterator[Any] = (k for k in type(module).__mro__ if k in table.modules)
        inherited = (k for k in known if type(module).forward is k.forward)
        found = next((table.modules[kind] for kind in inherited), None)
    if found is not None:
        return found
    return table.reasons.get(name.lower(), table.unknown)


def read_operation(
    target: Callable[..., Any] | str, call: Call, table: Table
) -> Operation | Composite | str:
    """Return the operation of a call of `target`, or why the table has none: `which …`."""
    handler = find_handler(target, call.module, table)
    if isinstance(handler, str):
        return handler
    operation = handler(call)
    return f"which {operation}" if isinstance(operation, str) else operation
