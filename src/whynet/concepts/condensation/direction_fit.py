"""Units that stay turned to where the large network's function wants them, by Gauss-Newton.

Eliminating units keeps some directions of the large network and merging averages them; where a
layer has gathered its units around a few directions without reaching them, neither is the best
that so few units can do. Here incoming and outgoing weights of the units of one layer are fitted
together to what the layer that reads them returned in the large network (Levenberg 1944; Marquardt
1963). Targets are values of the large network, on the data, at as many points between them, and
close beside them, where a certificate asks for the error too; then rows weigh by their errors, so
that the largest goes down. Labels and loss are never looked at. On the data alone this would be
training: a network that fits its data has no values there but the labels, and any architecture
that fits them would do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from whynet.concepts.condensation.refitting import Batches, Original, Run
from whynet.models.channel_flow import is_simple
from whynet.models.channel_nodes import Activated, Group, Layer, Produced
from whynet.models.layer_calls import (
    LayerCalled,
    from_rows,
    rows_read,
    watching_layers,
    weight_rows,
)
from whynet.models.resizing import held_state, set_tensor

MOST_PARAMETERS: Final = 160
"""Weights fitted together above which a layer is left as it is: a step costs their cube."""

ROWS_EACH: Final = 6
"""Target values there must be for each weight fitted, half of them close beside others; with fewer
the data would be learned by heart."""

_STEPS, _TRIES = 40, 8
_ENOUGH: Final = 1e-4
"""Relative decrease of the squared error below which no further step is made."""


_ROUNDS, _STEPS_EACH = 6, 6
"""Of reweighting rows by their errors, and steps of each."""

_REWEIGHTED: Final = (0.3, 3.0)
"""How much less and more a row may weigh after one of them."""


@dataclass(frozen=True, eq=False)
class _Units:
    """The units of one layer between two linear ones, as arrays.

    Attributes:
        incoming: `[units, features]`, with the bias as the last feature where there is one.
        outgoing: `[outputs, units]`, with the bias as the last unit where there is one.

    """

    incoming: Tensor
    outgoing: Tensor


def can_be_fitted(group: Group) -> bool:
    """Whether units stand between two linear layers with nothing but an activation between."""
    if not is_simple(group) or len(group.producers) != 1 or len(group.readers) != 1:
        return False
    producer, reader = group.producers[0], group.readers[0]
    if reader.source is None:
        return False
    node = reader.source.node
    return (
        isinstance(node, Activated)
        and node.slope is None
        and isinstance(node.child, Produced)
        and producer.kind in ("linear", "transposed")
        and reader.kind in ("linear", "transposed")
        and bool((reader.source.columns >= 0).all())
        and producer.weight != reader.weight
    )


def fit_directions(
    module: nn.Module,
    group: Group,
    original: Original,
    batches: Batches,
    run: Run,
    outputs: Mapping[str, Tensor],
) -> bool:
    """Fit incoming and outgoing weights of a layer's units to what its reader returned before.

    Args:
        module: the smaller network, changed in place where that lowers the error.
        group: units of it for which `can_be_fitted` holds.
        original: what layers returned in the large network.
        batches: makes an iterator over batches of inputs.
        run: calls the network.
        outputs: as in `refit`: what each output of the reader is of those before.

    Returns:
        Whether the weights were changed. Cost: one pass over the data, and for `p` weights at most
        40 solutions of order `p^3`.

    """
    producer, reader = group.producers[0], group.readers[0]
    state = held_state(module)
    units = _units(state, producer, reader)
    wanted = torch.cat(original.returned[reader.weight])
    wanted = wanted @ outputs[reader.weight].T if reader.weight in outputs else wanted
    count = units.incoming.numel() + units.outgoing.numel()
    if count > MOST_PARAMETERS or wanted.numel() < ROWS_EACH * count:
        return False
    rows = _rows(module, producer, batches, run)
    if producer.bias is not None:
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
    assert reader.source is not None and isinstance(reader.source.node, Activated)
    fit = _Fit(reader.source.node, rows, wanted, reader.bias is not None)
    found = fit.run(units)
    if found is None:
        return False
    found = fit.evened(found)
    _write(module, producer, found.incoming)
    _write(module, reader, found.outgoing)
    return True


def _units(state: Mapping[str, Tensor], producer: Layer, reader: Layer) -> _Units:
    parts = []
    for layer in (producer, reader):
        rows = weight_rows(layer, state[layer.weight].detach())
        if layer.bias is not None:
            rows = torch.cat([rows, state[layer.bias].detach()[:, None]], 1)
        parts.append(rows)
    return _Units(*parts)


def _write(module: nn.Module, layer: Layer, rows: Tensor) -> None:
    old = held_state(module)[layer.weight]
    if layer.bias is not None:
        set_tensor(module, layer.bias, rows[:, -1].clone())
        rows = rows[:, :-1]
    set_tensor(module, layer.weight, from_rows(layer, rows, old))


def _rows(module: nn.Module, layer: Layer, batches: Batches, run: Run) -> Tensor:
    """Return what a linear layer reads on the data, `[rows, features]`."""
    kept: list[Tensor] = []

    def see(call: LayerCalled) -> None:
        if call.layer.weight == layer.weight:
            rows = rows_read(call, held_state(module)[layer.weight])
            if rows is not None:
                kept.append(rows[0].clone())

    with torch.no_grad(), watching_layers(module, see):
        for inputs in batches():
            run(module, inputs)
    return torch.cat(kept)


class _Fit:
    """Levenberg and Marquardt's method for `activation(rows Vᵀ) Wᵀ = wanted`."""

    def __init__(self, node: Activated, rows: Tensor, wanted: Tensor, biased: bool) -> None:
        self.node, self.rows, self.wanted, self.biased = node, rows, wanted, biased
        self.scale = torch.ones(len(rows), 1, dtype=rows.dtype)

    def run(self, units: _Units, steps: int = _STEPS) -> _Units | None:
        """Return better weights, or None where the first step finds none."""
        damping, hidden, slopes, error = 1e-3, *self._forward(units)
        size, first = float(error.square().sum()), units
        floor = 1e-24 * float(self.wanted.square().sum())
        for _ in range(steps):
            gram, slope, scale = self._normal(units, hidden, slopes, error)
            before = size
            for _ in range(_TRIES):
                eye = torch.eye(len(gram), dtype=gram.dtype)
                move = torch.linalg.solve(gram + damping * eye, slope) / scale
                there = units.incoming.numel()
                tried = _Units(
                    units.incoming - move[:there].reshape(units.incoming.shape),
                    units.outgoing - move[there:].reshape(units.outgoing.shape),
                )
                made = self._forward(tried)
                fresh = float(made[2].square().sum())
                if fresh < size:
                    units, (hidden, slopes, error), size = tried, made, fresh
                    damping = max(damping / 5, 1e-12)
                    break
                damping *= 4
            if size <= floor or size > (1 - _ENOUGH) * before:
                break
        return None if units is first else units

    def evened(self, units: _Units) -> _Units:
        """Return weights whose largest error is lower, where reweighting rows finds them.

        Rows are weighted by their errors, again and again (Lawson 1961), which leads from least
        squares towards the least largest error.
        """
        best, weights = units, torch.ones_like(self.scale)
        size = self._forward(units)[2].abs().amax(1, keepdim=True)
        least = float(size.max())
        for _ in range(_ROUNDS):
            weights = weights * (size / size.mean().clamp_min(1e-300)).clamp(*_REWEIGHTED)
            self.scale = (weights / weights.mean()).sqrt()
            units = self.run(units, _STEPS_EACH) or units
            self.scale = torch.ones_like(weights)
            size = self._forward(units)[2].abs().amax(1, keepdim=True)
            if float(size.max()) < least:
                best, least = units, float(size.max())
        return best

    def _forward(self, units: _Units) -> tuple[Tensor, Tensor, Tensor]:
        """Return activities and slopes of the units on every row, and the error."""
        before = (self.rows @ units.incoming.T).requires_grad_()
        with torch.enable_grad():
            after = self.node.function(before)
            (slopes,) = torch.autograd.grad(after.sum(), before)
        hidden = after.detach()
        if self.biased:
            hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)
        error = hidden @ units.outgoing.T - self.wanted
        return self.scale * hidden, self.scale * slopes, self.scale * error

    def _normal(
        self, units: _Units, hidden: Tensor, slopes: Tensor, error: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the Gauss-Newton matrix with unit diagonal, the slope, and the scale of each."""
        rows, count = self.rows, len(units.incoming)
        weights = units.outgoing[:, :count]
        moved = (slopes[:, :, None] * rows[:, None, :]).flatten(1)
        spread = moved.T @ moved
        products = (weights.T @ weights).repeat_interleave(rows.shape[1], 0)
        inner = spread * products.repeat_interleave(rows.shape[1], 1)
        # Of an incoming weight of unit k and an outgoing one of output o: W_ok E[moved h].
        mixed = moved.T @ hidden
        owner = weights.repeat_interleave(rows.shape[1], 1)
        cross = owner.T[:, :, None] * mixed[:, None, :]
        outer = torch.kron(torch.eye(len(units.outgoing), dtype=rows.dtype), hidden.T @ hidden)
        cross = cross.flatten(1)
        gram = torch.cat([torch.cat([inner, cross], 1), torch.cat([cross.T, outer], 1)])
        back = ((error @ weights) * slopes).T @ rows
        slope = torch.cat([back.flatten(), (error.T @ hidden).flatten()])
        scale = gram.diagonal().sqrt().clamp_min(1e-150)
        return gram / torch.outer(scale, scale), slope / scale, scale
