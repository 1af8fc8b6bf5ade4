"""Smooth operations in the parts that bounds are proven for: curves, products and affine maps.

Softmax is read as `1 / sum_j exp(x_j - x_i)`, which needs no product (as Bonaert et al. 2021,
doi:10.1145/3453483.3454056, do); normalization by its centered values, their mean square, its
inverse root, and a product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whynet.models import piecewise_linear_operations as affine
from whynet.models import smooth_curves as curves
from whynet.models.piecewise_linear_operations import (
    Apply,
    Call,
    Composite,
    Curve,
    Handler,
    Operation,
    Part,
    Product,
    Read,
    Slot,
    Value,
)


def _no_spread(squares: Sequence[Value]) -> Value:
    raise NotImplementedError("round-off is followed through piecewise-linear steps only")


def _affine(apply: Apply, *, monotone: bool = False) -> Operation:
    """Make an affine operation; `monotone` where its weights are at least zero, of one input."""
    if not monotone:
        return Operation(apply, _no_spread)
    return Operation(apply, _no_spread, interval=lambda low, high: (apply([low]), apply([high])))


def _curved(curve: Curve) -> Operation:
    return Operation(lambda values: curve.value(values[0]), _no_spread, curved=curve)


def _product(apply: Apply) -> Operation:
    return Operation(apply, _no_spread, curved=Product())


def curve(choose: Callable[[Call], Curve]) -> Handler:
    """Make the handler of a function of one number."""

    def handler(call: Call) -> Read:
        if len(call.probes) > 1 or (call.module is None and not isinstance(call.args[0], Slot)):
            return "takes a second value that depends on the input"
        return Operation(call.run, _no_spread, curved=choose(call))

    return handler


def gelu(call: Call) -> Curve:
    """Choose the exact GELU or the one by tanh."""
    exact = call.setting("approximate", 1, "none") == "none"
    return curves.GELU if exact else curves.TANH_GELU


def softplus(call: Call) -> Curve:
    """Choose softplus of its steepness."""
    return curves.softplus(call.setting("beta", 1, 1), call.setting("threshold", 2, 20))


def elu(call: Call) -> Curve:
    """Choose ELU of its alpha."""
    return curves.exponential_unit("elu", 1.0, call.setting("alpha", 1, 1.0))


def selu(call: Call) -> Curve:
    """Choose SELU, whose constants are fixed."""
    return curves.exponential_unit("selu", 1.0507009873554805, 1.6732632423543772)


def celu(call: Call) -> Curve:
    """Choose CELU of its alpha."""
    alpha = call.setting("alpha", 1, 1.0)
    return curves.exponential_unit("celu", 1.0, alpha, alpha)


def raised(call: Call) -> Read:
    """Read powers."""
    exponent = call.argument(1, "exponent")
    named = {0.5: curves.ROOT, -0.5: curves.INVERSE_ROOT, -1: curves.RECIPROCAL, 2: curves.SQUARE}
    if isinstance(exponent, int | float) and exponent in named:
        return curve(lambda _: named[exponent])(call)
    if isinstance(exponent, int) and exponent > 2:
        return curve(lambda _: curves.power(exponent))(call)
    return "raises to a power other than a whole one, ±1/2 or -1"


def multiply(call: Call) -> Read:
    """Read products: by constants, of two values, and squares."""
    if len(call.probes) == 1:
        return affine.multiply(call)
    if call.probes[0] is call.probes[1] and call.run(call.probes).shape == call.probes[0].shape:
        squares = call.probes[0] ** 2
        if torch.equal(call.run(call.probes), squares):
            whole = Operation(lambda v: torch.square(v[0]), _no_spread, curved=curves.SQUARE)
            return Composite((Part((0,), whole),))
    return _product(call.run)


def divide(call: Call) -> Read:
    """Read division by a value: the product with its reciprocal."""
    over = isinstance(call.argument(1, "other"), Slot)
    if not over or call.kwargs.get("rounding_mode") is not None:
        return affine.divide(call)
    inverse = _curved(curves.RECIPROCAL)
    if len(call.probes) == 1:
        top = call.args[0]
        scaled = _affine(lambda values: top * values[0])
        return Composite((Part((0,), inverse), Part((1,), scaled)))
    times = _product(lambda values: values[0] * values[1])
    return Composite((Part((1,), inverse), Part((0, 2), times)))


def monotone(handler: Handler, needs: Callable[[Call], bool] = lambda call: True) -> Handler:
    """Say of affine operations that their weights are at least zero."""

    def found(call: Call) -> Read:
        read = handler(call)
        if not isinstance(read, Operation) or len(call.probes) > 1 or not needs(call):
            return read
        if not isinstance(call.probes[0], Tensor) or read.bends is not None:
            return read
        return replace(read, interval=lambda low, high: (read.apply([low]), read.apply([high])))

    return found


def adds(call: Call) -> bool:
    """Whether a sum or difference takes its value with weight 1."""
    return isinstance(call.args[0], Slot) and call.kwargs.get("alpha", 1) == 1


def glu(call: Call) -> Read:
    """Read GLU: one half times the sigmoid of the other."""
    dim = call.setting("dim", 1, -1)
    first = _affine(lambda values: values[0].chunk(2, dim)[0])
    second = _affine(lambda values: values[0].chunk(2, dim)[1])
    times = _product(lambda values: values[0] * values[1])
    return Composite(
        (
            Part((0,), first),
            Part((0,), second),
            Part((2,), _curved(curves.SIGMOID)),
            Part((1, 3), times),
        )
    )


def mish(call: Call) -> Read:
    """Read Mish: x times the tanh of its softplus."""
    times = _product(lambda values: values[0] * values[1])
    return Composite(
        (
            Part((0,), _curved(curves.softplus(1.0, math.inf))),
            Part((1,), _curved(curves.TANH)),
            Part((0, 2), times),
        )
    )


def log_sigmoid(call: Call) -> Read:
    """Read the logarithm of the sigmoid: minus the softplus of -x."""
    return Composite(
        (
            Part((0,), _affine(lambda values: -values[0])),
            Part((1,), _curved(curves.softplus(1.0, math.inf))),
            Part((2,), _affine(lambda values: -values[0])),
        )
    )


def _normalized(
    spread_out: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    axes: tuple[int, ...],
    epsilon: float,
    centered: bool,
) -> Composite:
    """Return normalization over axes of `spread_out` of the input; `back` scales and shifts."""

    def center(values: Sequence[Value]) -> Tensor:
        whole = spread_out(values[0])
        return whole - whole.mean(axes, keepdim=True) if centered else whole

    mean = _affine(lambda v: v[0].mean(axes, keepdim=True) + epsilon, monotone=True)
    times = _product(lambda values: values[0] * values[1])
    return Composite(
        (
            Part((0,), _affine(center)),
            Part((1,), _curved(curves.SQUARE)),
            Part((2,), mean),
            Part((3,), _curved(curves.INVERSE_ROOT)),
            Part((1, 4), times),
            Part((5,), _affine(lambda values: back(values[0]))),
        )
    )


def _setting(call: Call, name: str, place: int, default: Any = None) -> Any:
    value = call.setting(name, place, default)
    return value.detach() if isinstance(value, Tensor) else value


def shape_normalized(centered: bool) -> Handler:
    """Make the handler of LayerNorm or RMSNorm."""

    def handler(call: Call) -> Read:
        if len(call.probes) > 1:
            return "scales by weights that depend on the input"
        shape = _setting(call, "normalized_shape", 1)
        axes = tuple(range(-len(tuple(shape)), 0))
        weight = _setting(call, "weight", 2)
        bias = _setting(call, "bias", 3) if centered else None
        epsilon = _setting(call, "eps", 4 if centered else 3, 1e-5 if centered else None)
        epsilon = torch.finfo(torch.float64).eps if epsilon is None else epsilon

        def back(value: Tensor) -> Tensor:
            scaled = value if weight is None else value * weight
            return scaled if bias is None else scaled + bias

        return _normalized(lambda x: x, back, axes, epsilon, centered)

    return handler


def group_norm(call: Call) -> Read:
    """Read GroupNorm."""
    if len(call.probes) > 1:
        return "scales by weights that depend on the input"
    groups = _setting(call, "num_groups", 1)
    weight, bias = _setting(call, "weight", 2), _setting(call, "bias", 3)
    epsilon = _setting(call, "eps", 4, 1e-5)
    shape = tuple(call.probes[0].shape[1:])
    channels = (-1, *[1] * (len(shape) - 1))

    def back(value: Tensor) -> Tensor:
        whole = value.reshape(len(value), *shape)
        whole = whole if weight is None else whole * weight.reshape(channels)
        return whole if bias is None else whole + bias.reshape(channels)

    return _normalized(lambda x: x.reshape(len(x), groups, -1), back, (2,), epsilon, True)


def _softmax_parts(place: int, dim: int, allowed: Tensor | None, log: bool) -> tuple[Part, ...]:
    """Return softmax of the value at a place, `1 / sum_j exp(x_j - x_i)`; j, i where allowed."""

    def differ(values: Sequence[Value]) -> Value:
        last = values[0].movedim(dim, -1)
        return last.unsqueeze(-2) - last.unsqueeze(-1)

    def ends(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        least, most = (x.movedim(dim, -1) for x in (low, high))
        same = torch.eye(least.shape[-1], dtype=torch.bool)
        lowest = least.unsqueeze(-2) - most.unsqueeze(-1)
        highest = most.unsqueeze(-2) - least.unsqueeze(-1)
        return torch.where(same, 0.0, lowest), torch.where(same, 0.0, highest)

    differences = Operation(differ, _no_spread, interval=ends, carried=False)

    def total(values: Sequence[Value]) -> Value:
        if allowed is None:
            return values[0].sum(-1)
        # A row that is not asked for is one, so that its reciprocal is harmless.
        summed = (values[0] * allowed.unsqueeze(-2)).sum(-1)
        return torch.where(allowed, summed, torch.ones_like(summed))

    def end(values: Sequence[Value]) -> Value:
        found = -values[0] if log else values[0]
        found = found if allowed is None else found * allowed
        return found.movedim(-1, dim)

    return (
        Part((place,), differences),
        Part((place + 1,), _curved(curves.EXPONENTIAL)),
        Part((place + 2,), _affine(total, monotone=True)),
        Part((place + 3,), _curved(curves.LOGARITHM if log else curves.RECIPROCAL)),
        Part((place + 4,), _affine(end, monotone=not log)),
    )


def softmax(log: bool) -> Handler:
    """Make the handler of softmax or its logarithm."""

    def handler(call: Call) -> Read:
        dim = call.setting("dim", 1, None)
        rank = call.probes[0].dim()
        if dim is None or dim % rank == 0:
            return "normalizes over the examples of a batch, or over an axis that is not named"
        return Composite(_softmax_parts(0, dim % rank, None, log))

    return handler


def attention(call: Call) -> Read:
    """Read `scaled_dot_product_attention`: two products around a softmax."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = dict(zip(names, call.args, strict=False)) | call.kwargs
    slots = [given.get(name) for name in names[:3]]
    if len(call.probes) != 3 or not all(isinstance(slot, Slot) for slot in slots):
        return "attends to keys or by a mask that do not come from the input as its queries do"
    if given.get("dropout_p", 0.0) or given.get("enable_gqa", False):
        return "draws at random or repeats heads, which has no bound here"
    places = [slot.position for slot in slots if isinstance(slot, Slot)]
    query, key = (call.probes[place] for place in places[:2])
    scale = given.get("scale") or 1 / math.sqrt(query.shape[-1])
    if scale < 0:
        return "scales by a negative number, which has no bound here"
    mask = given.get("attn_mask")
    shape = (query.shape[-2], key.shape[-2])
    allowed, bias = None, None
    if given.get("is_causal", False):
        allowed = torch.ones(shape, dtype=torch.bool).tril()
    elif mask is not None and mask.dtype == torch.bool:
        allowed = mask.expand(*mask.shape[:-2], *shape)
    elif mask is not None:
        allowed, bias = mask != -torch.inf, torch.where(mask == -torch.inf, 0.0, mask.double())
        allowed = allowed.expand(*mask.shape[:-2], *shape)

    score = _product(lambda v: scale * (v[0] @ v[1].transpose(-2, -1)))
    shift = _affine(lambda v: v[0] if bias is None else v[0] + bias, monotone=True)
    mixed = _product(lambda values: values[0] @ values[1])
    begin = (Part((places[0], places[1]), score), Part((3,), shift))
    inner = _softmax_parts(4, query.dim() - 1, allowed, False)
    return Composite((*begin, *inner, Part((9, places[2]), mixed)))
