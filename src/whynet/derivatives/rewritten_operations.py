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

from whynet.derivatives.dense_operations import dense
from whynet.derivatives.layer_norm_operations import layer_norm
from whynet.derivatives.replaced_functions import DTYPES, replacing

Elementwise = Callable[..., Tensor]

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


KNOWN = {functional.linear, functional.layer_norm, *SMOOTH, *STRAIGHT}


@contextmanager
def rewritten() -> Iterator[None]:
    """Let networks called inside use the operations of this file where they give the same.

    For graphs that are differentiated in reverse only, at most twice in the parameters.
    """
    with replacing(KNOWN, _replaced):
        yield


def _replaced(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    if func is functional.linear:
        return dense(*args, **kwargs) if _is_dense(*args, **kwargs) else None
    if not args or not _plain(args[0]):
        return None
    rest = args[1:]
    if func is functional.layer_norm:
        return layer_norm(*args, **kwargs)
    if changes_input(rest, kwargs):
        return None
    if func in SMOOTH:
        found: Tensor = _Smooth.apply(args[0], bound_call(SMOOTH[func], rest, kwargs))  # type: ignore[no-untyped-call]
    else:
        found = _Straight.apply(args[0], bound_call(STRAIGHT[func], rest, kwargs))  # type: ignore[no-untyped-call]
    return found


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
    squares = x * x  # (2 - x^2) phi
    bell = torch.mul(squares, -0.5).exp_()
    return bell.addcmul_(bell, squares, value=-0.5).mul_(math.sqrt(2 / math.pi))


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
