"""Tables over a grid from the values of its cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from whynet.core.claim import Grid, Values
from whynet.core.errors import InputError

STATE = "state"
"""Variable of a table that says `done`, `failed` or `absent` of every cell."""


def table_of(grid: Grid, values: Mapping[str, Values], failed: Mapping[str, str]) -> xr.Dataset:
    """Arrange values of cells over the grid's parameters and `seed`; NaN where there are none.

    Args:
        grid: the cells.
        values: cell's key to its arrays.
        failed: key to the reason, of cells that failed.

    Raises:
        InputError: an array is named like a parameter.

    """
    names = [*grid.axes, "seed"]
    shape = [*(len(axis) for axis in grid.axes.values()), grid.seeds]
    cells = grid.cells()
    taken = {*grid.axes, "seed", STATE}
    first = next((values[cell.key] for cell in cells if cell.key in values), {})
    if clash := taken & first.keys():
        raise InputError("values", f"an array named {min(clash)!r}", "names of no parameter")
    arrays = {
        name: np.full((len(cells), *np.shape(value)), np.nan) for name, value in first.items()
    }
    state = np.full(len(cells), "absent", dtype="<U6")
    for place, cell in enumerate(cells):
        if cell.key in values:
            state[place] = "done"
            for name, array in arrays.items():
                array[place] = values[cell.key][name]
        elif cell.key in failed:
            state[place] = "failed"
    variables = {
        name: (
            [*names, *(f"{name}_{axis}" for axis in range(array.ndim - 1))],
            array.reshape(*shape, *array.shape[1:]),
        )
        for name, array in arrays.items()
    }
    variables[STATE] = (names, state.reshape(shape))
    coords = {**{name: list(axis) for name, axis in grid.axes.items()}, "seed": grid.seed_numbers}
    return xr.Dataset(variables, coords=coords)
