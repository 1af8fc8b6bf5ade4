"""A smaller network written in the shapes of the one it came from, without changing its function.

Channels that are left stand in their old places; those that went keep the incoming weights they
had, and nothing reads them. Both networks then have the same operations with tensors of the same
shapes, so that they can be followed together.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.channel_nodes import Group
from whynet.models.resizing import held_state, places_that_stay, set_tensor

Sides = dict[str, tuple[int, Tensor]]
"""Name of a parameter to an axis, and which places along it stay."""


def embedded(
    large: nn.Module,
    small: nn.Module,
    groups: Sequence[Group],
    kept: Mapping[str, Sequence[int]],
) -> nn.Module:
    """Return a copy of the large network that computes what the small one does.

    Args:
        large: the network as it came; not changed.
        small: the smaller one.
        groups: channels of the large network.
        kept: layer to the channels in whose places those of the small network are put, ascending;
            layers that are not named have lost none.

    Raises:
        InputError: the channels named do not fit the shapes of the networks.

    """
    fresh = copy.deepcopy(large)
    unknown = sorted(kept.keys() - {group.path for group in groups})
    if unknown:
        raise InputError("kept", f"a layer {unknown[0]!r}", "layers of the network")
    sides: dict[str, Sides] = {"made": {}, "read": {}}
    for group in groups:
        stays = _stays(group, kept.get(group.path))
        for name, axis, places, side in places_that_stay(group, stays):
            known = sides[side].get(name)
            both = places if known is None else known[1] & places
            sides[side][name] = (axis, both)
    values, olds = held_state(small), held_state(large)
    if values.keys() != olds.keys():
        raise InputError("small", "other parameters than the large network's", "the same names")
    for name, value in values.items():
        made, read = sides["made"].get(name), sides["read"].get(name)
        set_tensor(fresh, name, _put(name, olds[name], value, made, read))
    return fresh


def _stays(group: Group, kept: Sequence[int] | None) -> Tensor:
    if kept is None:
        return torch.ones(group.width, dtype=torch.bool)
    found = torch.as_tensor(list(kept), dtype=torch.long)
    ascending = bool((found.diff() > 0).all()) if len(found) else False
    if not ascending or int(found[0]) < 0 or int(found[-1]) >= group.width:
        raise InputError("kept", f"channels of {group.path!r}", f"ascending, below {group.width}")
    return torch.zeros(group.width, dtype=torch.bool).index_fill(0, found, value=True)


def _put(
    name: str,
    old: Tensor,
    value: Tensor,
    out: tuple[int, Tensor] | None,
    read: tuple[int, Tensor] | None,
) -> Tensor:
    """Put a small tensor into its places of a large one; other columns of its rows are zero."""
    made = old.detach().clone()
    axes = [
        (axis, torch.nonzero(stays).reshape(-1))
        for axis, stays in (entry for entry in (out, read) if entry is not None)
    ]
    shape = list(old.shape)
    for axis, place in axes:
        shape[axis] = len(place)
    if list(value.shape) != shape:
        raise InputError("kept", f"{name!r} of shape {tuple(value.shape)}", f"shape {tuple(shape)}")
    target = value.detach().to(made)
    if read is not None:  # what went is not read
        axis, place = axes[-1]
        shape[axis] = old.shape[axis]
        target = target.new_zeros(shape).index_copy_(axis, place, target)
    if out is not None:
        axis, place = axes[0]
        return made.index_copy_(axis, place, target)
    return target
