"""Units that are linear together: opposite pairs, and units that are active everywhere.

For an activation f with f(z) = z above zero and s z below, `a f(z) + b f(-z)` is
`(a + b) f(z) - b (1 + s) z`, and a unit whose input is never negative is its input. What such
units say linearly adds up to one linear map of what the layer reads; of rank r, it is carried by
r pairs `f(v) - f(-v) = (1 + s) v`. The move is made where that takes fewer units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.condensation.workplace import Workplace, outgoing_of, remove, set_outgoing
from whynet.models.channel_flow import is_simple, reads_of
from whynet.models.channel_nodes import Activated, Group, Node, Normalized, Pooled, Produced
from whynet.models.channel_values import affine_of
from whynet.models.resizing import held_state, set_tensor
from whynet.numerics.equal_rows import equal_rows

MOST_FEATURES: Final = 5_000
"""Inputs, or outgoing weights, of a unit above which no linear map is factored."""


@dataclass(frozen=True, eq=False)
class _Units:
    """Units of one layer before their activation.

    Attributes:
        node: the affine node that enters the activation.
        slope: of the activation below zero.
        rows: `[width, features + 1]`, incoming weights and bias.
        outgoing: `[width, all outgoing weights]`, of all readers beside each other.
        always: `[width]`, the slope a unit has everywhere, or nan.

    """

    node: Node
    slope: float
    rows: Tensor
    outgoing: Tensor
    always: Tensor


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which units go, what the others read with, and the linear map that is left.

    Attributes:
        gone: `[width]`, units whose place becomes free.
        outgoing: as in `_Units`, with what pairs leave behind.
        linear: `[features + 1, all outgoing weights]`.

    """

    gone: Tensor
    outgoing: Tensor
    linear: Tensor


def use_linear_path(place: Workplace, group: Group) -> int:
    """Carry by a few pairs what opposite pairs and always active units say linearly."""
    units = _units_of(place, group)
    if units is None or max(units.rows.shape[1], units.outgoing.shape[1]) > MOST_FEATURES:
        return 0
    plans = [_plan(units, place.round_off, only_pure) for only_pure in (False, True)]
    best: tuple[int, _Plan, Tensor, Tensor] | None = None
    for plan in plans:
        free = int(plan.gone.sum())
        if free == 0:
            continue
        left, size, right = torch.linalg.svd(plan.linear, full_matrices=False)
        scale = float((units.rows.norm(dim=1) * units.outgoing.norm(dim=1)).max())
        rank = int((size > 8 * place.round_off * scale).sum())
        saved = free - 2 * rank
        if saved > 0 and (best is None or saved > best[0]):
            best = (saved, plan, left[:, :rank].T, right[:rank] * size[:rank, None])
    return 0 if best is None else _carry_out(place, group, units, *best[1:])


def _units_of(place: Workplace, group: Group) -> _Units | None:
    """Read a group as units of one layer with a homogeneous activation, or return None."""
    if not is_simple(group):
        return None
    activated = {_before_means(node) for node in reads_of(group)}
    node = next(iter(activated))
    if len(activated) > 1 or not isinstance(node, Activated) or node.slope is not None:
        return None
    if node.name not in ("relu", "leaky_relu", "prelu"):
        return None
    plain = node.child.child if isinstance(node.child, Normalized) else node.child
    affine = affine_of(node.child, held_state(place.module))
    if not isinstance(plain, Produced) or affine is None:
        return None
    rows = torch.cat([affine[0], affine[1][:, None]], 1)
    slope = -float(node.function(rows.new_full((1, 1), -1.0)))
    inner = place.evaluation().channels(node.child)
    always = torch.where(inner.low >= 0, 1.0, torch.where(inner.high <= 0, slope, torch.nan))
    always = torch.where(inner.constant, torch.nan, always)
    outgoing = torch.cat(
        [outgoing_of(place.module, r, group.width).flatten(1) for r in group.readers], 1
    )
    return _Units(node.child, slope, rows, outgoing, always)


def _before_means(node: Node) -> Node:
    while isinstance(node, Pooled) and not node.largest:
        node = node.child
    return node


def _plan(units: _Units, round_off: float, only_pure: bool) -> _Plan:
    """Gather always active units and opposite pairs; `only_pure`: pairs that are linear."""
    linear_units = ~units.always.isnan()
    gone, outgoing = linear_units.clone(), units.outgoing.clone()
    share = torch.where(linear_units, units.always.nan_to_num(), 0.0)
    linear = (units.rows * share[:, None]).T @ units.outgoing
    first, second = _opposite_pairs(units, round_off, linear_units)
    if len(first):
        length = units.rows[:, :-1].norm(dim=1)
        # Seen from the first unit z of a pair, the second is the activation of -ratio z.
        ratio = (length[second] / length[first])[:, None]
        bent = outgoing[first] + ratio * outgoing[second]
        size = outgoing[first].norm(dim=1) + (ratio * outgoing[second]).norm(dim=1)
        pure = bent.norm(dim=1) <= round_off * size
        chosen = pure if only_pure else torch.ones_like(pure)
        straight = -(1 + units.slope) * ratio * outgoing[second]
        linear = linear + units.rows[first[chosen]].T @ straight[chosen]
        outgoing[first[chosen]] = bent[chosen]
        gone[second[chosen]] = True
        gone[first[chosen & pure]] = True
    return _Plan(gone, outgoing, linear)


def _opposite_pairs(units: _Units, round_off: float, apart: Tensor) -> tuple[Tensor, Tensor]:
    """Return indices of units whose rows are negative multiples of each other."""
    length = units.rows[:, :-1].norm(dim=1)
    usable = (length > round_off * float(length.max())) & ~apart
    index = torch.nonzero(usable).reshape(-1)
    unit = (units.rows[index] / length[index][:, None]).cpu().numpy()
    leaders = equal_rows(np.concatenate([unit, -unit]), round_off)
    count = len(index)
    partner = leaders[count:]
    found = np.flatnonzero(partner < count)
    pairs = np.sort(np.stack([found, partner[found]], 1), 1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    # Three units on one line make two pairs: the first of each unit counts.
    taken, single = np.zeros(count, dtype=bool), []
    for a, b in pairs:
        if not taken[a] and not taken[b]:
            taken[[a, b]] = True
            single.append((int(a), int(b)))
    chosen = torch.as_tensor(single, dtype=torch.long).reshape(-1, 2)
    return index[chosen[:, 0]], index[chosen[:, 1]]


def _carry_out(
    place: Workplace, group: Group, units: _Units, plan: _Plan, rows: Tensor, outgoing: Tensor
) -> int:
    """Write the pairs into free places, and remove the places that stay free."""
    rank = len(rows)
    free = torch.nonzero(plan.gone).reshape(-1)
    slots = free[: 2 * rank]
    fresh = plan.outgoing.clone()
    fresh[slots] = torch.cat([outgoing, -outgoing]) / (1 + units.slope)
    _write_rows(place, units.node, slots, torch.cat([rows, -rows]))
    offset = 0
    for reader in group.readers:
        old = outgoing_of(place.module, reader, group.width)
        size = old[0].numel()
        part = fresh[:, offset : offset + size].reshape(old.shape)
        set_outgoing(place.module, reader, group.width, part)
        offset += size
    gone = plan.gone.clone()
    gone[slots] = False
    return remove(place, group, gone)


def _write_rows(place: Workplace, node: Node, slots: Tensor, rows: Tensor) -> None:
    """Give units new incoming weights and biases, through batch normalization where it stands."""
    state = {name: tensor.detach().clone() for name, tensor in held_state(place.module).items()}
    produced = node.child if isinstance(node, Normalized) else node
    assert isinstance(produced, Produced)
    layer, bias = produced.layer, rows[:, -1]
    changed = {layer.weight: state[layer.weight]}
    weight = state[layer.weight]
    target = weight.T if layer.kind == "transposed" else weight
    target[slots] = rows[:, :-1].reshape(len(slots), *target.shape[1:])
    if isinstance(node, Normalized):
        # Normalization becomes the identity; what it adds is the bias.
        values = [(node.mean, 0.0 * bias), (node.variance, 0.0 * bias + 1 - node.epsilon)]
        if node.weight is not None:
            values.append((node.weight, 0.0 * bias + 1))
        if node.bias is not None:
            values.append((node.bias, bias))
        else:
            values[0] = (node.mean, -bias)
        bias = 0.0 * bias
    else:
        values = []
    if layer.bias is not None:
        values.append((layer.bias, bias))
    for name, value in values:
        changed[name] = state[name]
        changed[name][slots] = value
    for name, tensor in changed.items():
        set_tensor(place.module, name, tensor)
