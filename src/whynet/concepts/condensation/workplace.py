"""A network that is being made smaller, and what every move needs to change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from whynet.models.channel_flow import channel_groups, reads_of
from whynet.models.channel_nodes import Group, Layer, Node
from whynet.models.channel_values import Channels, Evaluation
from whynet.models.fixed_widths import without_fixed
from whynet.models.network_checks import select_output
from whynet.models.resizing import columns_of, cut, held_state, set_tensor
from whynet.models.subject import Subject

ROUND_OFF: Final = {torch.float64: 2.0**-44, torch.float32: 2.0**-18}
"""Relative difference of weights that counts as round-off, by the precision they are kept in."""


def called(network: nn.Module, inputs: Any, output: str | int | None) -> Tensor:
    """Call a network on a batch as data hold it, and return the entry of its output meant."""
    if isinstance(inputs, dict):
        return select_output(network(**inputs), output)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return select_output(network(*given), output)


def example_of(subject: Subject, rows: int = 2) -> Any:
    """Return the first training inputs of a subject, or of its only data."""
    data = subject.examples(subject.any_split if subject.train is None else "train")
    taken = range(min(rows, data.count))
    return data.take(taken, device=subject.device, dtype=subject.dtype)[0]


@dataclass(frozen=True)
class Move:
    """What was done to one group of channels.

    Attributes:
        name: `ignored`, `constant`, `proportional` or `linear path`.
        path: the layer that makes the channels (foreign text).
        removed: how many channels went.

    """

    name: str
    path: str
    removed: int


@dataclass(frozen=True)
class Workplace:
    """A network that is being made smaller.

    Attributes:
        module: changed in place, in evaluation mode.
        run: calls the network on a small batch.
        round_off: relative difference of weights that counts as none.
        fixed: groups of channels whose number the network's own code fixes.
        origins: layer to the channels of the network as it came that are left, where some went.

    """

    module: nn.Module
    run: Callable[[], Any]
    round_off: float
    fixed: frozenset[str] = frozenset()
    origins: dict[str, Tensor] = field(default_factory=dict)

    def groups(self) -> tuple[Group, ...]:
        """Return the groups of channels as they are now."""
        return without_fixed(channel_groups(self.module, self.run), self.fixed)

    def evaluation(self, *, directions: bool = True) -> Evaluation:
        """Return an evaluation of nodes with the weights as they are now."""
        return Evaluation(held_state(self.module), self.round_off, directions=directions)


def outgoing_of(module: nn.Module, reader: Layer, width: int) -> Tensor:
    """Return `[channels, outputs, positions]`, what a layer reads each channel with; a copy."""
    weight = held_state(module)[reader.weight].detach()
    weight = weight.transpose(0, 1) if reader.turned else weight
    flat = weight.reshape(len(weight), weight.shape[1], -1)
    columns = columns_of(reader)
    return flat[:, columns].movedim(1, 0).flatten(2).clone()


def set_outgoing(module: nn.Module, reader: Layer, width: int, outgoing: Tensor) -> None:
    """Write what `outgoing_of` returned back into the layer."""
    weight = held_state(module)[reader.weight].detach().clone()
    turned = weight.transpose(0, 1).contiguous() if reader.turned else weight
    flat = turned.reshape(len(turned), turned.shape[1], -1)
    columns = columns_of(reader)
    shape = (width, len(turned), columns.shape[1], flat.shape[2])
    flat[:, columns] = outgoing.reshape(shape).movedim(0, 1)
    fresh = flat.reshape(turned.shape)
    set_tensor(module, reader.weight, fresh.transpose(0, 1) if reader.turned else fresh)


def values_of(place: Workplace, group: Group, *, directions: bool = True) -> dict[Node, Channels]:
    """Return what the channels of a group are at every node at which they are read.

    Without `directions` signatures are left out, which are as large as the weights.
    """
    evaluation = place.evaluation(directions=directions)
    return {node: evaluation.channels(node) for node in reads_of(group)}


def spared(group: Group, gone: Tensor) -> Tensor:
    """Return which units go, so that as many stay as must."""
    short = group.least - int((~gone).sum())
    if short <= 0:
        return gone
    return gone.index_fill(0, torch.nonzero(gone).reshape(-1)[:short], value=False)


def remove(place: Workplace, group: Group, gone: Tensor) -> int:
    """Remove units, but for those that must stay; returns how many went."""
    gone = spared(group, gone)
    removed = int(gone.sum())
    if removed:
        cut(place.module, (group, ~gone))
        before = place.origins.get(group.path, torch.arange(group.width))
        place.origins[group.path] = before[~gone]
    return removed
