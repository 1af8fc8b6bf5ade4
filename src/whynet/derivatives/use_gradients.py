"""From the uses of parameters to their gradients: what entered and what comes back, by rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from whynet.derivatives.gradient_parts import Factored, Part, Written, outer
from whynet.derivatives.parameter_uses import Reading, Use

Way = Literal["factors", "written"]


@dataclass(frozen=True)
class Axis:
    """Where the rows stand in the output of a use.

    Attributes:
        place: the axis.
        times: positions of a row along it, next to each other.

    """

    place: int
    times: int


@dataclass(frozen=True)
class PartPlan:
    """How the gradients of some parameters are taken.

    Attributes:
        names: of the parameters.
        uses: places of their uses in the order of the calls.
        way: kept as factors, or written out.
        single: whether they are a matrix that is used once, at one position.
        row_numbers: numbers held for a row.
        peak_numbers: numbers held for a row while they are computed.
        pair_work: multiplications that a pair of rows costs, outputs contracted.

    """

    names: tuple[str, ...]
    uses: tuple[int, ...]
    way: Way
    single: bool
    row_numbers: int
    peak_numbers: int
    pair_work: int


@dataclass(frozen=True)
class Seen:
    """A use with what comes back to it.

    Attributes:
        use: what was recorded.
        signal: `[C, ...]` derivatives of all outputs with respect to its output.
        axis: where the rows are.
        rows: their number.

    """

    use: Use
    signal: Tensor
    axis: Axis
    rows: int


def axis_of(two: Use, three: Use) -> Axis | None:
    """Find the axis of the rows from the same use on two and on three rows."""
    one, other = two.leaving.shape, three.leaving.shape
    if two.key != three.key:
        return None
    places = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(places) != 1:
        return None
    place = places[0]
    times = other[place] - one[place]
    if one[place] != 2 * times:
        return None
    barred = len(one) - 1 if two.kind in ("dense", "table") else 1
    if two.kind == "convolution" and place != 0:
        return None
    if two.kind in ("dense", "table") and place == barred:
        return None
    if two.view and two.view[place] != 1:
        return None
    return Axis(place, times)


def planned_parts(
    uses: Sequence[Use], trained: Sequence[str], rows: int, outputs: int
) -> list[PartPlan]:
    """Choose how to take the gradients of parameters that are used in known ways only.

    A matrix is kept as factors where inner products of its factors need fewer multiplications
    than those of written-out gradients: T² (features + C units) against C features units.

    Args:
        uses: of one pass.
        trained: names of the parameters.
        rows: of that pass.
        outputs: C.

    """
    by_name: dict[str, list[int]] = {name: [] for name in trained}
    for place, use in enumerate(uses):
        for reading in (use.weight, use.bias):
            if reading is not None and reading.name in by_name:
                by_name[reading.name].append(place)
    parts, done = [], set[str]()
    for name, places in by_name.items():
        held = [uses[place] for place in places]
        if name in done or not places or not _is_matrix(name, held):
            continue
        names = (name, *_joint_bias(held, places, by_name))
        parts.append(_planned(names, places, held, rows, outputs))
        done |= set(names)
    for name, places in by_name.items():
        if name not in done and places:
            held = [uses[place] for place in places]
            parts.append(_planned((name,), places, held, rows, outputs))
    return parts


def _joint_bias(
    uses: Sequence[Use], places: list[int], by_name: dict[str, list[int]]
) -> tuple[str, ...]:
    """Return the bias that is added wherever a matrix is used and nowhere else, if there is one."""
    biases = {None if use.bias is None else use.bias.name for use in uses}
    bias = next(iter(biases))
    if len(biases) > 1 or bias is None or by_name.get(bias) != places:
        return ()
    return () if uses[0].kind == "table" or groups_of(uses[0]) > 1 else (bias,)


def _planned(
    names: tuple[str, ...], places: list[int], uses: Sequence[Use], rows: int, outputs: int
) -> PartPlan:
    """Choose the way of a part, and count what it takes."""
    first = uses[0]
    leaving = sum(use.leaving.numel() for use in uses) // rows
    entering = sum(0 if use.entering is None else use.entering.numel() for use in uses) // rows
    if not _is_matrix(names[0], uses):
        reading = first.weight if first.weight and first.weight.name == names[0] else first.bias
        assert reading is not None
        size = outputs * reading.tensor.numel()
        return PartPlan(
            names, tuple(places), "written", False, size, size + entering + outputs * leaving, size
        )
    assert first.weight is not None
    units = first.leaving.shape[_unit_axis(first)]
    positions = leaving // units
    table = first.kind == "table"
    features = 1 if table else first.weight.tensor.numel() // units + 1
    numbers = positions * features + outputs * leaving
    gram, size = positions**2 * (features + outputs * units), outputs * units * features
    factors = table or positions == 1 or (groups_of(first) == 1 and gram <= size)
    single = first.kind == "dense" and len(uses) == 1 and positions == 1
    if factors:
        return PartPlan(names, tuple(places), "factors", single, numbers, 2 * numbers, gram)
    return PartPlan(names, tuple(places), "written", single, size, size + 2 * numbers, size)


def _is_matrix(name: str, uses: Sequence[Use]) -> bool:
    """Whether a parameter is the matrix of uses that can be joined as positions of one."""
    first = uses[0]
    return first.kind in ("dense", "convolution", "table") and all(
        use.weight is not None
        and use.weight.name == name
        and (use.bias is None or use.bias.name != name)
        and use.kind == first.kind
        and first.weight is not None
        and use.weight.transposed == first.weight.transposed
        for use in uses
    )


def groups_of(use: Use) -> int:
    """Return the groups of a convolution, 1 of all others."""
    return use.settings[3][0] if use.kind == "convolution" else 1


def _unit_axis(use: Use) -> int:
    return 1 if use.kind == "convolution" else use.leaving.ndim - 1


def part_of(plan: PartPlan, seen: Sequence[Seen]) -> Part:
    """Return the gradients of a planned part from its uses."""
    first = seen[0].use
    matrix = first.weight is not None and first.weight.name == plan.names[0]
    if matrix and _is_matrix(plan.names[0], [one.use for one in seen]):
        return _matrix(plan, seen)
    written = torch.stack([_written(plan.names[0], one) for one in seen]).sum(0)
    return Written(written)


def _matrix(plan: PartPlan, seen: Sequence[Seen]) -> Part:
    entering, returning = [], []
    for one in seen:
        into, back = _positions(one)
        weight, bias = one.use.weight, one.use.bias
        assert weight is not None
        if weight.factor != 1.0:
            back_factor = weight.factor
            into = into * back_factor
        if len(plan.names) == 2:
            assert bias is not None
            into = torch.cat([into, into.new_full((*into.shape[:2], 1), bias.factor)], dim=2)
        entering.append(into)
        returning.append(back)
    into = entering[0] if len(entering) == 1 else torch.cat(entering, dim=1)
    back = returning[0] if len(returning) == 1 else torch.cat(returning, dim=2)
    first = seen[0].use
    if first.kind == "table":
        assert first.weight is not None
        return Factored(into, back, len(first.weight.tensor))
    if plan.way == "factors":
        return Factored(into, back)
    return Written(_grouped(back, into, groups_of(first)))


def _grouped(back: Tensor, into: Tensor, groups: int) -> Tensor:
    """Sum products over positions where each group of units reads features of its own."""
    if groups == 1:
        return outer(back, into)
    units = back.reshape(*back.shape[:3], groups, -1)
    features = into.reshape(*into.shape[:2], groups, -1)
    return torch.einsum("nctgb,ntga->ncgba", units, features).flatten(2)


def _positions(one: Seen) -> tuple[Tensor, Tensor]:
    """Return `[n, T, features]` (a table: `[n, T]`) and `[n, C, T, units]` of a use."""
    use, rows = one.use, one.rows
    assert use.entering is not None
    if use.kind == "convolution":
        assert use.weight is not None
        into = patches(use.entering, use.weight.tensor.shape[2:], use.settings)
        into = into.reshape(rows, -1, into.shape[-1])
        signal = one.signal.flatten(3)  # [C, N, out, positions]
        outputs, _, units, _ = signal.shape
        shaped = signal.reshape(outputs, rows, one.axis.times, units, -1)
        return into, shaped.permute(1, 0, 2, 4, 3).reshape(rows, outputs, -1, units)
    moved = use.entering.movedim(one.axis.place, 0)
    table = use.kind == "table"
    into = moved.reshape(rows, -1) if table else moved.reshape(rows, -1, moved.shape[-1])
    signal = one.signal.movedim(one.axis.place + 1, 1)
    outputs, units = signal.shape[0], signal.shape[-1]
    back = signal.reshape(outputs, rows, -1, units).transpose(0, 1).contiguous()
    if table:
        assert use.weight is not None
        if use.settings:
            back = back * (into != use.settings[0][0])[:, None, :, None]
        back = back * use.weight.factor
    return into, back


def patches(images: Tensor, kernel: Sequence[int], settings: Sequence[Sequence[int]]) -> Tensor:
    """Cut what a convolution multiplies at each position, `[N, positions, channels * kernel]`.

    Args:
        images: `[N, channels, ...]`.
        kernel: its sides.
        settings: stride, padding and dilation a side.

    """
    stride, padding, dilation = settings[:3]
    sides = [
        side for pair in zip(reversed(padding), reversed(padding), strict=True) for side in pair
    ]
    held = functional.pad(images, sides) if any(sides) else images
    for axis, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        held = held.unfold(2 + axis, gap * (size - 1) + 1, step)
        held = held[..., ::gap]
    spatial = len(kernel)
    order = [0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial)]
    cut = held.permute(order)
    count, features = len(cut), math.prod(cut.shape[1 + spatial :])
    return cut.reshape(count, -1, features)


def _written(name: str, one: Seen) -> Tensor:
    """Return `[n, C, parameter]` that one use adds to the gradient of a parameter."""
    use = one.use
    parts = [
        of_reading(reading, one)
        for reading in (use.weight, use.bias)
        if reading is not None and reading.name == name
    ]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def of_reading(reading: Reading, one: Seen) -> Tensor:
    """Return `[n, C, parameter]`, what the reading of a parameter by a use adds to its gradient."""
    use = one.use
    if reading is use.bias and not use.view:
        signal = one.signal if use.kind != "convolution" else one.signal.movedim(2, -1)
        moved = signal.movedim(one.axis.place + 1, 1)
        outputs, units = len(signal), signal.shape[-1]
        back = moved.reshape(outputs, one.rows, -1, units).sum(2).transpose(0, 1)
        return back * reading.factor
    if use.view:
        return _broadcast(one, use.entering if reading is use.weight else None) * reading.factor
    into, back = _positions(one)
    if use.kind == "table":
        return _table_written(into, back, reading)
    found = _grouped(back, into, groups_of(use))
    if reading.transposed:
        units = back.shape[-1]
        found = found.reshape(*found.shape[:2], units, -1).transpose(2, 3).flatten(2)
    return found * reading.factor


def _table_written(tokens: Tensor, back: Tensor, reading: Reading) -> Tensor:
    n, outputs, _, units = back.shape
    found = back.new_zeros(n, outputs, len(reading.tensor), units)
    index = tokens[:, None, :, None].expand(back.shape)
    return found.scatter_add_(2, index, back).flatten(2)


def _broadcast(one: Seen, entering: Tensor | None) -> Tensor:
    """Sum what comes back over the axes along which a scale or shift is broadcast."""
    signal = one.signal if entering is None else one.signal * entering
    place = one.axis.place
    outputs = len(signal)
    view = [side for axis, side in enumerate(one.use.view) if axis != place]
    moved = signal.movedim(place + 1, 0)
    rest = moved.shape[2:]
    summed = moved.reshape(one.rows, -1, outputs, *rest).sum(1)
    over = [2 + axis for axis, side in enumerate(view) if side == 1 and rest[axis] != 1]
    if over:
        summed = summed.sum(over)
    return summed.reshape(one.rows, outputs, -1)
