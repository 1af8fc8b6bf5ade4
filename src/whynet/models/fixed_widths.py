"""Channels whose number a network's own code fixes, as by `view(-1, 256)` with a number written in.

Nothing in the parameters tells: so one channel of each group is taken away on a copy, which is run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from whynet.models.channel_flow import channel_groups
from whynet.models.channel_nodes import Group
from whynet.models.resizing import cut

REASON: Final = "the network's own code fixes their number"


def fixed_widths(module: nn.Module, run: Callable[[nn.Module], Any]) -> frozenset[str]:
    """Return the paths of groups of channels without one of which the network does not run.

    Args:
        module: in evaluation mode; not changed.
        run: calls a network on a small batch and returns its output.

    Cost: a copy of the network and a forward pass for each group that may lose channels.

    """
    with torch.no_grad():
        before = run(module)
        groups = channel_groups(module, lambda: run(module))
        found = set()
        for group in groups:
            if group.refusal is not None or group.width < 2:
                continue
            trial = copy.deepcopy(module)
            stays = torch.ones(group.width, dtype=torch.bool)
            stays[-1] = False
            cut(trial, group, stays)
            try:
                after = run(trial)
            except Exception:  # noqa: BLE001 - code of the user may raise anything
                found.add(group.path)
                continue
            if isinstance(before, Tensor) and after.shape != before.shape:
                found.add(group.path)
    return frozenset(found)


def without_fixed(groups: tuple[Group, ...], fixed: frozenset[str]) -> tuple[Group, ...]:
    """Return groups, those of these paths left alone."""
    return tuple(group.refused(REASON) if group.path in fixed else group for group in groups)
