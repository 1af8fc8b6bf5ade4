"""A network made smaller: exact moves first, then fewer units up to a tolerance."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from whynet.concepts.condensation.approximate import Prepared, Task, prepare
from whynet.concepts.condensation.exact_reduction import reduce_exactly
from whynet.concepts.condensation.off_data import caution
from whynet.concepts.condensation.search import Point, Search
from whynet.concepts.condensation.workplace import ROUND_OFF, Move, Workplace, called, example_of
from whynet.core.errors import InputError
from whynet.models.channel_nodes import Group
from whynet.models.features import bounded
from whynet.models.fixed_widths import REASON as FIXED
from whynet.models.free_widths import FreeWidths, free_widths
from whynet.models.preservation import preserved
from whynet.models.subject import Subject

MOST_EXAMPLES: Final = 10_000
"""Training examples that units are chosen and layers refitted on; of more, a seeded subset."""


@dataclass(frozen=True)
class LayerChange:
    """What happened to one group of channels.

    Attributes:
        path: the layer that makes them (foreign text).
        before: channels of the network as it came.
        exactly: after all exact moves.
        after: of the network returned.
        reason: why they were left alone, a clause, or None.

    """

    path: str
    before: int
    exactly: int
    after: int
    reason: str | None


@dataclass(frozen=True, eq=False)
class Condensed:
    """A network that was made smaller, and what it costs.

    Attributes:
        subject: the network as it came, with its data.
        module: the smaller network: same architecture, smaller widths, same precision; a copy of
            the network where it does not reduce.
        traced: whether it is a trace (`torch.fx.GraphModule`) of the network with the same
            parameters, since the network's own code fixes widths; see `load_resized`.
        moves: exact moves that were made.
        layers: what happened to every group of channels.
        curve: size against error, without training, from large to small; the first point is what
            exact moves alone leave.
        chosen: the point of `module`.
        tolerance: largest relative difference allowed on the training data.
        reason: why nothing was removed, a sentence; empty where something was.
        kept: layer to the channels whose places those of `module` have in the network as it came,
            ascending; a merged channel stands in the place of one of those it came from.
        limited: what was not tried, since it would take too long, a sentence, or empty.
        caution: that the change beside the data is far larger than on them, a sentence, or empty.

    """

    subject: Subject
    module: nn.Module
    traced: bool
    moves: tuple[Move, ...]
    layers: tuple[LayerChange, ...]
    curve: tuple[Point, ...]
    chosen: Point
    tolerance: float
    reason: str
    kept: dict[str, tuple[int, ...]]
    limited: str
    caution: str

    @property
    def reduced(self) -> bool:
        """Whether anything was removed."""
        return not self.reason

    def smaller(self) -> Subject:
        """Return the smaller network as a subject, with the same data."""
        return self.subject.alone(self.module)


def condense(
    subject: Subject,
    *,
    tolerance: float = 1e-3,
    exact_only: bool = False,
    units: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Condensed:
    """Return a smaller network that computes the same function up to a tolerance.

    Exact moves first (see `exact_reduction`): they hold for all inputs. Then units go in the
    order of the error they cause in the outputs, by least squares on the training data, and the
    layers that read them are refitted to what they returned before; nothing is trained.

    Args:
        subject: network, loss and training data; never changed.
        tolerance: largest difference of an output on the training data over the largest output.
        exact_only: whether to stop after the exact moves; these need no more than two examples.
        units: go on to the point of the curve with at most so many units in all layers that may
            lose some, whatever the error; the caller sees it in `chosen`.
        progress: told what is being done.

    Raises:
        InputError: no training data, or a tolerance or a number of units out of range.

    Cost: one pass over the training data for each layer and point of the curve, in float64; for
    a layer of n inputs order `n^3`; beyond `search.EFFORT` operations fewer points are tried, which
    `limited` says. Memory: what the layers return on the data, and some matrices `n^2`.

    """
    _check(tolerance, units)
    say = progress or (lambda words: None)
    with preserved(), torch.no_grad():
        place, task, freed = _opened(subject)
        before = place.groups()
        say("exact moves")
        moves, groups = reduce_exactly(place)
        exactly = {group.path: group.width for group in groups}
        prepared: Prepared | None = None
        if not exact_only and any(group.refusal is None for group in groups):
            say("ordering units")
            prepared = prepare(task)
        search = Search(task, prepared, subject, tolerance, say)
        chosen, module = search.run(units)
        final = {group.path: group.width for group in task.groups(module)}
        names = [(group.path, _left(group, freed) or search.left(group.path)) for group in before]
        layers = tuple(
            LayerChange(path, group.width, exactly[path], final[path], reason)
            for group, (path, reason) in zip(before, names, strict=True)
        )
        reason = _reason(layers, search, tolerance) if not _any(layers) else ""
        small = _in_kind(module, subject) if not reason else copy.deepcopy(subject.module)
        kept = _kept_places(before, place, search, chosen) if not reason else {}
        approximate = not reason and chosen != search.first
        asked = max(tolerance, chosen.largest)
        beside = caution(task, module, asked) if approximate else ""
    kind, tried = freed.traced and not reason, (search.curve(), chosen)
    said = search.limited(), beside
    return Condensed(subject, small, kind, moves, layers, *tried, tolerance, reason, kept, *said)


def _check(tolerance: float, units: int | None) -> None:
    if not 0 <= tolerance < 1:
        raise InputError("tolerance", repr(tolerance), "a number from 0 to below 1")
    if units is not None and units < 1:
        raise InputError("units", repr(units), "a whole number of at least 1")


def _left(group: Group, freed: FreeWidths) -> str | None:
    """Say why a group was left alone by all moves."""
    if group.refusal == FIXED and freed.reason:
        return f"{FIXED}, and {freed.reason}"
    return group.refusal


def _opened(subject: Subject) -> tuple[Workplace, Task, FreeWidths]:
    """Copy the network to float64, free its widths, and bind its training data."""
    wide = subject.in_precision(torch.float64)
    module = copy.deepcopy(wide.module).eval()
    data = bounded(wide.examples("train"), MOST_EXAMPLES, "condense")

    def batches() -> Iterator[Any]:
        for inputs, _ in data.batches(wide.batch_size, device=wide.device, dtype=wide.dtype):
            yield inputs

    def run(network: nn.Module, inputs: Any) -> Tensor:
        return called(network, inputs, subject.output)

    example = example_of(wide)
    kept_in = min(
        (p.dtype for p in subject.module.parameters() if p.dtype in ROUND_OFF),
        key=lambda dtype: -ROUND_OFF[dtype],
        default=torch.float32,
    )
    freed = free_widths(module, lambda network: run(network, example), example)
    module, fixed = freed.module, freed.fixed
    place = Workplace(module, lambda: run(module, example), ROUND_OFF[kept_in], fixed)
    return place, Task(module, batches, run, example, fixed), freed


def _kept_places(
    groups: tuple[Group, ...], place: Workplace, search: Search, chosen: Point
) -> dict[str, tuple[int, ...]]:
    """Return, for every layer that lost channels, those of the network as it came that are left."""
    found, later = {}, search.kept(chosen)
    for group in groups:
        origin = place.origins.get(group.path, torch.arange(group.width)).numpy()
        origin = origin[later[group.path]] if group.path in later else origin
        if len(origin) < group.width:
            found[group.path] = tuple(int(unit) for unit in origin)
    return found


def _any(layers: tuple[LayerChange, ...]) -> bool:
    return any(layer.after < layer.before for layer in layers)


def _reason(layers: tuple[LayerChange, ...], search: Search, tolerance: float) -> str:
    free = [layer for layer in layers if layer.reason is None]
    if not layers:
        return "No layer with weights of its own was found in it."
    if not free:
        first = layers[0]
        return f"No layer may lose channels; those of `{first.path}` stay, since {first.reason}."
    steps = [p for p, _ in search.tried if p.parameters < search.first.parameters]
    if not steps:
        return "No channel is constant, ignored or a multiple of another."
    nearest = min(steps, key=lambda p: p.largest)
    gone = sum(search.first.widths) - sum(nearest.widths)
    return (
        f"Within {tolerance:g} no unit can go: the best smaller network tried, with {gone} units "
        f"fewer, changes an output by {nearest.largest:.2g} of the largest."
    )


def _in_kind(module: nn.Module, subject: Subject) -> nn.Module:
    """Return the network in the precision and with the gradient flags of the one that came."""
    dtypes = {name: tensor.dtype for name, tensor in subject.module.state_dict().items()}
    flags = {name: p.requires_grad for name, p in subject.module.named_parameters()}
    fresh = copy.deepcopy(module)
    for name, parameter in fresh.named_parameters():
        parameter.data = parameter.data.to(dtypes[name])
        parameter.requires_grad_(flags.get(name, True))
    for name, buffer in fresh.named_buffers():
        buffer.data = buffer.data.to(dtypes.get(name, buffer.dtype))
    return fresh
