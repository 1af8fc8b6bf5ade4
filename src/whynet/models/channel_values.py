"""What every channel of a group is, up to a factor, over the whole input space.

A channel's value at a node is written as `factor * f(signature; x)`, where f depends on the
signature alone. Two channels of equal signatures at a node are therefore proportional there,
whatever the input: for a positively homogeneous activation the positive scale passes through, for
an odd one the sign, through any other nothing. Proofs are by structure; no data enters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from whynet.models.channel_nodes import (
    Activated,
    Entries,
    Filtered,
    Joined,
    Layer,
    Multiplied,
    Node,
    Normalized,
    Pooled,
    Produced,
    Scaled,
    Selected,
    Shifted,
    Summed,
    Unfollowed,
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
    rows = (weight.transpose(0, 1) if layer.turned else weight).flatten(1)
    bias = rows.new_zeros(len(rows)) if layer.bias is None else state[layer.bias].detach()
    return rows, bias


def affine_of(node: Node, state: State) -> tuple[Tensor, Tensor] | None:
    """Return weights and bias of a node that is an affine map of one layer's input, or None."""
    if isinstance(node, Produced):
        return rows_of(node.layer, state)
    if isinstance(node, Selected):
        inner = affine_of(node.child, state)
        return None if inner is None else (inner[0][node.index], inner[1][node.index])
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
        factor = one / torch.sqrt(numbers_of(node.variance, state) + node.epsilon)
        if node.weight is not None:
            factor = factor * numbers_of(node.weight, state)
        shift = zero if node.bias is None else numbers_of(node.bias, state)
        return factor, shift - numbers_of(node.mean, state) * factor
    constant = node.factor if isinstance(node, Scaled) else node.shift
    vector = numbers_of(constant, state) if isinstance(constant, Entries) else constant * one
    return (vector, zero) if isinstance(node, Scaled) else (one, vector)


def numbers_of(entries: Entries, state: State) -> Tensor:
    """Return the number of a parameter for each entry of a node."""
    return state[entries.name].detach().reshape(-1)[entries.places]


class Evaluation:
    """Evaluates nodes with given parameters, each once.

    Without `directions` signatures are left out (`[width, 0]`), which are as large as the weights.
    """

    def __init__(self, state: State, round_off: float, *, directions: bool = True) -> None:
        self._state, self._round_off, self._directions = state, round_off, directions
        self._known: dict[Node, Channels] = {}

    def channels(self, node: Node) -> Channels:
        """Return the channels of a node."""
        if node not in self._known:
            found = _with_constants(self._evaluate(node))
            if not self._directions:
                found = replace(found, signature=found.signature[:, :0])
            self._known[node] = found
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
        if isinstance(node, Filtered):
            return self._filtered(node)
        if isinstance(node, Selected):
            inner = vars(self.channels(node.child))
            return Channels(**{name: values[node.index] for name, values in inner.items()})
        if isinstance(node, Unfollowed):
            return self._unfollowed()
        if isinstance(node, Joined):
            return _join([self.channels(child) for child in node.children])
        assert isinstance(node, Summed | Multiplied)
        parts = [self.channels(child) for child in node.children]
        return _sum(parts) if isinstance(node, Summed) else _product(parts)

    def _affine(self, node: Node, rows: Tensor, bias: Tensor) -> Channels:
        length = rows.norm(dim=1)
        tiny = length <= self._round_off * float(length.max())
        if bool(tiny.any()):
            rows = torch.where(tiny[:, None], 0.0, rows)
        scale = torch.where(tiny, bias.abs(), length)
        low, high = self._range(node, rows, bias)
        if not self._directions:
            return Channels(scale, rows[:, :0], tiny, bias, low, high)
        both = torch.cat([rows, bias[:, None], tiny[:, None].to(rows)], 1)
        sign = _signs(both[:, :-1])
        factor = scale * sign
        both[:, :-1] *= (sign / scale.clamp_min(1e-300))[:, None]
        both[factor == 0] = 0.0
        return Channels(factor, both, tiny, bias, low, high)

    def _range(self, node: Node, rows: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return bounds from those of what the layer reads: finite only where these are."""
        while not isinstance(node, Produced):
            assert isinstance(node, Normalized | Scaled | Shifted | Selected)
            node = node.child
        source = node.layer.source
        unbounded = rows.abs().sum(1) > 0
        if source is None:
            ends = torch.where(unbounded, torch.inf, bias)
            return torch.where(unbounded, -torch.inf, bias), ends
        read = self.channels(source.node)
        low, high = read.low[source.columns], read.high[source.columns]
        positions = rows.shape[1] // len(low)
        if positions > 1:
            low, high = low.repeat_interleave(positions), high.repeat_interleave(positions)
        if node.layer.padded:
            low, high = low.clamp_max(0.0), high.clamp_min(0.0)
        least, most = _ends(rows, low, high)
        return bias + least, bias + most

    def _rescaled(self, node: Normalized | Scaled | Shifted) -> Channels:
        inner = self.channels(node.child)
        factor, shift = _factor_and_shift(node, self._state, inner.factor)
        return _rescaled(inner, factor, shift)

    def _filtered(self, node: Filtered) -> Channels:
        """Convolve every entry with its kernel; in direction and length, as for other weights."""
        inner = self.channels(node.child)
        rows = self._state[node.weight.name].detach().flatten(1)[node.weight.places]
        shift = torch.zeros_like(inner.factor)
        if node.bias is not None:
            shift = numbers_of(node.bias, self._state)
        low, high = inner.low, inner.high
        if node.padded:
            low, high = low.clamp_max(0.0), high.clamp_min(0.0)
        above, below = rows.clamp_min(0).sum(1), rows.clamp_max(0).sum(1)
        ends = _times(low, above) + _times(high, below), _times(high, above) + _times(low, below)
        length = rows.norm(dim=1)
        unit = rows / length.clamp_min(1e-300)[:, None]
        sign = _signs(unit)
        nothing = (length == 0) | (inner.factor == 0)
        signature = torch.cat([inner.signature, unit * sign[:, None]], 1)
        constant = inner.constant & ((inner.value == 0) | (not node.padded)) | nothing
        convolved = Channels(
            torch.where(nothing, 0.0, inner.factor * length * sign),
            torch.where(nothing[:, None], 0.0, signature),
            constant,
            torch.where(nothing, 0.0, inner.value * rows.sum(1)),
            torch.where(nothing, 0.0, _known(ends[0], -torch.inf)),
            torch.where(nothing, 0.0, _known(ends[1], torch.inf)),
        )
        return _rescaled(_with_constants(convolved), torch.ones_like(length), shift)

    def _unfollowed(self) -> Channels:
        one = torch.ones(1, dtype=torch.float64)
        nothing = torch.zeros(1, dtype=torch.bool)
        return Channels(one, one[:, None], nothing, one, -torch.inf * one, torch.inf * one)

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
            slope = numbers_of(node.slope, self._state)
            signature = torch.cat([signature, slope[:, None]], 1)
        low, high = self._activated_range(node, inner)
        constant = inner.constant | ((low == high) & low.isfinite())
        value = torch.where(inner.constant, _apply(node, inner.value, self._state), low)
        nothing = constant & (value == 0)
        factor = torch.where(nothing, 0.0, factor)
        signature[factor == 0] = 0.0
        return Channels(factor, signature, constant, value, low, high)

    def _activated_range(self, node: Activated, inner: Channels) -> tuple[Tensor, Tensor]:
        if node.name in MONOTONE:
            ends = _apply(node, inner.low, self._state), _apply(node, inner.high, self._state)
            return _known(ends[0], -torch.inf), _known(ends[1], torch.inf)
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


def _rescaled(inner: Channels, factor: Tensor, shift: Tensor) -> Channels:
    """Return channels multiplied by numbers and then others added, `[width]` both."""
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


def _with_constants(channels: Channels) -> Channels:
    """Write channels that are one number as multiples of the constant 1."""
    constant = channels.constant
    there = (constant & (channels.value != 0)).to(channels.factor)
    factor = torch.where(constant, channels.value, channels.factor)
    signature = torch.cat([channels.signature, there[:, None]], 1)
    signature[:, :-1][constant] = 0.0
    return replace(channels, factor=factor, signature=signature)


def _join(parts: list[Channels]) -> Channels:
    """Put channels one after the other; those of different parts are never called equal."""
    fields = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("factor", "constant", "value", "low", "high")
    }
    blocks: Any = torch.block_diag
    signature = blocks(*(part.signature for part in parts))
    return Channels(signature=signature, **fields)


def _apply(node: Activated, values: Tensor, state: State) -> Tensor:
    """Apply an activation to one value a channel."""
    if node.slope is not None:
        slope = numbers_of(node.slope, state)
        return torch.where(values >= 0, values, slope * values)
    result: Tensor = node.function(values[None])[0]
    return result


def _known(bound: Tensor, otherwise: float) -> Tensor:
    """Return a bound, infinite where arithmetic with infinities gives none."""
    return torch.where(bound.isnan(), otherwise, bound)


def _log(size: Tensor) -> Tensor:
    """Return sizes as a feature whose differences are relative ones, `[width, 1]`."""
    return size.clamp_min(1e-300).log()[:, None]


def _times(bound: Tensor, factor: Tensor) -> Tensor:
    return torch.where(factor == 0, 0.0, bound * factor)


def _ends(rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends of `rows @ x` for low <= x <= high, without inf times zero."""
    ends = torch.stack([low, high], 1)
    infinite = ends.isinf()
    finite, there = torch.where(infinite, 0.0, ends), infinite.to(rows)
    least, most = torch.zeros(2, len(rows), dtype=rows.dtype, device=rows.device)
    for weights, order in ((rows.clamp_min(0), (0, 1)), (rows.clamp_max(0), (1, 0))):
        found, without = weights @ finite, weights @ there != 0
        least += torch.where(without[:, order[0]], -torch.inf, found[:, order[0]])
        most += torch.where(without[:, order[1]], torch.inf, found[:, order[1]])
    return least, most


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
    low = _known(torch.stack([part.low for part in parts]).sum(0), -torch.inf)
    high = _known(torch.stack([part.high for part in parts]).sum(0), torch.inf)
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
