"""Products with the Jacobian of few outputs, from stored inputs of layers and signals back to them.

With a_l what enters layer l and d_l[c] what comes back to it from output c of the same row, both
stored once, the derivative of output c along a change V of the weights is sum_l <d_l[c], V_l a_l>,
and the transposed at weights u of the outputs is (sum_c u_c d_l[c]) a_l'. That is one matrix
product a layer each, where differentiation takes two and more passes over memory, and sums over the
outputs. Parameters that have no more numbers than what they act on (biases, scales, small kernels)
are kept as written-out gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from whynet.derivatives.flat import Vector
from whynet.derivatives.objective import Objective
from whynet.derivatives.parameter_uses import Reading, Use
from whynet.derivatives.row_jacobians import rows_of
from whynet.derivatives.use_gradients import Axis, Seen, of_reading
from whynet.derivatives.use_tangents import Link, link_of, shaped
from whynet.derivatives.watched_passes import ROWS, Structure, structure_of, watched
from whynet.models.fitting_rows import row_count
from whynet.numerics.long_products import long_product
from whynet.numerics.signal_sums import add_pushed, pull_signals

DTYPES = {torch.float32, torch.float64}

MATRICES = ("dense", "convolution", "table")
"""Uses that can be kept as factors."""


@dataclass(frozen=True)
class SignalPlan:
    """How the gradients of all outputs are stored, and what that takes for a row.

    Attributes:
        keys: what the uses of parameters must be at every call.
        axes: of each use, where the rows stand.
        linked: places of uses that are kept as what enters and what comes back.
        written: places of uses and which of their two readings, whose gradients are written out.
        outputs: C.
        entering: numbers of what enters that are kept.
        signals: numbers of an output's signals and gradients.
        products: multiplications of the matrix products of a forward pass.
        linked_products: those of the uses that are linked.
        leaving: numbers that leave all uses.
        widest: most numbers that leave a use that is linked.

    """

    keys: tuple[tuple[object, ...], ...]
    axes: tuple[Axis, ...]
    linked: tuple[int, ...]
    written: tuple[tuple[int, Literal["weight", "bias"]], ...]
    outputs: int
    entering: int
    signals: int
    products: int
    linked_products: int
    leaving: int
    widest: int

    @property
    def numbers(self) -> int:
        """Numbers held for a row."""
        return self.entering + self.outputs * self.signals


def plan_signals(objective: Objective, inputs: Any) -> SignalPlan | None:
    """Return how signals are stored; None where a use of a parameter is not known.

    Args:
        objective: whose outputs; each row's must hang on that row alone.
        inputs: a batch; its first row is used.

    Cost: forward passes over two and over three rows, and over one.

    """
    parameters = objective.parameters
    dtypes = {p.dtype for p in parameters.values()}
    if not objective.separable or len(dtypes) > 1 or not dtypes <= DTYPES:
        return None
    try:
        found = structure_of(objective.forward, parameters, inputs)
        with torch.no_grad():
            outputs = objective.forward(parameters, rows_of(inputs, 0, 1))
    except Exception:  # noqa: BLE001 - a network that cannot be watched is differentiated as before
        return None
    if found is None or found.others or not found.used or outputs.ndim == 0 or len(outputs) != 1:
        return None
    if outputs.dtype not in dtypes:
        return None
    return _planned(found, outputs.numel())


def _planned(found: Structure, outputs: int) -> SignalPlan:
    """Keep a use as factors where its signals are fewer than its parameters; count."""
    linked: list[int] = []
    written: list[tuple[int, Literal["weight", "bias"]]] = []
    entering = signals = 0
    for place, use in enumerate(found.uses):
        numbers = _leaving(use)
        weight = use.weight if use.kind in MATRICES else None
        if weight is not None and weight.tensor.numel() > numbers:
            linked.append(place)
            entering += 0 if use.entering is None else use.entering.numel() // ROWS
            signals += numbers
            continue
        for reading in use.readings:
            written.append((place, "weight" if reading is use.weight else "bias"))
            signals += reading.tensor.numel()
    return SignalPlan(
        found.keys,
        tuple(axis or Axis(0, 1) for axis in found.axes),
        tuple(linked),
        tuple(written),
        outputs,
        entering,
        signals,
        sum(_products(use) for use in found.uses),
        sum(_products(found.uses[place]) for place in linked),
        sum(_leaving(use) for use in found.uses),
        max((_leaving(found.uses[place]) for place in linked), default=0),
    )


def _leaving(use: Use) -> int:
    """Numbers that leave a use for a row."""
    return use.leaving.numel() // ROWS


def _products(use: Use) -> int:
    """Multiplications of a row's matrix product."""
    if use.kind not in ("dense", "convolution") or use.weight is None:
        return 0
    units = use.leaving.shape[1 if use.kind == "convolution" else -1]
    return _leaving(use) * (use.weight.tensor.numel() // units)


@dataclass(frozen=True)
class StoredJacobian:
    """The derivatives of all outputs of n rows by the parameters.

    Attributes:
        outputs: `[n, ...]`, C numbers a row.
        shapes: of the parameters, by name, in order.
        links: of the uses that are kept as factors, with their signals `[n, T, C, U]`.
        readings: names of what is written out, and how many numbers.
        written: `[n, C, W]`, one after another.

    """

    outputs: Tensor
    shapes: dict[str, torch.Size]
    links: tuple[tuple[Link, Tensor], ...]
    readings: tuple[tuple[str, int], ...]
    written: Tensor

    def push(self, vectors: Vector) -> Tensor:
        """Return J v of vectors `[k, *shape]`, one tensor a parameter: `[k, *outputs.shape]`."""
        changes = dict(zip(self.shapes, vectors, strict=True))
        count = len(vectors[0])
        columns = [changes[name].reshape(count, -1) for name, _ in self.readings]
        held = torch.cat([*columns, self.written.new_empty(count, 0)], dim=1)
        total = long_product(self.written, held.T)
        for link, signals in self.links:
            _add_pushed(signals, link.moved(changes), total)
        return total.movedim(2, 0).reshape(count, *self.outputs.shape).to(self.outputs.dtype)

    def pull(self, cotangents: Tensor) -> Vector:
        """Return J'u of weights of the outputs `[k, *outputs.shape]`, `[k, *shape]` a parameter."""
        count, rows = len(cotangents), len(self.outputs)
        weights = cotangents.reshape(count, rows, -1)
        found = {name: weights.new_zeros((count, *shape)) for name, shape in self.shapes.items()}
        summed = weights.flatten(1) @ self.written.flatten(0, 1)
        spans = torch.split(summed, [size for _, size in self.readings], dim=1)
        for (name, _), part in zip(self.readings, spans, strict=True):
            found[name] += part.reshape(found[name].shape)
        columns = weights.permute(1, 2, 0).contiguous()
        for link, signals in self.links:
            for name, part in link.collected(_pulled(signals, columns)).items():
                found[name] += part
        return tuple(found.values())


def store_signals(objective: Objective, plan: SignalPlan, inputs: Any) -> StoredJacobian | None:
    """Store the derivatives of all outputs of some rows.

    Args:
        objective: whose outputs.
        plan: how.
        inputs: rows.

    Returns:
        None where the network uses its parameters in another way on these rows.

    Cost: a forward pass, and C backward passes without the gradients of what is linked. Memory:
    `plan.numbers` a row and the graph of the outputs.

    """
    watch, outputs = watched(objective.forward, objective.parameters, inputs)
    rows = row_count(inputs)
    if tuple(use.key for use in watch.uses) != plan.keys or len(outputs) != rows:
        return None
    flat = outputs.reshape(rows, -1)
    uses, count = watch.uses, flat.shape[1]
    readings = [_reading(uses[place], kind) for place, kind in plan.written]
    sizes = [reading.tensor.numel() for reading in readings]
    signals = [_empty(uses[i], plan.axes[i], rows, count) for i in plan.linked]
    written = flat.new_empty(rows, count, sum(sizes))
    parts = torch.split(written, sizes, dim=2)
    for c in range(count):
        back = _backward(flat, c, uses)
        for i, held in zip(plan.linked, signals, strict=True):
            held[:, :, c] = shaped(back[i], uses[i], plan.axes[i], rows)
        for (i, _), reading, into in zip(plan.written, readings, parts, strict=True):
            seen = Seen(uses[i], back[i][None], plan.axes[i], rows)
            into[:, c] = of_reading(reading, seen)[:, 0]
    links = [link_of(uses[i], plan.axes[i], rows) for i in plan.linked]
    return StoredJacobian(
        outputs.detach(),
        {name: p.shape for name, p in objective.parameters.items()},
        tuple(zip(links, signals, strict=True)),
        tuple((reading.name, size) for reading, size in zip(readings, sizes, strict=True)),
        written,
    )


def _empty(use: Use, axis: Axis, rows: int, outputs: int) -> Tensor:
    """Return room for signals, `[n, T, C, U]`."""
    positions, units = shaped(use.leaving, use, axis, rows).shape[1:]
    return use.leaving.new_empty(rows, positions, outputs, units)


def _add_pushed(signals: Tensor, changes: Tensor, total: Tensor) -> None:
    """Add inner products of `[n, T, C, U]` and `[n, T, k, U]` to `[n, C, k]`, float64."""
    if signals.device.type == "cpu":
        arrays = (signals.numpy(), changes.contiguous().numpy(), total.numpy())
        add_pushed(*arrays, torch.get_num_threads())
    else:
        total += torch.einsum("ntcu,ntku->nck", signals, changes)


def _pulled(signals: Tensor, weights: Tensor) -> Tensor:
    """Return sums over outputs of `[n, T, C, U]`, weighted by `[n, C, k]`: `[n, T, k, U]`."""
    if signals.device.type != "cpu":
        return torch.einsum("ntcu,nck->ntku", signals, weights)
    rows, positions, _, units = signals.shape
    found = signals.new_empty(rows, positions, weights.shape[2], units)
    pull_signals(signals.numpy(), weights.numpy(), found.numpy(), torch.get_num_threads())
    return found


def _backward(flat: Tensor, output: int, uses: Sequence[Use]) -> tuple[Tensor, ...]:
    """Return what comes back to each use from one output of every row."""
    if not flat.requires_grad:
        return tuple(torch.zeros_like(use.leaving) for use in uses)
    cotangent = torch.zeros_like(flat)
    cotangent[:, output] = 1
    leaving = [use.leaving for use in uses]
    last = output == flat.shape[1] - 1
    return torch.autograd.grad(
        flat, leaving, cotangent, retain_graph=not last, materialize_grads=True
    )


def _reading(use: Use, kind: Literal["weight", "bias"]) -> Reading:
    found = use.weight if kind == "weight" else use.bias
    assert found is not None
    return found
