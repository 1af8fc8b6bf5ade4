"""A forward pass with its uses of parameters recorded, and where the rows stand in each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from whynet.derivatives.exact_kernels import exact_kernels
from whynet.derivatives.parameter_uses import Key, Use, Watch
from whynet.derivatives.row_jacobians import rows_of
from whynet.derivatives.use_gradients import Axis, axis_of
from whynet.models.fitting_rows import row_count

Forward = Callable[[dict[str, Tensor], Any], Tensor]
"""Parameters and inputs to outputs."""

ROWS = 3
"""Rows of the pass whose uses are returned."""


@dataclass(frozen=True)
class Structure:
    """How a network uses its parameters, the same at every call.

    Attributes:
        uses: of a pass over `ROWS` rows.
        axes: of each use, where the rows stand; None where that cannot be told.
        others: parameters that are used in a way that is not known, or where rows have no place.
        used: parameters that have a known use.

    """

    uses: tuple[Use, ...]
    axes: tuple[Axis | None, ...]
    others: frozenset[str]
    used: frozenset[str]

    @property
    def keys(self) -> tuple[Key, ...]:
        """What the uses must be at every call."""
        return tuple(use.key for use in self.uses)


def watched(
    forward: Forward,
    parameters: Mapping[str, Tensor],
    inputs: Any,
    names: frozenset[str] | None = None,
) -> tuple[Watch, Tensor]:
    """Run a network with its uses of (some) parameters recorded, each an end of the graph."""
    held = {name: value.detach() for name, value in parameters.items()}
    chosen = {n: value for n, value in held.items() if names is None or n in names}
    watch = Watch(chosen, row_count(inputs))
    with exact_kernels(), torch.enable_grad(), watch:
        outputs = forward(held, inputs)
    return watch, outputs


def structure_of(
    forward: Forward, parameters: Mapping[str, Tensor], inputs: Any
) -> Structure | None:
    """Watch a network on its first row, taken two and three times.

    Args:
        forward: the network.
        parameters: that are watched.
        inputs: a batch.

    Returns:
        None where the two passes use parameters in different ways.

    """
    first = rows_of(inputs, 0, 1)
    passes = [watched(forward, parameters, _repeated(first, rows))[0] for rows in (ROWS - 1, ROWS)]
    uses = [watch.uses for watch in passes]
    if [use.key for use in uses[0]] != [use.key for use in uses[1]]:
        return None
    axes = tuple(axis_of(*pair) for pair in zip(*uses, strict=True))
    others = set().union(*(watch.others for watch in passes))
    used = set[str]()
    for use, axis in zip(uses[1], axes, strict=True):
        names = {reading.name for reading in use.readings}
        used |= names
        if axis is None:
            others |= names
    return Structure(tuple(uses[1]), axes, frozenset(others), frozenset(used))


def _repeated(inputs: Any, rows: int) -> Any:
    def repeat(leaf: Any) -> Any:
        return leaf.expand(rows, *leaf.shape[1:]).contiguous() if isinstance(leaf, Tensor) else leaf

    return tree_map(repeat, inputs)
