"""Channels whose number a network's own code fixes, as by `view(-1, 256)` with a number written in.

Nothing in the parameters tells: so units of each group are taken away on a copy, which must run and
return what the network does where nothing reads them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from whynet.models.channel_flow import channel_groups
from whynet.models.channel_nodes import Group
from whynet.models.resizing import cut, held_state, set_tensor

REASON: Final = "the network's own code fixes their number"

_ROUND_OFF: Final = {torch.float64: 1e-9, torch.float32: 1e-4}

Run = Callable[[nn.Module], Any]
"""Calls a network on a small batch and returns its output."""


def fixed_widths(module: nn.Module, run: Run) -> frozenset[str]:
    """Return the paths of groups without some of whose units the network does not work.

    Args:
        module: in evaluation mode; not changed.
        run: calls a network on a small batch and returns its output.

    Cost: for each group that may lose units eight forward passes, and copies of the parameters that
    have them. The first, the last, half of the units and all but a few are taken away: a slice
    `x[:, :8]` runs with fewer channels too, and reads others.

    """
    with torch.no_grad():
        groups = channel_groups(module, lambda: run(module))
        found = set()
        for index, group in enumerate(groups):
            if group.refusal is None and group.width > group.least:
                unit = torch.arange(group.width)
                middle, last = group.width // 2, group.width - 1
                trials = [unit != 0, unit != last]
                if last > group.least:
                    trials += [unit % 2 == 0, (unit == middle) | (unit < group.least - 1)]
                if not all(_works_with(module, groups, index, stays, run) for stays in trials):
                    found.add(group.path)
    return frozenset(found)


def without_fixed(groups: tuple[Group, ...], fixed: frozenset[str]) -> tuple[Group, ...]:
    """Return groups, those of these paths left alone."""
    return tuple(group.refused(REASON) if group.path in fixed else group for group in groups)


def sharing_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a network that has the same tensors, which may be replaced in it."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _works_with(
    module: nn.Module, groups: tuple[Group, ...], index: int, stays: Tensor, run: Run
) -> bool:
    """Whether the network with some units alone is the one in which no other is read.

    That no channel came into another's place is seen from the widths of all groups, since on two
    examples it may not show.
    """
    group = groups[index]
    trial, wanted = sharing_copy(module), sharing_copy(module)
    cut(trial, (group, stays))
    for reader in group.readers:
        assert reader.source is not None
        columns = reader.source.columns.long()
        read = (columns < 0) | stays[columns.clamp_min(0)]
        weight = held_state(wanted)[reader.weight]
        shape = [1] * weight.ndim
        shape[reader.in_axis] = -1
        # Not multiplied, since what is not finite stays so.
        set_tensor(wanted, reader.weight, torch.where(read.reshape(shape), weight, 0.0))
    returned: list[Any] = []
    try:
        found = channel_groups(trial, lambda: _kept(returned, run(trial)))
    except Exception:  # noqa: BLE001 - code of the user may raise anything
        return False
    widths = [one.width for one in groups]
    widths[index] = int(stays.sum())
    if [one.width for one in found] != widths:
        return False
    before, after = run(wanted), returned[0]
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return True
    slack = _ROUND_OFF.get(before.dtype, 1e-4) * float(before.abs().max().clamp_min(1e-300))
    return after.shape == before.shape and bool((after - before).abs().max() <= slack)


def _kept(returned: list[Any], output: Any) -> Any:
    returned.append(output)
    return output
