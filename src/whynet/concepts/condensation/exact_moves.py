"""Moves that make a network smaller and leave its function as it is, over all inputs.

Each move looks at one group of channels and changes a network in place; what it removes is proved
from the weights alone, up to round-off, without looking at data. Folding a constant into the next
bias is left out where zeros stand beside what the next layer reads: at the border the constant
would be missing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.condensation.workplace import (
    Workplace,
    outgoing_of,
    remove,
    set_outgoing,
    spared,
    values_of,
)
from whynet.models.channel_flow import reads_of
from whynet.models.channel_nodes import Group
from whynet.models.resizing import held_state, set_tensor
from whynet.numerics.equal_rows import equal_rows


def drop_ignored(place: Workplace, group: Group) -> int:
    """Remove channels that no layer reads: all outgoing weights are zero."""
    largest = torch.stack(
        [
            outgoing_of(place.module, reader, group.width).abs().amax((1, 2))
            for reader in group.readers
        ]
    )
    floor = place.round_off**2 * largest.amax(1, keepdim=True)
    return remove(place, group, (largest <= floor).all(0))


def fold_constants(place: Workplace, group: Group) -> int:
    """Remove channels that are the same number everywhere, their share put into the next bias."""
    values = values_of(place, group, directions=False)
    foldable = torch.ones(group.width, dtype=torch.bool)
    for reader in group.readers:
        assert reader.source is not None
        read = values[reader.source.node]
        free = reader.bias is not None and not reader.padded
        foldable &= read.constant & ((read.value == 0) | free)
    foldable = spared(group, foldable)  # a unit that stays keeps its share
    for reader in group.readers:
        assert reader.source is not None
        read = values[reader.source.node]
        if reader.bias is None or not bool((foldable & (read.value != 0)).any()):
            continue
        outgoing = outgoing_of(place.module, reader, group.width)[foldable].sum(2)
        bias = held_state(place.module)[reader.bias].detach()
        set_tensor(place.module, reader.bias, bias + read.value[foldable] @ outgoing)
    return remove(place, group, foldable)


def merge_proportional(place: Workplace, group: Group) -> int:
    """Merge channels that are multiples of one another wherever they are read."""
    values = values_of(place, group)
    reads = reads_of(group)
    nothing = torch.stack([values[node].factor == 0 for node in reads], 1).double()
    rows = torch.cat([*(values[node].signature for node in reads), nothing], 1).cpu().numpy()
    leaders = _strongest(equal_rows(rows, place.round_off), values[reads[0]].factor)
    gone = spared(group, torch.as_tensor(leaders != np.arange(group.width)))
    if not bool(gone.any()):
        return 0
    joined, into = torch.nonzero(gone).reshape(-1), torch.as_tensor(leaders)[gone]
    for reader in group.readers:
        assert reader.source is not None
        factor = values[reader.source.node].factor
        there = factor[into] != 0
        ratio = torch.where(there, factor[joined] / torch.where(there, factor[into], 1.0), 0.0)
        outgoing = outgoing_of(place.module, reader, group.width)
        outgoing.index_add_(0, into, outgoing[joined] * ratio[:, None, None])
        set_outgoing(place.module, reader, group.width, outgoing)
    return remove(place, group, gone)


def _strongest(leaders: np.ndarray, factor: Tensor) -> np.ndarray:
    """Let the member of the largest factor lead, whose weights carry the least round-off."""
    order = np.argsort(-factor.abs().cpu().numpy(), kind="stable")
    best = np.full(len(leaders), -1)
    for place in order[::-1]:  # the last to write is the strongest
        best[leaders[place]] = place
    return np.asarray(best[leaders])
