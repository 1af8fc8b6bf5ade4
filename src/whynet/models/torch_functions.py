"""Functions of torch by what they do to channels, and the axis along which channels lie."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional


def functions_named(*names: str) -> dict[Any, str]:
    """Map every form of the named functions (functional, torch, method, in place) to its name."""
    owners = (functional, torch, Tensor, torch._C._nn)
    return {
        getattr(owner, name + suffix): name
        for name in names
        for owner in owners
        for suffix in ("", "_")
        if callable(getattr(owner, name + suffix, None))
    }


ACTIVATIONS: Final[dict[Any, str]] = functions_named(
    "relu",
    "relu6",
    "leaky_relu",
    "prelu",
    "rrelu",
    "threshold",
    "hardtanh",
    "hardshrink",
    "softshrink",
    "tanhshrink",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "tanh",
    "sigmoid",
    "hardsigmoid",
    "hardswish",
    "logsigmoid",
    "sin",
    "cos",
    "erf",
    "clamp",
    "clamp_min",
)
"""Function to the name of its activation; every element of its result depends on one element."""

NORMS: Final = functions_named("batch_norm")
SAME: Final = functions_named(
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "contiguous",
    "clone",
    "to",
    "type",
    "type_as",
    "float",
    "double",
    "half",
    "bfloat16",
)
SHAPES: Final = functions_named(
    "reshape",
    "view",
    "flatten",
    "unflatten",
    "expand",
    "permute",
    "transpose",
    "movedim",
    "moveaxis",
    "swapaxes",
    "swapdims",
    "squeeze",
    "unsqueeze",
    "t",
    "adjoint",
) | {vars(torch._C.TensorBase)[name].__get__: name for name in ("T", "mT")}

INDEXING: Final = {torch.Tensor.__getitem__: "getitem"}


def labels_along(axis: int, like: Tensor) -> Tensor:
    """Return channel numbers in the shape of a tensor whose channels lie along `axis`."""
    shape = [1] * like.ndim
    shape[axis] = like.shape[axis]
    channels = torch.arange(like.shape[axis], dtype=torch.int32, device=like.device)
    return channels.reshape(shape).expand(like.shape).contiguous()


def axis_of(labels: Tensor, width: int) -> int | None:
    """Return the axis along which the labels count the channels, or None where there is none."""
    for axis in range(labels.ndim):
        if labels.shape[axis] == width and torch.equal(labels, labels_along(axis, labels)):
            return axis
    return None
