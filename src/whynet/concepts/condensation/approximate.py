"""Fewer units at a stated error: which ones go, and the next layers refitted to what they said."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from scipy import linalg
from torch import Tensor, nn

from whynet.concepts.condensation.direction_fit import (
    MOST_PARAMETERS,
    can_be_fitted,
    fit_directions,
)
from whynet.concepts.condensation.homogeneous_units import homogeneous_units, write_rows
from whynet.concepts.condensation.refitting import (
    Batches,
    Moments,
    Original,
    Run,
    moments_of,
    record,
    refit,
    solve,
)
from whynet.models.channel_flow import channel_groups
from whynet.models.channel_nodes import Group, Layer, Normalized
from whynet.models.fixed_widths import without_fixed
from whynet.models.layer_calls import MOST_FEATURES, weight_rows
from whynet.models.output_sensitivity import output_metrics
from whynet.models.resizing import cut, held_state
from whynet.numerics.directions import normalized
from whynet.numerics.unit_elimination import MANY, Elimination, Reading, eliminate

MOST_UNITS: Final = 4_096
"""Channels of a group above which only exact moves are made."""


BALL: Final = 0.01
"""Of the spread of the inputs: how far from the data a smaller network is fitted and judged."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a network is made smaller for.

    Attributes:
        module: the network after all exact moves, float64, in evaluation mode; not changed.
        batches: makes an iterator over batches of inputs.
        run: calls a network on a batch of inputs.
        example: a small batch, with which channels are followed.
        fixed: groups of channels whose number the network's own code fixes.

    """

    module: nn.Module
    batches: Batches
    run: Run
    example: Any
    fixed: frozenset[str] = frozenset()

    def groups(self, module: nn.Module) -> tuple[Group, ...]:
        """Return the groups of channels of a network of this form."""
        groups = channel_groups(module, lambda: self.run(module, self.example))
        return without_fixed(groups, self.fixed)

    def around(self) -> Iterator[Tensor]:
        """Yield every batch of data, as many points between two of its inputs, and twice as many
        at corners of the boxes that certificates have around the data; seeded.
        """
        generator = torch.Generator().manual_seed(0)
        for inputs in self.batches():
            order = torch.randperm(len(inputs), generator=generator)
            share = torch.rand(len(inputs), generator=generator, dtype=torch.float64)
            share = share.reshape(-1, *[1] * (inputs.ndim - 1)).to(inputs)
            between = share * inputs + (1 - share) * inputs[order]
            size = BALL * inputs.flatten(1).std() if len(inputs) > 1 else 0.0
            signs = torch.randint(0, 2, (2, *inputs.shape), generator=generator) * 2 - 1
            near = inputs + size * signs.to(inputs)
            yield torch.cat([inputs, between, *near])


@dataclass(frozen=True, eq=False)
class Prepared:
    """What choosing units needs, gathered once.

    Attributes:
        task: the network and its data.
        original: what its layers return on the data.
        groups: its groups of channels.
        eliminations: index of a group to the order in which its units go; of the others only
            exact moves are made, for the reason in `left`.
        left: index of a group to why it is left alone, a clause.
        similar: index of a group to the cosines of its units' activations, `[width, width]`.
        turnable: index of the groups whose incoming weights can be fitted, where few units stay.

    """

    task: Task
    original: Original
    groups: tuple[Group, ...]
    eliminations: Mapping[int, Elimination]
    left: Mapping[int, str]
    similar: Mapping[int, Tensor]
    turnable: Set[int]

    @cached_property
    def around(self) -> Original:
        """What layers return on the data and between them, gathered once it is asked for."""
        names = [r.weight for i in self.eliminations for r in self.groups[i].readers]
        return record(self.task.module, names, self.task.around, self.task.run)

    def can_turn(self, kept: Mapping[int, np.ndarray]) -> bool:
        """Whether so few units stay in a group that their incoming weights may be fitted."""
        return any(
            2 * len(kept[i]) <= MOST_PARAMETERS and len(kept[i]) < self.groups[i].width
            for i in self.turnable & kept.keys()
        )


def prepare(task: Task) -> Prepared:
    """Order the units of every group by the error that removing them causes in the outputs.

    Cost: three passes over the data, products of order rows times features squared a layer, and
    the eliminations. Memory: what the layers return on all data.
    """
    groups = task.groups(task.module)
    left = {i: group.refusal for i, group in enumerate(groups) if group.refusal is not None}
    state = held_state(task.module)
    for index, group in enumerate(groups):
        sizes = [weight_rows(r, state[r.weight]).shape[1] for r in group.readers]
        if index not in left and (group.width > MOST_UNITS or max(sizes) > MOST_FEATURES):
            left[index] = f"a layer that reads them has more than {MOST_FEATURES} inputs"
    free = [group for index, group in enumerate(groups) if index not in left]
    names = [reader.weight for group in free for reader in group.readers]
    original = record(task.module, names, task.batches, task.run)
    moments = moments_of(task.module, original, names, task.batches, task.run)
    wide = any(len(weight_rows(r, state[r.weight])) > MANY for g in free for r in g.readers)
    metrics = output_metrics(task.module, names, task.batches, task.run, 1 if wide else 4)
    made: dict[int, Elimination] = {}
    similar: dict[int, Tensor] = {}
    for index, group in enumerate(groups):
        if index in left:
            continue
        if not all(reader.weight in moments for reader in group.readers):
            left[index] = "a layer that reads them is no plain linear map or convolution"
            continue
        readings, labels = [], []
        for reader, columns in readers_of(group):
            _, _, second, _ = moments[reader.weight].centered(reader.bias is not None)
            weight = _weight_of(reader, state, moments[reader.weight])
            metric = metrics.get(reader.weight)
            width = len(weight)
            square = np.eye(width) if metric is None else metric.cpu().numpy()
            labels.append(np.repeat(columns, len(second) // len(columns)))
            readings.append(_alone(Reading(second, weight, square, labels[-1])))
        made[index] = eliminate(readings, group.width)
        similar[index] = _cosines(moments[group.readers[0].weight], labels[0], group.width)
    real = isinstance(task.example, Tensor) and task.example.is_floating_point()
    turnable = {index for index in made if real and can_be_fitted(groups[index])}
    return Prepared(task, original, groups, made, left, similar, turnable)


def _weight_of(reader: Layer, state: Mapping[str, Tensor], moments: Moments) -> np.ndarray:
    """Return the weights of a layer, least in length among those that say the same on the data.

    Of more than 1024 features as they are, since their eigenvalues would cost too much.
    """
    if len(moments.second) > MANY:
        return weight_rows(reader, state[reader.weight].detach()).numpy()
    return solve(moments, reader.bias is not None)[0].numpy()


def _cosines(moments: Moments, labels: np.ndarray, width: int) -> Tensor:
    """Return the cosines of what is read of each unit, summed over its features."""
    mine = np.flatnonzero(labels >= 0)
    order = mine[np.argsort(labels[mine], kind="stable")].reshape(width, -1)
    second = moments.second.numpy() / moments.rows
    products = sum(second[np.ix_(place, place)] for place in order.T)
    return torch.as_tensor(normalized(np.asarray(products)))


def readers_of(group: Group) -> Iterator[tuple[Layer, np.ndarray]]:
    """Yield each layer that reads units once, and the unit of every input of it, -1 for none."""
    found: dict[str, tuple[Layer, np.ndarray]] = {}
    for reader in group.readers:
        assert reader.source is not None
        columns = reader.source.columns.numpy()
        if reader.weight in found:  # several entries of a unit
            columns = np.maximum(found[reader.weight][1], columns)
        found[reader.weight] = (reader, columns)
    yield from found.values()


def _alone(reading: Reading) -> Reading:
    """Return a reading of the units of one group: what it reads beside them is always refitted.

    By the theorem of Frisch and Waugh (1933) the rest of a least-squares problem is that of what
    remains of its features, those beside them taken out.
    """
    mine, beside = reading.units >= 0, reading.units < 0
    if not beside.any():
        return reading
    moment = reading.moment
    unit = linalg.pinvh(moment[np.ix_(beside, beside)])
    cross = moment[np.ix_(beside, mine)]
    left = moment[np.ix_(mine, mine)] - cross.T @ unit @ cross
    return Reading(left, reading.weight[:, mine], reading.metric, reading.units[mine])


def assemble(
    prepared: Prepared,
    kept: Mapping[int, np.ndarray],
    *,
    merge: float | None = None,
    turn: bool = False,
    fit: bool = True,
) -> nn.Module:
    """Return a network in which groups keep some units and every reader is refitted.

    Args:
        prepared: as `prepare` returned it.
        kept: index of a group to the units that stay, ascending; other groups stay as they are.
        merge: a cosine: a unit that stays takes on the mean direction of the units that are most
            similar to it and above this cosine (homogeneous activations), weighted by what they
            contribute; None: it stays as it is.
        turn: whether the incoming weights of units that stay are fitted as well, see
            `fit_directions`.
        fit: whether readers are refitted; otherwise they read what is left as it is.

    Cost: one pass over the data for each reader of a group that lost units.
    """
    task = prepared.task
    module = copy.deepcopy(task.module)
    touched: set[str] = set()
    outputs: dict[str, Tensor] = {}
    cuts: list[tuple[Group, Tensor]] = []
    changed = {i: units for i, units in kept.items() if len(units) < prepared.groups[i].width}
    for index in changed:
        touched |= {reader.weight for reader in prepared.groups[index].readers}
    for index, units in changed.items():
        group, places = prepared.groups[index], torch.as_tensor(np.asarray(units))
        chosen = torch.eye(group.width, dtype=torch.float64)[places]
        if merge is not None:
            chosen = _merge_directions(prepared, module, index, places, touched, chosen, merge)
        stays = torch.zeros(group.width, dtype=torch.bool)
        stays[places] = True
        outputs |= _outputs(task.module, group, stays, chosen, outputs)
        cuts.append((group, stays))
    cut(module, *cuts)
    if fit and touched:
        order = [layer for group in task.groups(module) for layer, _ in readers_of(group)]
        layers = {la.weight: la for la in _in_call_order(prepared, order) if la.weight in touched}
        refit(module, list(layers.values()), prepared.original, task.batches, task.run, outputs)
    if turn and prepared.can_turn(kept):
        groups = task.groups(module)
        for group in (groups[index] for index in changed):
            if can_be_fitted(group):
                fit_directions(module, group, prepared.around, task.around, task.run, outputs)
    return module


def _outputs(
    module: nn.Module, group: Group, stays: Tensor, chosen: Tensor, known: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return what each output of the producers that is left is of those before."""
    made = {}
    for layer in group.producers:
        assert layer.outputs is not None
        if group.whole:
            made[layer.weight] = chosen
            continue
        rows = known.get(layer.weight)
        if rows is None:
            size = held_state(module)[layer.weight].shape[layer.out_axis]
            rows = torch.eye(size, dtype=torch.float64)
        units = layer.outputs[rows.argmax(1)]  # of the rows that other groups have left
        made[layer.weight] = rows[torch.where(units < 0, True, stays[units.clamp_min(0)])]
    return made


def _merge_directions(
    prepared: Prepared,
    module: nn.Module,
    index: int,
    kept: Tensor,
    touched: Set[str],
    chosen: Tensor,
    least: float,
) -> Tensor:
    """Give every unit that stays the sum of the incoming weights of its like.

    A unit goes to the one it is most similar to on the data. The part of its outgoing weights
    along those of its cluster says how much of it is added; where all are active together, the
    sum is what they say along that direction.

    Returns:
        `[kept, width]`, the units as combinations of those before; `chosen` where none are made.

    """
    group = prepared.groups[index]
    units = homogeneous_units(prepared.task.module, group, maxima=True)
    if units is None:
        return chosen
    if isinstance(units.node, Normalized) and group.producers[0].weight in touched:
        return chosen  # its layer is refitted to what it returned before normalization
    cosine, leader = prepared.similar[index][:, kept].max(1)
    length = units.rows.norm(dim=1)
    shape = (len(kept), units.outgoing.shape[1])
    along = units.outgoing.new_zeros(shape).index_add_(0, leader, units.outgoing * length[:, None])
    along = along / along.norm(dim=1, keepdim=True).clamp_min(1e-300)
    part = torch.where(cosine >= least, (units.outgoing * along[leader]).sum(1), 0.0)
    mixed = torch.zeros_like(chosen)
    mixed[leader, torch.arange(group.width)] = part
    rows = mixed @ units.rows
    # Of the length of the unit before: outgoing weights are refitted in any case.
    size = rows.norm(dim=1, keepdim=True)
    factor = torch.where(size > 0, length[kept][:, None] / size.clamp_min(1e-300), 0.0)
    write_rows(module, units.node, kept, rows * factor)
    return mixed * factor


def _in_call_order(prepared: Prepared, layers: Sequence[Layer]) -> list[Layer]:
    """Sort layers in the order in which the network calls them."""
    names = [name for name, _ in prepared.task.module.named_parameters()]
    calls = {name: place for place, name in enumerate(prepared.original.returned)}
    return sorted(layers, key=lambda layer: calls.get(layer.weight, len(names)))


def relative_error(
    prepared: Prepared, module: nn.Module, *, around: bool = False
) -> tuple[float, float]:
    """Return the largest and the root mean square difference of outputs on the data.

    Relative to the largest and the root mean square output of the network before on the data. With
    `around`, the error at points between the data and close beside them counts as well.
    """
    worst = square = total = 0.0
    size = max(float(outputs.abs().max()) for outputs in prepared.original.outputs)
    points, held = prepared.task.batches, prepared.original
    if around:
        points, held = prepared.task.around, prepared.around
    with torch.no_grad():
        for before, inputs in zip(held.outputs, points(), strict=True):
            gap = prepared.task.run(module, inputs) - before
            worst = max(worst, float(gap.abs().max()))
            square += float(gap.square().sum())
            total += float(before.square().sum())
    return worst / max(size, 1e-300), (square / max(total, 1e-300)) ** 0.5


def kept_at(prepared: Prepared, level: float) -> dict[int, np.ndarray]:
    """Return the units every group keeps where each may cost a mean square error of `level`."""
    found = {}
    for index, elimination in prepared.eliminations.items():
        kept, group = elimination.kept_below(level), prepared.groups[index]
        found[index] = kept if len(kept) >= group.least else elimination.kept(group.least)
    return found
