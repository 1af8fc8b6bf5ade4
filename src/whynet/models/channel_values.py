"""What every channel of a group is, up to a factor, over the whole input space.

A channel's value at a node is written as `factor * f(signature; x)`, where f depends on the
signature alone. Two channels of equal signatures at a node are therefore proportional there,
whatever the input: for a positively homogeneous activation the positive scale passes through, for
an odd one the sign, through any other nothing. Proofs are by structure; no data enters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from whynet.models.channel_nodes import (
    Activated,
    Layer,
    Multiplied,
    Node,
    Normalized,
    Pooled,
    Produced,
    Scaled,
    Shifted,
    Summed,
)

HOMOGENEOUS: Final = frozenset({"relu", "leaky_relu", "prelu", "rrelu"})
"""Activations with f(r z) = r f(z) for r > 0."""

ODD: Final = frozenset({"tanh", "softsign", "sin", "erf", "tanhshrink", "softshrink", "hardshrink"})
EVEN: Final = frozenset({"cos"})

MONOTONE: Final = frozenset(
    [
        "relu",
        "relu6",
        "leaky_relu",
        "hardtanh",
        "tanh",
        "sigmoid",
        "hardsigmoid",
        "softplus",
        "softsign",
        "elu",
        "selu",
        "celu",
        "erf",
        "logsigmoid",
        "clamp",
        "clamp_min",
        "softshrink",
        "tanhshrink",
    ]
)

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a node.

    Attributes:
        factor: `[width]`, what the function of the signature is multiplied by; 0 for none.
        signature: `[width, features]`; zero where the factor is.
        constant: `[width]`, whether the channel is the same number everywhere, `value`.
        value: `[width]`, that number where it is.
        low: `[width]`, a lower bound over the whole input space, possibly -inf.
        high: `[width]`, an upper bound, possibly inf.

    """

    factor: Tensor
    signature: Tensor
    constant: Tensor
    value: Tensor
    low: Tensor
    high: Tensor


def rows_of(layer: Layer, state: State) -> tuple[Tensor, Tensor]:
    """Return the weights of a layer as `[outputs, ...flattened]`, and its bias, zero for none."""
    weight = state[layer.weight].detach()
    rows = weight.T if layer.kind == "transposed" else weight.flatten(1)
    bias = rows.new_zeros(len(rows)) if layer.bias is None else state[layer.bias].detach()
    return rows, bias


def affine_of(node: Node, state: State) -> tuple[Tensor, Tensor] | None:
    """Return weights and bias of a node that is an affine map of one layer's input, or None."""
    if isinstance(node, Produced):
        return rows_of(node.layer, state)
    if isinstance(node, Normalized | Scaled | Shifted):
        inner = affine_of(node.child, state)
        if inner is None:
            return None
        factor, shift = _factor_and_shift(node, state, inner[1])
        return inner[0] * factor[:, None], inner[1] * factor + shift
    return None


def _factor_and_shift(
    node: Normalized | Scaled | Shifted, state: State, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what a node multiplies each channel by and then adds, `[width]` both."""
    one, zero = torch.ones_like(like), torch.zeros_like(like)
    if isinstance(node, Normalized):
        factor = one / torch.sqrt(state[node.variance] + node.epsilon)
        if node.weight is not None:
            factor = factor * state[node.weight].detach()
        shift = zero if node.bias is None else state[node.bias].detach()
        return factor, shift - state[node.mean] * factor
    constant = node.factor if isinstance(node, Scaled) else node.shift
    vector = state[constant].detach().reshape(-1) if isinstance(constant, str) else constant * one
    return (vector, zero) if isinstance(node, Scaled) else (one, vector)


class Evaluation:
    """Evaluates nodes with given parameters, each once."""

    def __init__(self, state: State, round_off: float) -> None:
        self._state, self._round_off = state, round_off
        self._known: dict[Node, Channels] = {}

    def channels(self, node: Node) -> Channels:
        """Return the channels of a node."""
        if node not in self._known:
            self._known[node] = self._evaluate(node)
        return self._known[node]

    def _evaluate(self, node: Node) -> Channels:
        affine = affine_of(node, self._state)
        if affine is not None:
            return self._affine(node, *affine)
        if isinstance(node, Normalized | Scaled | Shifted):
            return self._rescaled(node)
        if isinstance(node, Activated):
            return self._activated(node)
        if isinstance(node, Pooled):
            return self._pooled(node)
        assert isinstance(node, Summed | Multiplied)
        parts = [self.channels(child) for child in node.children]
        return _sum(parts) if isinstance(node, Summed) else _product(parts)

    def _affine(self, node: Node, rows: Tensor, bias: Tensor) -> Channels:
        length = rows.norm(dim=1)
        tiny = length <= self._round_off * float(length.max())
        rows = torch.where(tiny[:, None], 0.0, rows)
        scale = torch.where(tiny, bias.abs(), length)
        unit = torch.cat([rows, bias[:, None]], 1) / scale.clamp_min(1e-300)[:, None]
        sign = _signs(unit)
        signature = torch.cat([unit * sign[:, None], tiny[:, None].to(rows)], 1)
        low, high = self._range(node, rows, bias)
        factor = scale * sign
        signature = torch.where((factor != 0)[:, None], signature, 0.0)
        return Channels(factor, signature, tiny, bias, low, high)

    def _range(self, node: Node, rows: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return bounds from those of what the layer reads: finite only where these are."""
        while not isinstance(node, Produced):
            assert isinstance(node, Normalized | Scaled | Shifted)
            node = node.child
        source = node.layer.source
        unbounded = rows.abs().sum(1) > 0
        if source is None:
            ends = torch.where(unbounded, torch.inf, bias)
            return torch.where(unbounded, -torch.inf, bias), ends
        read = self.channels(source.node)
        low, high = read.low[source.columns], read.high[source.columns]
        if node.layer.kind == "convolution":
            positions = rows.shape[1] // len(low)
            low, high = low.repeat_interleave(positions), high.repeat_interleave(positions)
        if node.layer.padded:
            low, high = low.clamp_max(0.0), high.clamp_min(0.0)
        return bias + _lowest(rows, low, high), bias - _lowest(-rows, low, high)

    def _rescaled(self, node: Normalized | Scaled | Shifted) -> Channels:
        inner = self.channels(node.child)
        factor, shift = _factor_and_shift(node, self._state, inner.factor)
        constant = inner.constant | (factor == 0)
        value = torch.where(factor == 0, shift, inner.value * factor + shift)
        ends = torch.stack([_times(inner.low, factor), _times(inner.high, factor)]) + shift
        scale = inner.factor * factor
        safe = torch.where(scale == 0, 1.0, scale)
        # A channel that is nothing but the shift is that constant.
        extra = torch.where(scale == 0, torch.where(shift == 0, 0.0, 1.0), shift / safe)
        alone = torch.where((scale == 0)[:, None], 0.0, inner.signature)
        signature = torch.cat(
            [alone, extra[:, None], ((scale == 0) & (shift != 0)).to(scale)[:, None]], 1
        )
        scale = torch.where(scale == 0, shift, scale)
        return Channels(scale, signature, constant, value, ends.amin(0), ends.amax(0))

    def _activated(self, node: Activated) -> Channels:
        inner = self.channels(node.child)
        factor, signature = inner.factor, inner.signature
        size, sign = factor.abs(), torch.sign(factor)
        if node.name in HOMOGENEOUS:
            signature, factor = torch.cat([signature, sign[:, None]], 1), size
        elif node.name in ODD:
            signature, factor = torch.cat([signature, _log(size)], 1), sign
        elif node.name in EVEN:
            signature, factor = torch.cat([signature, _log(size)], 1), torch.ones_like(size)
        else:
            signature = torch.cat([signature, sign[:, None], _log(size)], 1)
            factor = torch.ones_like(size)
        if node.slope is not None:
            slope = self._state[node.slope].detach().reshape(-1)
            signature = torch.cat([signature, slope[:, None]], 1)
        low, high = self._activated_range(node, inner)
        constant = inner.constant | ((low == high) & low.isfinite())
        value = torch.where(inner.constant, _apply(node, inner.value, self._state), low)
        nothing = constant & (value == 0)
        factor = torch.where(nothing, 0.0, factor)
        signature = torch.where((factor == 0)[:, None], 0.0, signature)
        return Channels(factor, signature, constant, value, low, high)

    def _activated_range(self, node: Activated, inner: Channels) -> tuple[Tensor, Tensor]:
        if node.name in MONOTONE:
            ends = _apply(node, inner.low, self._state), _apply(node, inner.high, self._state)
            return ends[0].nan_to_num(nan=-torch.inf), ends[1].nan_to_num(nan=torch.inf)
        return torch.full_like(inner.low, -torch.inf), torch.full_like(inner.low, torch.inf)

    def _pooled(self, node: Pooled) -> Channels:
        inner = self.channels(node.child)
        if node.largest:  # of a negative multiple it is the smallest
            sign = torch.sign(inner.factor)
            signature = torch.cat([inner.signature, sign[:, None]], 1)
            inner = replace(inner, factor=inner.factor.abs(), signature=signature)
        if not node.padded:
            return inner
        constant = inner.constant & (inner.value == 0)
        low, high = inner.low.clamp_max(0.0), inner.high.clamp_min(0.0)
        return replace(inner, constant=constant, low=low, high=high)


def _apply(node: Activated, values: Tensor, state: State) -> Tensor:
    """Apply an activation to one value a channel."""
    if node.slope is not None:
        slope = state[node.slope].detach().reshape(-1)
        return torch.where(values >= 0, values, slope * values)
    result: Tensor = node.function(values[None])[0]
    return result


def _log(size: Tensor) -> Tensor:
    """Return sizes as a feature whose differences are relative ones, `[width, 1]`."""
    return size.clamp_min(1e-300).log()[:, None]


def _times(bound: Tensor, factor: Tensor) -> Tensor:
    return torch.where(factor == 0, 0.0, bound * factor)


def _lowest(rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the smallest value of `rows @ x` for low <= x <= high, without inf times zero."""
    total = torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)
    for weights, bound in ((rows.clamp_min(0), low), (rows.clamp_max(0), high)):
        infinite = bound.isinf()
        total += weights @ torch.where(infinite, 0.0, bound)
        total[(weights[:, infinite] != 0).any(1)] = -torch.inf
    return total


def _signs(rows: Tensor) -> Tensor:
    """Return a sign for each row that its negative would have the other way: of a projection."""
    generator = torch.Generator().manual_seed(0)
    fixed = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64).to(rows)
    sign = torch.sign(rows @ fixed)
    return torch.where(sign == 0, 1.0, sign)


def _sum(parts: list[Channels]) -> Channels:
    factors = torch.stack([part.factor for part in parts], 1)
    size = factors.norm(dim=1)
    unit = factors / size.clamp_min(1e-300)[:, None]
    sign = _signs(unit)
    signature = torch.cat([*(part.signature for part in parts), unit * sign[:, None]], 1)
    factor = size * sign
    constant = torch.stack([part.constant for part in parts]).all(0)
    value = torch.stack([part.value for part in parts]).sum(0)
    low = torch.stack([part.low for part in parts]).sum(0).nan_to_num(nan=-torch.inf)
    high = torch.stack([part.high for part in parts]).sum(0).nan_to_num(nan=torch.inf)
    return Channels(factor, signature, constant, value, low, high)


def _product(parts: list[Channels]) -> Channels:
    factor = torch.stack([part.factor for part in parts]).prod(0)
    nothing = torch.stack([part.constant & (part.value == 0) for part in parts]).any(0)
    factor = torch.where(nothing, 0.0, factor)
    signature = torch.cat([part.signature for part in parts], 1)
    signature = torch.where((factor == 0)[:, None], 0.0, signature)
    constant = torch.stack([part.constant for part in parts]).all(0) | nothing
    value = torch.where(nothing, 0.0, torch.stack([part.value for part in parts]).prod(0))
    infinite = torch.full_like(factor, torch.inf)
    low, high = torch.where(constant, value, -infinite), torch.where(constant, value, infinite)
    return Channels(factor, signature, constant, value, low, high)
