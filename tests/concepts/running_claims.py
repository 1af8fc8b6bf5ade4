"""Runs a claim and its controls in memory, without a store."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from whynet.atlas.groups import groups_of
from whynet.atlas.judging import CLAIM, Verdict, verdict_of
from whynet.atlas.registry import claims
from whynet.atlas.tables import table_of
from whynet.core.claim import Grid, Value, grid_of

Tables = tuple[xr.Dataset, xr.Dataset]


def tables(name: str, grid: Grid) -> Tables:
    """Return what a grid of a claim measures and predicts, group by group."""
    entry = claims()[name]
    module = importlib.import_module(entry.reference)
    measured: dict[str, Any] = {}
    predicted: dict[str, Any] = {}
    for group in groups_of(entry.metadata, grid):
        keys = [cell.key for cell in group.cells]
        predicted |= zip(keys, module.predict(group.cells), strict=True)
        measured |= zip(keys, module.experiment(group.cells), strict=True)
    return table_of(grid, measured, {}), table_of(grid, predicted, {})


def run(
    name: str,
    scale: str = "smoke",
    *,
    controls: bool = True,
    seeds: int | None = None,
    changes: Mapping[str, Sequence[Value]] | None = None,
) -> tuple[Verdict, dict[str, Tables]]:
    """Return the verdict of a claim, and the tables of it and of its controls."""
    entry = claims()[name]
    grid = grid_of(name, entry.metadata, scale, changes, seeds)
    grids = {CLAIM: grid}
    if controls:
        grids |= {control.name: grid.under(control) for control in entry.metadata.controls}
    found = {variant: tables(name, own) for variant, own in grids.items()}
    module: Any = importlib.import_module(entry.reference)
    return verdict_of(module, entry.metadata, found), found
