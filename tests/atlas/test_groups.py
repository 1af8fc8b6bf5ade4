"""Groups are a function of the grid alone; tables and verdicts of what is in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.core.test_claim import CLAIM

from whynet.atlas.groups import groups_of, remaining
from whynet.atlas.judging import judged, verdict_of
from whynet.atlas.tables import STATE, table_of
from whynet.core.claim import Judgement, grid_of
from whynet.core.errors import InputError

GRID = grid_of("c", CLAIM)


def shaped(**changes: Any) -> Any:
    from dataclasses import replace

    return replace(CLAIM, **changes)


def test_groups_hold_every_cell_once_and_agree_in_shape() -> None:
    groups = groups_of(shaped(shape=("width",), group=4), GRID)
    keys = [cell.key for group in groups for cell in group.cells]
    assert sorted(keys) == sorted(cell.key for cell in GRID.cells())
    assert [len(group.cells) for group in groups] == [4, 2, 4, 2]
    assert all(len({c.parameters["width"] for c in group.cells}) == 1 for group in groups)
    assert [g.id for g in groups] == [
        g.id for g in groups_of(shaped(shape=("width",), group=4), GRID)
    ]


def test_a_group_with_one_unfinished_cell_runs_whole() -> None:
    groups = groups_of(shaped(group=4), GRID)
    keys = {cell.key for cell in GRID.cells()}
    assert remaining(groups, keys) == []
    missing = groups[1].cells[2].key
    assert remaining(groups, keys - {missing}) == [groups[1]]


def test_a_table_puts_values_where_their_cells_are() -> None:
    cells = GRID.cells()
    values = {
        c.key: {"x": np.float64(c.number("width") + 10 * c.seed), "v": np.arange(2.0)}
        for c in cells[:-1]
    }
    table = table_of(GRID, values, {cells[-1].key: "no luck"})
    assert table["x"].dims == ("width", "gamma", "start", "seed")
    at = table["x"].sel(width=4, gamma=0.5, start="zero", seed=2)
    assert float(at) == 24.0
    last = {"width": 4, "gamma": 1.0, "start": "zero", "seed": 2}
    assert np.isnan(float(table["x"].sel(last))) and str(table[STATE].sel(last).values) == "failed"
    assert table["v"].shape == (2, 2, 1, 3, 2)


def complete(value: float) -> xr.Dataset:
    return table_of(GRID, {c.key: {"x": np.float64(value)} for c in GRID.cells()}, {})


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    assert STATE not in measured and STATE not in predicted
    same = bool((abs(measured["x"] - predicted["x"]) < 0.1).all())
    return Judgement("supported" if same else "refuted", "It is so." if same else "It is not.")


MODULE: Any = SimpleNamespace(judge=judge)


@pytest.mark.parametrize(
    ("own", "control", "state"),
    [
        (1.0, 2.0, "supported"),
        (2.0, 2.0, "refuted"),
        (1.0, 1.0, "inconclusive"),  # a control that is not refuted tests nothing
    ],
)
def test_a_verdict_needs_its_controls(own: float, control: float, state: str) -> None:
    tables = {
        "": (complete(own), complete(1.0)), "random-start": (complete(control), complete(1.0)),
    }  # fmt: skip
    verdict = verdict_of(MODULE, CLAIM, tables)
    assert verdict.state == state
    assert bool(verdict.faults) == (control == 1.0)
    if verdict.faults and state == "inconclusive":
        assert "not refuted under random-start" in verdict.sentence


def test_missing_cells_decide_nothing() -> None:
    cells = GRID.cells()
    part = table_of(GRID, {c.key: {"x": np.float64(1.0)} for c in cells[:-2]}, {cells[-1].key: "x"})
    found = judged(MODULE, part, complete(1.0))
    assert found.state == "inconclusive" and found.sentence.startswith("2 of 12 cells")
    assert "(1 of them failed)" in found.sentence
    # A control without results does not count as refuted either.
    verdict = verdict_of(MODULE, CLAIM, {"": (complete(1.0),) * 2, "random-start": (part, part)})
    assert verdict.state == "inconclusive" and verdict.faults == ("random-start",)


@pytest.mark.parametrize("name", ["width", "seed", STATE])
def test_an_array_named_like_a_parameter_is_refused(name: str) -> None:
    values = {cell.key: {name: np.float64(1.0)} for cell in GRID.cells()}
    with pytest.raises(InputError, match="values: found an array named"):
        table_of(GRID, values, {})
