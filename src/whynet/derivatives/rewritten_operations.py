"""Operations whose second derivatives take few passes over memory, in place of PyTorch's.

Products with a kept graph differentiate the graph of the gradient again and again. For layer
normalization PyTorch does that in some forty passes, for GELU it computes error functions anew each
time, and for ReLU it adds tensors of zeros. Here what does not depend on the vector is computed
once, with the graph. The plan holds the products against float64 differences, as any others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from whynet.derivatives.dense_operations import dense, stacked
from whynet.numerics.layer_normalization import layer_norm_products

Elementwise = Callable[..., Tensor]

Gradients = tuple[Tensor, Tensor, Tensor]

DTYPES = (torch.float32, torch.float64)

SMOOTH: Mapping[Any, Elementwise] = {
    functional.gelu: functional.gelu,
    functional.silu: functional.silu,
    functional.softplus: functional.softplus,
    functional.mish: functional.mish,
    functional.elu: functional.elu,
    torch.erf: torch.erf,
    Tensor.erf: torch.erf,
    torch.tanh: torch.tanh,
    Tensor.tanh: torch.tanh,
    functional.tanh: torch.tanh,
    torch.sigmoid: torch.sigmoid,
    Tensor.sigmoid: torch.sigmoid,
    functional.sigmoid: torch.sigmoid,
}
"""Elementwise functions as they are called, to a function that gives the same."""

STRAIGHT: Mapping[Any, Elementwise] = {
    functional.relu: torch.relu,
    torch.relu: torch.relu,
    Tensor.relu: torch.relu,
    functional.leaky_relu: functional.leaky_relu,
    functional.relu6: functional.relu6,
    functional.hardtanh: functional.hardtanh,
}
"""Likewise, with a second derivative of zero."""


class _Rewriting(TorchFunctionMode):
    """Calls the functions of this file where they are known to give the same."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and _is_dense(*args, **kwargs) and not is_recomputed():
            return dense(*args, **kwargs)
        if args and _plain(args[0]) and not is_recomputed():
            rest = args[1:]
            if func in SMOOTH and not changes_input(rest, kwargs):
                return _Smooth.apply(args[0], bound_call(SMOOTH[func], rest, kwargs))  # type: ignore[no-untyped-call]
            if func in STRAIGHT and not changes_input(rest, kwargs):
                return _Straight.apply(args[0], bound_call(STRAIGHT[func], rest, kwargs))  # type: ignore[no-untyped-call]
            if func is functional.layer_norm:
                return _layer_norm(*args, **kwargs)
        return func(*args, **kwargs)


@contextmanager
def rewritten() -> Iterator[None]:
    """Let networks called inside use the operations of this file.

    For graphs that are differentiated in reverse only, at most twice in the parameters.
    """
    with _Rewriting():
        yield


def is_recomputed() -> bool:
    """Whether activations are recomputed on the way back (checkpoints), outside of this mode."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def _plain(tensor: Any) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.dtype in DTYPES
        and tensor.requires_grad
    )


def _is_dense(input: Any, weight: Any, bias: Any = None) -> bool:
    """Whether a dense layer is one that `dense` applies, and has a gradient."""
    tensors = [t for t in (input, weight, bias) if t is not None]
    return (
        all(type(t) in (Tensor, torch.nn.Parameter) for t in tensors)
        and len({t.dtype for t in tensors}) == 1
        and input.dtype in DTYPES
        and any(t.requires_grad for t in tensors)
        and weight.ndim == 2
        and input.ndim >= 2
    )


def changes_input(rest: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call changes its input, or may: any flag that is set."""
    return kwargs.get("out") is not None or any(
        value is True for value in [*rest, *kwargs.values()]
    )


def bound_call(
    function: Elementwise, rest: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Return the function of the first argument alone."""
    plain = function is functional.gelu and not rest and kwargs.get("approximate") in (None, "none")
    if plain or function is torch.relu:
        return function
    return lambda x: function(x, *rest, **kwargs)


def slope_of(function: Callable[[Tensor], Tensor], x: Tensor, order: int) -> Tensor:
    """Return a derivative of an elementwise function, of order 1 or 2."""
    if function is torch.relu and order == 1:  # in fewer passes than by differentiation
        return torch.relu(x.detach()).sign_()
    if function is functional.gelu:
        return _gelu_slope(x.detach(), order)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=order > 1)
        if order > 1:
            (found,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach()


def _gelu_slope(x: Tensor, order: int) -> Tensor:
    """Return a derivative of x Phi(x), Phi and phi the normal distribution and its density."""
    if order == 1:  # Phi + x phi
        found: Tensor = torch.ops.aten.gelu_backward(torch.ones_like(x), x)
        return found
    squares = x.square()  # (2 - x^2) phi
    density = torch.mul(squares, -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    return density.mul_(squares.neg_().add_(2))


class _Straight(torch.autograd.Function):
    """A piecewise-linear function: its gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        found = function(x)
        ctx.bent = function is torch.relu
        ctx.save_for_backward(found if ctx.bent else slope_of(function, x, 1))
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (held,) = ctx.saved_tensors
        return _StraightBackward.apply(gradients[0], held.detach(), ctx.bent), None  # type: ignore[no-untyped-call]


class _StraightBackward(torch.autograd.Function):
    """The gradient through a piecewise-linear function, which is linear in what comes back."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, held: Tensor, bent: bool) -> Tensor:
        ctx.bent = bent
        ctx.save_for_backward(held)
        return straight(gradient, held, bent)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        (held,) = ctx.saved_tensors
        return straight(cotangents[0], held, ctx.bent), None, None


def straight(signal: Tensor, held: Tensor, bent: bool) -> Tensor:
    """Multiply by a slope; where `bent`, by that of ReLU, told from its output in one pass."""
    if bent:
        found: Tensor = torch.ops.aten.threshold_backward(signal, held, 0)
        return found
    return signal * held


class _Smooth(torch.autograd.Function):
    """An elementwise function that holds its first derivative, and later the second."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        found: Tensor = _SmoothBackward.apply(gradients[0], x, ctx.function)  # type: ignore[no-untyped-call]
        return found, None


class _SmoothBackward(torch.autograd.Function):
    """The gradient through an elementwise function, differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, x: Tensor, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        slope = slope_of(function, x, 1)
        ctx.function, ctx.bend = function, None
        ctx.save_for_backward(gradient, x, slope)
        return gradient * slope

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gradient, x, slope = ctx.saved_tensors
        (u,) = cotangents
        bent = None
        if ctx.needs_input_grad[1]:
            if ctx.bend is None:
                ctx.bend = gradient * slope_of(ctx.function, x, 2)
            bent = u * ctx.bend
        return (u * slope if ctx.needs_input_grad[0] else None), bent, None


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize over the last axes; several of them are taken as one."""
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
        found = layer_norm_derivatives(cotangents, g, x, weight, ctx.mean, ctx.scale, full)
        return *found, None, None


def layer_norm_derivatives(
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
