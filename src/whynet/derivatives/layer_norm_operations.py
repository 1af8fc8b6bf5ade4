"""Layer normalization whose derivatives take few passes, as one node of the graph.

As in `dense_operations` for each of two uses: a gradient that is differentiated once more in
reverse, and a tangent that is carried along. Both rest on the derivatives of the gradients, which
are compiled where they can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from whynet.derivatives.dense_operations import stacked
from whynet.numerics.layer_normalization import layer_norm_products

Gradients = tuple[Tensor, Tensor, Tensor]
"""By input, weight and bias."""


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize over the last axes, several taken as one, for gradients differentiated once more.

    Arguments as `functional.layer_norm`.
    """
    shape = tuple(normalized_shape)
    if any(p is not None and p.dtype != x.dtype for p in (weight, bias)):
        return functional.layer_norm(x, shape, weight, bias, eps)
    count = math.prod(shape)
    weight = x.new_ones(count) if weight is None else weight.reshape(count)
    bias = x.new_zeros(count) if bias is None else bias.reshape(count)
    rows = x.reshape(-1, count)
    found: Tensor = _LayerNorm.apply(rows, weight, bias, eps)  # type: ignore[no-untyped-call]
    return found.reshape(x.shape)


class _LayerNorm(torch.autograd.Function):
    """Layer normalization of rows [R, n]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        found, ctx.mean, ctx.scale = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        every = (gradients[0], *ctx.saved_tensors, ctx.mean, ctx.scale)
        found: Gradients = _LayerNormBackward.apply(*every)  # type: ignore[no-untyped-call]
        return *found, None


class _LayerNormBackward(torch.autograd.Function):
    """The gradients by input, weight and bias, differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.mean, ctx.scale = mean, scale
        ctx.save_for_backward(g, x, weight)
        found: Gradients = torch.ops.aten.native_layer_norm_backward(
            g, x, x.shape[-1:], mean, scale, weight, weight, [True, True, True]
        )
        return found

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        g, x, weight = ctx.saved_tensors
        full = any(ctx.needs_input_grad[1:3])
        found = _derivatives(cotangents, g, x, weight, ctx.mean, ctx.scale, full)
        return *found, None, None


def carried_layer_norm(
    x: Tensor,
    moved: Tensor,
    parameters: Sequence[tuple[Tensor | None, Tensor | None]],
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Normalize over the last axis and carry the tangent along; to be differentiated once.

    Args:
        x: `[..., n]`.
        moved: its tangent.
        parameters: weight and bias, each with its tangent, `[n]`.
        eps: added to the variance.

    """
    count = x.shape[-1]
    filled = [
        x.new_full((count,), 1.0 - place) if tensor is None else tensor
        for place, (tensor, _) in enumerate(parameters)
    ]
    tangents = [x.new_zeros(count) if t is None else t for _, t in parameters]
    rows = x.reshape(-1, count)
    value, tangent = _CarriedLayerNorm.apply(
        rows, moved.reshape(rows.shape), *filled, *tangents, eps
    )  # type: ignore[no-untyped-call]
    return value.reshape(x.shape), tangent.reshape(x.shape)


class _CarriedLayerNorm(torch.autograd.Function):
    """Layer normalization of rows [R, n], with the tangent of that."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        moved: Tensor,
        weight: Tensor,
        bias: Tensor,
        turned: Tensor,
        shifted: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        value, ctx.mean, ctx.scale = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, moved, weight, turned, shifted)
        ctx.set_materialize_grads(False)
        # The derivative of <gradients, changes> by what came back is the tangent.
        tangent, _, _ = _derivatives(
            (moved, turned, shifted), x, x, weight, ctx.mean, ctx.scale, False
        )
        assert tangent is not None
        return value, tangent

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, moved, weight, turned, shifted = ctx.saved_tensors
        g, h = gradients

        def back(signal: Tensor, wanted: list[bool]) -> Any:
            return torch.ops.aten.native_layer_norm_backward(
                signal, x, x.shape[-1:], ctx.mean, ctx.scale, weight, weight, wanted
            )

        by_x, by_weight, by_bias = (None, None, None) if g is None else back(g, [True] * 3)
        by_moved = None
        if h is not None:
            by_moved = back(h, [True, False, False])[0]
            _, bent, own = _derivatives(
                (moved, turned, shifted), h, x, weight, ctx.mean, ctx.scale, True
            )
            by_x = bent if by_x is None else by_x.add_(bent)
            by_weight = own if by_weight is None else by_weight.add_(own)
        return by_x, by_moved, by_weight, by_bias, None, None, None


def _derivatives(
    cotangents: Sequence[Tensor],
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    scale: Tensor,
    full: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Differentiate the inner product of a layer norm's gradients with cotangents of them.

    Args:
        cotangents: of the gradients by input [R, n], weight [n] and bias [n].
        g: [R, n], what came back to the output.
        x: [R, n], the input.
        weight: [n].
        mean: of the rows.
        scale: one over the deviation of the rows.
        full: whether the last two are wanted.

    Returns:
        Derivatives by g, which is the change of the output where the cotangents are changes of
        input, weight and bias; by x; and by the weight.

    """
    product = _passes if x.device.type != "cpu" or any(map(stacked, cotangents)) else _compiled
    return product(cotangents, g, x, weight, mean, scale, full)


def _compiled(
    cotangents: Sequence[Tensor],
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    scale: Tensor,
    full: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    u, v, t = (c.contiguous() for c in cotangents)
    by_g = torch.empty_like(x, memory_format=torch.contiguous_format)
    by_x, by_w = (torch.empty_like(by_g), torch.zeros_like(v)) if full else (by_g[:0], v[:0])
    layer_norm_products(
        u.numpy(),
        g.detach().contiguous().numpy(),
        x.detach().contiguous().numpy(),
        mean.reshape(-1).numpy(),
        scale.reshape(-1).numpy(),
        (weight.detach().contiguous().numpy(), v.numpy(), t.numpy()),
        (by_g.numpy(), by_x.numpy(), by_w.numpy()),
        full,
    )
    return (by_g, by_x, by_w) if full else (by_g, None, None)


def _passes(
    cotangents: Sequence[Tensor],
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    scale: Tensor,
    full: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the same by PyTorch, on any device and for many vectors at once."""
    u, v, t = cotangents
    y = (x - mean) * scale

    def turned(a: Tensor) -> Tensor:
        return a - a.mean(-1, keepdim=True) - y * _mean(a, y)

    moved = turned(u) * scale
    by_g = moved * weight + y * v + t
    if not full:
        return by_g, None, None
    weighted = g * weight
    own = g * v - (_mean(weighted, y) * u + _mean(u, y) * weighted) * scale
    by_x = (turned(own) - y * _mean(u, turned(weighted)) * scale) * scale
    return by_g, by_x, (g * moved).sum(-2)


def _mean(left: Tensor, right: Tensor) -> Tensor:
    """Mean over the last axis of a product, the axis kept."""
    return (left * right).mean(-1, keepdim=True)
