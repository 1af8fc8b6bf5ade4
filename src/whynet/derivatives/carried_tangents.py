"""Operations that carry a tangent along, each with its derivative in reverse, in few passes.

A single pass differentiates outputs and tangents of a network once in reverse. PyTorch cannot do
that through softmax, whose forward mode edits what the reverse pass needs; of layer normalization
and GELU it records every step of the tangent's formula, and the parts of a dense layer's gradient
it adds up one by one. Here each operation is one node of the graph with two outputs, the value and
its tangent; what both need is computed once. The plan holds the products against float64
differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from whynet.derivatives.carried_smooth import carried_smooth
from whynet.derivatives.dense_operations import carried_dense
from whynet.derivatives.layer_norm_operations import carried_layer_norm
from whynet.derivatives.replaced_functions import DTYPES, replacing
from whynet.derivatives.rewritten_operations import (
    SMOOTH,
    STRAIGHT,
    bound_call,
    changes_input,
    slope_of,
    straight,
)

Pair = tuple[Tensor, Tensor]
"""A value and its tangent."""

SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)

KNOWN = {functional.linear, functional.layer_norm, *SMOOTH, *STRAIGHT, *SOFTMAX}


@contextmanager
def carrying() -> Iterator[None]:
    """Let networks called inside use the operations of this file on inputs that have a tangent.

    For outputs and tangents that are differentiated once, in reverse.
    """
    with replacing(KNOWN, _replaced):
        yield


def _replaced(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    if not args or not isinstance(args[0], Tensor) or args[0].dtype not in DTYPES:
        return None
    pair = _carried(func, args, kwargs)
    if pair is None:
        return None
    found: Tensor = forward_ad.make_dual(*pair)  # type: ignore[no-untyped-call]
    return found


def _carried(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pair | None:
    """Return a value and its tangent; None where that is left to PyTorch."""
    rest = args[1:]
    if func is functional.linear:
        return _linear(*args, **kwargs)
    if func is functional.layer_norm:
        return _layer_norm(*args, **kwargs)
    x, moved = _parts(args[0])
    if x is None or moved is None:
        return None
    if func in SOFTMAX:
        dim = _axis(rest, kwargs)
        return None if dim is None else _Softmax.apply(x, moved, dim % x.ndim)  # type: ignore[no-untyped-call]
    if changes_input(rest, kwargs):
        return None
    if func in STRAIGHT:
        function = bound_call(STRAIGHT[func], rest, kwargs)
        found: Pair = _Straight.apply(x, moved, function)  # type: ignore[no-untyped-call]
    else:
        found = carried_smooth(x, moved, bound_call(SMOOTH[func], rest, kwargs))
    return found


def _parts(tensor: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return a tensor and its tangent, where it has one."""
    if tensor is None:
        return None, None
    found = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
    return found.primal, found.tangent


def _axis(rest: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Return the axis of a softmax in its own precision, None of any other."""
    if any(isinstance(value, torch.dtype) for value in (*rest, *kwargs.values())):
        return None
    found = rest[0] if rest else kwargs.get("dim")
    return found if isinstance(found, int) else None


def _alike(tensors: Sequence[Tensor | None]) -> bool:
    return len({t.dtype for t in tensors if t is not None}) == 1


class _Straight(torch.autograd.Function):
    """A piecewise-linear function of each number by itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, moved: Tensor, function: Callable[[Tensor], Tensor]) -> Pair:
        value = function(x)
        ctx.bent = function is torch.relu
        held = value if ctx.bent else slope_of(function, x, 1)
        ctx.save_for_backward(held)
        ctx.set_materialize_grads(False)
        return value, straight(moved, held, ctx.bent)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (held,) = ctx.saved_tensors
        found = (None if g is None else straight(g, held, ctx.bent) for g in gradients)
        return *found, None


class _Softmax(torch.autograd.Function):
    """Softmax along an axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, moved: Tensor, dim: int) -> Pair:
        y = torch.softmax(x, dim)
        ctx.dim = dim
        ctx.save_for_backward(y, moved)
        ctx.set_materialize_grads(False)
        # The derivative is symmetric: what takes gradients back takes tangents along.
        return y, torch._softmax_backward_data(moved, y, dim, y.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        y, moved = ctx.saved_tensors
        g, h = gradients
        by_moved = None
        if h is not None:
            by_moved = torch._softmax_backward_data(h, y, ctx.dim, y.dtype)
            crossed = moved - (y * moved).sum(ctx.dim, keepdim=True)
            bent = crossed.mul_(h).sub_(moved * (y * h).sum(ctx.dim, keepdim=True))
            g = bent if g is None else bent.add_(g)
        by_x = None if g is None else torch._softmax_backward_data(g, y, ctx.dim, y.dtype)
        return by_x, by_moved, None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Pair | None:
    parts = [_parts(tensor) for tensor in (x, weight, bias)]
    if all(moved is None for _, moved in parts) or not _alike([x, weight, bias]):
        return None
    if weight.ndim != 2 or x.ndim < 2:
        return None
    (rows, along), (matrix, turned), (added, shifted) = parts
    assert rows is not None and matrix is not None
    return carried_dense(rows, along, matrix, turned, added, shifted)


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Pair | None:
    (held, moved), *others = (_parts(tensor) for tensor in (x, weight, bias))
    if held is None or moved is None or len(normalized_shape) != 1 or not _alike([x, weight, bias]):
        return None
    return carried_layer_norm(held, moved, others, eps)
