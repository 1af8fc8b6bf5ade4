"""Where piecewise-linear units bend: at levels, or where the largest of several changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from whynet.models.piecewise_linear_operations import (
    Call,
    Competitors,
    Handler,
    Operation,
    Read,
    Slot,
    Thresholds,
    Value,
    fill,
)


def kink(levels: Callable[[Call], tuple[float | Tensor, ...]], steepest: float = 1.0) -> Handler:
    """Make the handler of a continuous function of one number that bends at fixed levels."""

    def handler(call: Call) -> Read:
        if len(call.probes) > 1:
            return "bends at a level that depends on the input"
        return Operation(
            call.run, lambda squares: squares[0] * steepest**2, Thresholds(levels(call))
        )

    return handler


def at_zero(call: Call) -> tuple[float, ...]:
    """Return the one level of ReLU and its kin."""
    return (0.0,)


def leaky(call: Call) -> Read:
    """Read LeakyReLU: two slopes, one level."""
    slope = call.setting("negative_slope", 1, 0.01)
    return kink(at_zero, max(1.0, abs(slope)))(call)


def rrelu(call: Call) -> Read:
    """Read RReLU, whose slope is fixed in evaluation mode."""
    if call.setting("training", 3, False):
        return "draws its slope at random, because it is in training mode"
    return kink(at_zero, max(1.0, abs(call.setting("upper", 2, 1 / 3))))(call)


def prelu(call: Call) -> Read:
    """Read PReLU: a learned slope per channel, one level."""
    weight = call.setting("weight", 1, None)
    return kink(at_zero, max(1.0, float(weight.detach().abs().max())))(call)


def hardtanh(call: Call) -> Read:
    """Read Hardtanh: two levels."""
    low = call.setting("min_val", 1, -1.0)
    high = call.setting("max_val", 2, 1.0)
    return kink(lambda _: (float(low), float(high)))(call)


def softshrink(call: Call) -> Read:
    """Read Softshrink: two levels."""
    width = float(call.setting("lambd", 1, 0.5))
    return kink(lambda _: (-width, width))(call)


def threshold(call: Call) -> Read:
    """Read Threshold, which is continuous only where its value is its threshold."""
    level = call.setting("threshold", 1, 0.0)
    if level != call.setting("value", 2, 0.0):
        return "jumps, because its value is not its threshold"
    return kink(lambda _: (float(level),))(call)


def clamp(*names: str) -> Handler:
    """Make the handler of `clamp` (min and max), `clamp_min` and `clamp_max`."""

    def handler(call: Call) -> Read:
        bounds = [call.argument(place, name) for place, name in enumerate(names, start=1)]
        given = [bound for bound in bounds if bound is not None]
        if any(isinstance(bound, Slot) for bound in given):
            return "bends at a level that depends on the input"
        return kink(
            lambda _: tuple(b.detach() if isinstance(b, Tensor) else float(b) for b in given)
        )(call)

    return handler


def extreme_of_two(sign: int) -> Handler:
    """Make the handler of the maximum (sign 1) or minimum (-1) of two tensors.

    `torch.max` and `torch.min` are also called along an axis, where they return the extremes
    with their places: then the operation gives the extremes, and the reader takes them apart.
    """

    def handler(call: Call) -> Read:
        if len(call.args) != 2 or call.kwargs or not _both_tensors(call):
            if call.argument(1, "dim") is None:
                return "takes the largest over the examples of a batch"
            return extreme_of_axis(sign)(call)

        def gather(values: Sequence[Value]) -> Tensor:
            both: tuple[Tensor, Tensor] = fill(call.args, values)
            shape = (both[0] + both[1]).shape
            first, second = both[0].expand(shape), both[1].expand(shape)
            return sign * torch.stack(
                [first.reshape(first.shape[0], -1), second.reshape(second.shape[0], -1)], dim=-1
            )

        def spread(squares: Sequence[Value]) -> Tensor:
            first, second = fill(call.args, squares, torch.zeros_like)
            return torch.maximum(first, second)

        return Operation(call.run, spread, Competitors(gather, 2, sign))

    return handler


def _both_tensors(call: Call) -> bool:
    return all(isinstance(argument, Slot | Tensor) for argument in call.args)


def extreme_of_axis(sign: int) -> Handler:
    """Make the handler of `amax` (sign 1) or `amin` (-1)."""

    def handler(call: Call) -> Read:
        rank = call.probes[0].dim()
        dim, keep = call.argument(1, "dim", ()), call.argument(2, "keepdim", False)
        dims = [d % rank for d in ((dim,) if isinstance(dim, int) else dim or range(rank))]
        if 0 in dims:
            return "takes the largest over the examples of a batch"
        kept = [d for d in range(1, rank) if d not in dims]
        count = call.probes[0][0].numel() // max(
            1, torch.Size([call.probes[0].shape[d] for d in kept]).numel()
        )

        def gather(values: Sequence[Value]) -> Tensor:
            moved: Tensor = values[0].permute(0, *kept, *dims)
            return sign * moved.reshape(moved.shape[0], -1, count)

        def spread(squares: Sequence[Value]) -> Tensor:
            return torch.amax(squares[0], dim=dims, keepdim=keep)

        def apply(values: Sequence[Value]) -> Tensor:
            return (torch.amax if sign > 0 else torch.amin)(values[0], dim=dims, keepdim=keep)

        return Operation(apply, spread, Competitors(gather, count, sign))

    return handler


def max_pool(axes: int, adaptive: bool = False) -> Handler:
    """Make the handler of (adaptive) max pooling over the last `axes` axes."""

    def handler(call: Call) -> Read:
        if call.setting("return_indices", 6, False) is True:
            return "returns the places of its maxima too, which jump"
        probe = call.probes[0]
        sizes, made = probe.shape[-axes:], call.run(call.probes).shape[-axes:]
        if adaptive:
            along = [_adaptive_windows(n, m) for n, m in zip(sizes, made, strict=True)]
        else:
            kernel = call.setting("kernel_size", 1, None)
            kernel = _per_axis(kernel, axes)
            stride = call.setting("stride", 2, None)
            stride = _per_axis(stride, axes) if stride else kernel
            padding = _per_axis(call.setting("padding", 3, 0), axes)
            dilation = _per_axis(call.setting("dilation", 4, 1), axes)
            settings = zip(sizes, made, kernel, stride, padding, dilation, strict=True)
            along = [_windows(*setting) for setting in settings]
        index = _product_of_windows(along, sizes)

        def gather(values: Sequence[Value]) -> Tensor:
            flat: Tensor = values[0].flatten(-axes)
            return flat[..., index].reshape(flat.shape[0], -1, index.shape[1])

        return Operation(call.run, call.run, Competitors(gather, index.shape[1]))

    return handler


def _per_axis(setting: Any, axes: int) -> list[int]:
    values = [setting] if isinstance(setting, int) else list(setting)
    return values * axes if len(values) == 1 else values


def _windows(
    size: int, made: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[list[int]]:
    """Return, for each output place along one axis, the input places its window holds."""
    starts = [place * stride - padding for place in range(made)]
    whole = [[start + step * dilation for step in range(kernel)] for start in starts]
    return [[place for place in window if 0 <= place < size] for window in whole]


def _adaptive_windows(size: int, made: int) -> list[list[int]]:
    return [
        list(range(place * size // made, -((-(place + 1) * size) // made))) for place in range(made)
    ]


def _product_of_windows(along: list[list[list[int]]], sizes: Sequence[int]) -> Tensor:
    """Combine windows along axes to flat indices, int64 [places, competitors].

    Windows cut by the border repeat their first entry: equal competitors change nothing.
    """
    windows = []
    for place in product(*along):
        flat = [0]
        for axis, size in zip(place, sizes, strict=True):
            flat = [index * size + step for index in flat for step in axis]
        windows.append(flat)
    count = max(len(window) for window in windows)
    return torch.tensor([window + window[:1] * (count - len(window)) for window in windows])
