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
from whynet.numerics.low_rank import low_rank

MOST_FEATURES: Final = 5_000
"""Inputs, or outgoing weights, of a unit above which no linear map is factored."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which units go, what the others read with, and the linear map that is left.

    Attributes:
        gone: `[width]`, units whose place becomes free.
        outgoing: as in `HomogeneousUnits`, with what pairs leave behind.
        read: `[parts, features + 1]`, what each part of the map reads.
        said: `[parts, all outgoing weights]`, and what it says.

    """

    gone: Tensor
    outgoing: Tensor
    read: Tensor
    said: Tensor

    def linear(self) -> Tensor:
        """Return the linear map, `[features + 1, all outgoing weights]`."""
        return self.read.T @ self.said


def use_linear_path(place: Workplace, group: Group) -> int:
    """Carry by a few pairs what opposite pairs and always active units say linearly."""
    units = homogeneous_units(place.module, group)
    if units is None or max(units.rows.shape[1], units.outgoing.shape[1]) > MOST_FEATURES:
        return 0
    always = _always(place, units)
    pairs = _opposite_pairs(units, place.round_off, ~always.isnan())
    scale = float((units.rows.norm(dim=1) * units.outgoing.norm(dim=1)).max())
    best: tuple[int, _Plan, Tensor, Tensor] | None = None
    for only_pure in (False, True):
        plan = _plan(units, always, pairs, place.round_off, only_pure)
        free = int(plan.gone.sum())
        # Of a higher rank than this, the map would take as many units as are free, or as many
        # more as the plan before.
        most = (free - (0 if best is None else best[0]) - 1) // 2
        if most < 0:
            continue
        found = low_rank(plan.linear(), 8 * place.round_off * scale, most)
        if found is not None:
            best = (free - 2 * len(found[1]), plan, found[0].T, found[1])
    return 0 if best is None else _carry_out(place, group, units, *best[1:])


def _always(place: Workplace, units: HomogeneousUnits) -> Tensor:
    """Return `[width]`, the slope of units that have one over the whole input space, or nan."""
    inner = place.evaluation(directions=False).channels(units.node)
    always = torch.where(inner.low >= 0, 1.0, torch.where(inner.high <= 0, units.slope, torch.nan))
    return torch.where(inner.constant, torch.nan, always)


def _plan(
    units: HomogeneousUnits,
    always: Tensor,
    pairs: tuple[Tensor, Tensor],
    round_off: float,
    only_pure: bool,
) -> _Plan:
    """Gather always active units and opposite pairs; `only_pure`: pairs that are linear."""
    linear_units = ~always.isnan()
    saying = torch.nonzero(linear_units & (always != 0)).reshape(-1)
    gone, outgoing = linear_units.clone(), units.outgoing
    read = units.rows[saying] * always[saying][:, None]
    said = outgoing[saying]
    first, second = pairs
    if len(first):
        length = units.rows[:, :-1].norm(dim=1)
        # Seen from the first unit z of a pair, the second is the activation of -ratio z.
        ratio = (length[second] / length[first])[:, None]
        theirs = ratio * outgoing[second]
        bent = outgoing[first] + theirs
        size = outgoing[first].norm(dim=1) + theirs.norm(dim=1)
        pure = bent.norm(dim=1) <= round_off * size
        chosen = pure if only_pure else torch.ones_like(pure)
        read = torch.cat([read, units.rows[first[chosen]]])
        said = torch.cat([said, -(1 + units.slope) * theirs[chosen]])
        outgoing = outgoing.index_copy(0, first[chosen], bent[chosen])
        gone[second[chosen]] = True
        gone[first[chosen & pure]] = True
    return _Plan(gone, outgoing, read, said)


def _opposite_pairs(
    units: HomogeneousUnits, round_off: float, apart: Tensor
) -> tuple[Tensor, Tensor]:
    """Return indices of units whose rows are negative multiples of each other, one pair a line."""
    length = units.rows[:, :-1].norm(dim=1)
    usable = (length > round_off * float(length.max())) & ~apart
    index = torch.nonzero(usable).reshape(-1)
    unit = (units.rows[index] / length[index][:, None]).cpu().numpy()
    sign, unsure = _orientations(unit, round_off)
    unit *= sign[:, None]
    leaders = equal_rows(np.concatenate([unit, -unit[unsure]]) if len(unsure) else unit, round_off)
    owner, sign = np.r_[np.arange(len(unit)), unsure], np.r_[sign, -sign[unsure]]
    ends = []
    for side in (1.0, -1.0):
        mine = sign == side
        lowest = np.full(len(leaders), len(unit))
        np.minimum.at(lowest, leaders[mine], owner[mine])
        ends.append(lowest)
    pairs = np.sort(np.stack(ends, 1)[(ends[0] < len(unit)) & (ends[1] < len(unit))], 1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    # A unit whose orientation is not sure stands on two lines: its first pair counts.
    taken, single = np.zeros(len(unit), dtype=bool), []
    for a, b in pairs:
        if not taken[a] and not taken[b]:
            taken[[a, b]] = True
            single.append((int(a), int(b)))
    chosen = torch.as_tensor(single, dtype=torch.long).reshape(-1, 2)
    return index[chosen[:, 0]], index[chosen[:, 1]]


def _orientations(unit: np.ndarray, round_off: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a sign for each row, that of its negative the other way, and rows where it is unsure.

    It is that of a projection, which is unsure where round-off of a row could turn it.
    """
    fixed = np.random.default_rng(1).standard_normal(unit.shape[1])
    place = unit @ fixed
    # Entries but for the bias are at most 1; those of an equal row differ by this times theirs.
    room = 2 * round_off * np.maximum(1.0, np.abs(unit[:, -1])) * np.abs(fixed).sum()
    return np.where(place >= 0, 1.0, -1.0), np.flatnonzero(np.abs(place) <= room)


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
