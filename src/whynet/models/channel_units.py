"""Which channels can only go together, and which of these units are removed alike.

Channels that are added or multiplied channel by channel are one unit. Units that are made, read and
rescaled by the same parameters, equally often, are one group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from whynet.models.channel_nodes import Group, Joined, Layer, Node, Read, Vector, selected

NONE = -1
"""Stands where something belongs to no channel that is followed."""


@dataclass
class Gathered:
    """What is known of the channels while a network runs; each has a number.

    Attributes:
        count: channels so far.
        producers: layers, and the channel of each output.
        readers: layers, what each reads, the entry of it that each input feature is, and the
            channel of each entry.
        vectors: parameters, an axis, and the channel of each entry along it.
        edges: pairs of channels that can only go together.
        refusals: channels that are left alone, and why.

    """

    count: int = 0
    producers: list[tuple[Layer, Tensor]] = field(default_factory=list)
    readers: list[tuple[Layer, Node, Tensor, Tensor]] = field(default_factory=list)
    vectors: list[tuple[str, int, Tensor]] = field(default_factory=list)
    edges: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    refusals: list[tuple[Tensor, str]] = field(default_factory=list)

    def opened(self, layer: Layer, width: int) -> Tensor:
        """Return numbers for the outputs of a layer."""
        channels = torch.arange(self.count, self.count + width)
        self.count += width
        self.producers.append((layer, channels))
        return channels

    def numbers(self) -> Tensor:
        """Return `[channels]`, which of the groups each belongs to."""
        return torch.as_tensor(_Units(self).group_of[:-1])

    def groups(self, uses: Mapping[str, int]) -> tuple[Group, ...]:
        """Return the groups, in the order in which their channels are made.

        Args:
            uses: how often each parameter was used.

        """
        if self.count == 0:
            return ()
        units = _Units(self)
        made: list[_Parts] = [_Parts(width) for width in units.widths]
        for layer, channels in self.producers:
            for group, outputs in units.split(channels):
                made[group].producers.append(replace(layer, outputs=outputs))
        for name, axis, channels in self.vectors:
            for group, places in units.split(channels):
                made[group].vectors.append(Vector(name, axis, places))
        for layer, node, columns, channels in self.readers:
            for group, places in units.split(channels):
                made[group].read(layer, node, columns, places)
        for channels, reason in self.refusals:
            for group, _ in units.split(channels):
                made[group].refusal = made[group].refusal or reason
        found = [parts.group(uses) for parts in made]
        counts = Counter(one.path for one in found)
        seen: Counter[str] = Counter()
        named = []
        for one in found:
            seen[one.path] += 1
            part = seen[one.path] if counts[one.path] > 1 else 0
            named.append(replace(one, part=part))
        return tuple(named)


class _Units:
    """The unit and the group of every channel.

    Attributes:
        widths: units of each group.
        group_of: `[channels + 1]`, the group of each; the last entry is that of no channel, -1.

    """

    def __init__(self, gathered: Gathered) -> None:
        count = gathered.count
        ends = [torch.stack(pair).numpy() for pair in gathered.edges] or [np.zeros((2, 0), int)]
        first, second = np.concatenate(ends, axis=1)
        shape = (count, count)
        graph = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=shape)
        component = csgraph.connected_components(graph, directed=False)[1]
        # Numbered in the order of their first channels.
        _, start, inverse = np.unique(component, return_index=True, return_inverse=True)
        rank = np.empty(len(start), dtype=int)
        rank[np.argsort(start)] = np.arange(len(start))
        unit = rank[inverse]
        kinds = self._kinds(gathered, unit, len(start))
        _, start, inverse = np.unique(kinds, return_index=True, return_inverse=True)
        rank = np.empty(len(start), dtype=int)
        rank[np.argsort(start)] = np.arange(len(start))
        group = rank[inverse]
        self.widths = np.bincount(group).tolist()
        order = np.argsort(group, kind="stable")
        starts = np.r_[0, np.cumsum(self.widths)[:-1]]
        place = np.empty(len(group), dtype=int)
        place[order] = np.arange(len(group)) - starts[group[order]]
        self.group_of = np.append(group[unit], NONE)
        self._place = np.append(place[unit], NONE)

    @staticmethod
    def _kinds(gathered: Gathered, unit: np.ndarray, count: int) -> np.ndarray:
        """Return a number for every unit, equal where all treats them alike."""
        kinds = np.zeros(count, dtype=np.int64)
        used = [channels for _, channels in gathered.producers]
        used += [channels for _, _, channels in gathered.vectors]
        for _, node, columns, channels in gathered.readers:
            for part in _parts_of(node, columns):
                used += [channels[part], channels[torch.unique(part)]]
        used += [torch.unique(channels) for channels, _ in gathered.refusals]
        for channels in used:
            numbers = channels.numpy()
            touched, often = np.unique(unit[numbers[numbers != NONE]], return_counts=True)
            pair = kinds[touched] * (often.max(initial=0) + 1) + often
            kinds[touched] = kinds.max(initial=0) + 1 + np.unique(pair, return_inverse=True)[1]
        return kinds

    def split(self, channels: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield each group that has some of these channels, and the unit of each, -1 for others."""
        numbers = channels.numpy()
        group, place = self.group_of[numbers], self._place[numbers]
        for one in np.unique(group[group != NONE]):
            yield int(one), torch.as_tensor(np.where(group == one, place, NONE))


def _parts_of(node: Node, columns: Tensor) -> Iterator[Tensor]:
    """Yield the entries that are read of each of several joined expressions."""
    ends = np.cumsum(node.sizes).tolist() if isinstance(node, Joined) else []
    start = 0
    for end in ends or [int(columns.max()) + 1]:
        yield columns[(columns >= start) & (columns < end)].long()
        start = end


@dataclass
class _Parts:
    """A group that is being put together."""

    width: int
    producers: list[Layer] = field(default_factory=list)
    readers: list[Layer] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    refusal: str | None = None

    def read(self, layer: Layer, node: Node, columns: Tensor, units: Tensor) -> None:
        """Add a layer that reads entries of a node; `units` has the unit of each entry."""
        columns = columns.long()
        there = torch.zeros(len(units), dtype=torch.bool)
        there[columns] = True
        entries = torch.nonzero(there & (units != NONE)).reshape(-1)
        if len(entries) == 0:
            return
        # Of a unit with several entries, each has its place beside the like of other units.
        entries = entries[units[entries].argsort(stable=True)].reshape(self.width, -1)
        for index in entries.T:
            unit = torch.full((len(units),), NONE)
            unit[index] = torch.arange(self.width)
            source = Read(selected(node, index, len(units)), unit[columns])
            often = torch.bincount(source.columns[source.columns != NONE])
            if bool((often != often[0]).any()):
                self.refusal = self.refusal or f"`{layer.path}` reads them unevenly"
            self.readers.append(replace(layer, source=source))

    def group(self, uses: Mapping[str, int]) -> Group:
        """Return the group, left alone where a parameter that would be cut is used again."""
        refusal = self.refusal
        if refusal is None and not self.readers:
            refusal = "nothing was seen to read them"
        layers = (*self.producers, *self.readers)
        names = {layer.weight for layer in layers} | {vector.name for vector in self.vectors}
        names |= {layer.bias for layer in self.producers if layer.bias is not None}
        tied = sorted(name for name in names if uses.get(name, 0) > 1)
        if refusal is None and tied:
            refusal = f"`{tied[0]}` is used more than once"
        producers, readers = tuple(self.producers), tuple(self.readers)
        return Group(self.width, producers, readers, tuple(self.vectors), refusal)
