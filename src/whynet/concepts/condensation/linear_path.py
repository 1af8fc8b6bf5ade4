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

from whynet.concepts.condensation.homogeneous_units import (
    HomogeneousUnits,
    homogeneous_units,
    write_rows,
)
from whynet.concepts.condensation.workplace import Workplace, outgoing_of, remove, set_outgoing
from whynet.models.channel_nodes import Group
from whynet.numerics.equal_rows import equal_rows

MOST_FEATURES: Final = 5_000
"""Inputs, or outgoing weights, of a unit above which no linear map is factored."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which units go, what the others read with, and the linear map that is left.

    Attributes:
        gone: `[width]`, units whose place becomes free.
        outgoing: as in `HomogeneousUnits`, with what pairs leave behind.
        linear: `[features + 1, all outgoing weights]`.

    """

    gone: Tensor
    outgoing: Tensor
    linear: Tensor


def use_linear_path(place: Workplace, group: Group) -> int:
    """Carry by a few pairs what opposite pairs and always active units say linearly."""
    units = homogeneous_units(place.module, group)
    if units is None or max(units.rows.shape[1], units.outgoing.shape[1]) > MOST_FEATURES:
        return 0
    always = _always(place, units)
    plans = [_plan(units, always, place.round_off, only_pure) for only_pure in (False, True)]
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


def _always(place: Workplace, units: HomogeneousUnits) -> Tensor:
    """Return `[width]`, the slope of units that have one over the whole input space, or nan."""
    inner = place.evaluation().channels(units.node)
    always = torch.where(inner.low >= 0, 1.0, torch.where(inner.high <= 0, units.slope, torch.nan))
    return torch.where(inner.constant, torch.nan, always)


def _plan(units: HomogeneousUnits, always: Tensor, round_off: float, only_pure: bool) -> _Plan:
    """Gather always active units and opposite pairs; `only_pure`: pairs that are linear."""
    linear_units = ~always.isnan()
    gone, outgoing = linear_units.clone(), units.outgoing.clone()
    share = torch.where(linear_units, always.nan_to_num(), 0.0)
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


def _opposite_pairs(
    units: HomogeneousUnits, round_off: float, apart: Tensor
) -> tuple[Tensor, Tensor]:
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
    place: Workplace,
    group: Group,
    units: HomogeneousUnits,
    plan: _Plan,
    rows: Tensor,
    outgoing: Tensor,
) -> int:
    """Write the pairs into free places, and remove the places that stay free."""
    rank = len(rows)
    free = torch.nonzero(plan.gone).reshape(-1)
    slots = free[: 2 * rank]
    fresh = plan.outgoing.clone()
    fresh[slots] = torch.cat([outgoing, -outgoing]) / (1 + units.slope)
    write_rows(place.module, units.node, slots, torch.cat([rows, -rows]))
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
