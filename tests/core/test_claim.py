"""Cells, grids and what a claim accepts."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whynet.core.claim import Cell, Claim, Control, Grid, Parameter, grid_of
from whynet.core.errors import InputError

CLAIM = Claim(
    title="t",
    statement="s",
    kind="theorem",
    cites=(),
    answers=("optimization",),
    assumptions={"small": "it is small"},
    parameters=(
        Parameter("width", "int", "hidden units", 1, 64),
        Parameter("gamma", "float", "exponent", -1.0, 2.0),
        Parameter("start", "choice", "where it starts", choices=("zero", "random")),
    ),
    presets={
        "smoke": {"width": (2,), "gamma": (0.5,), "seeds": (2,)},
        "small": {"width": (2, 4), "gamma": (0.5, 1.0), "seeds": (3,)},
    },
    controls=(Control("random-start", "small", "start", "random", "It starts elsewhere."),),
)


def test_a_preset_gives_its_cells_in_canonical_order() -> None:
    grid = grid_of("c", CLAIM)
    cells = grid.cells()
    assert len(grid) == len(cells) == 12
    assert dict(cells[0].parameters) == {"width": 2, "gamma": 0.5, "start": "zero"}
    assert [cell.seed for cell in cells[:4]] == [0, 1, 2, 0]
    assert len({cell.key for cell in cells}) == 12


def test_a_control_changes_one_parameter_alone() -> None:
    grid = grid_of("c", CLAIM, "smoke")
    under = grid.under(CLAIM.controls[0])
    assert under.axes["start"] == ("random",) and under.seeds == grid.seeds
    assert {k: v for k, v in under.axes.items() if k != "start"} == {
        k: v for k, v in grid.axes.items() if k != "start"
    }


def test_axes_are_replaced_and_brought_to_their_type() -> None:
    grid = grid_of("c", CLAIM, changes={"width": [8.0, 8, 16], "gamma": [1]}, seeds=1)
    assert grid.axes["width"] == (8, 16) and grid.axes["gamma"] == (1.0,)
    assert [type(value) for value in (*grid.axes["width"], *grid.axes["gamma"])] == [
        int,
        int,
        float,
    ]


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"width": [0]}, "width"),
        ({"width": [2.5]}, "width"),
        ({"width": [True]}, "width"),
        ({"width": ["2"]}, "width"),
        ({"width": [float("nan")]}, "width"),
        ({"width": [10**400]}, "width"),
        ({"gamma": [2.1]}, "gamma"),
        ({"gamma": [float("inf")]}, "gamma"),
        ({"start": ["one"]}, "start"),
        ({"depth": [1]}, "depth"),
    ],
)
def test_nonsense_gets_one_sentence_with_the_ranges(changes: Any, argument: str) -> None:
    with pytest.raises(InputError, match="width: a whole number from 1 to 64; gamma: ") as refused:
        grid_of("c", CLAIM, changes=changes)
    assert refused.value.argument == argument


@pytest.mark.parametrize("seeds", [0, -1, True, 10**7])
def test_seeds_out_of_range(seeds: int) -> None:
    with pytest.raises(InputError, match="seeds: found"):
        grid_of("c", CLAIM, seeds=seeds)


def test_an_unknown_scale() -> None:
    with pytest.raises(InputError, match="scale: found 'huge'; wanted one of smoke, small"):
        grid_of("c", CLAIM, "huge")


def test_a_grid_too_large_is_refused_before_it_is_listed() -> None:
    axes = {"width": list(range(1, 65)), "gamma": [n / 1000 for n in range(2000)]}
    with pytest.raises(InputError, match="128,000,000,000 cells"):
        grid_of("c", CLAIM, changes=axes, seeds=10**6)


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        max_size=4,
    ),
    st.integers(0, 10**6),
)
def test_a_key_is_canonical_and_says_what_the_cell_is(parameters: Any, seed: int) -> None:
    cell = Cell("c", 1, parameters, seed)
    again = Cell("c", 1, dict(reversed(list(parameters.items()))), seed)
    assert cell.key == again.key
    assert json.loads(cell.key) == {"parameters": parameters, "seed": seed}
    assert pickle.loads(pickle.dumps(cell)) == cell


def test_streams_depend_on_what_the_cell_is_and_on_nothing_else() -> None:
    cell = Cell("c", 1, {"width": 2, "start": "zero"}, 0)
    other = Cell("c", 1, {"width": 2, "start": "random"}, 0)
    assert cell.seed_for("data") == Cell("c", 1, {"start": "zero", "width": 2}, 0).seed_for("data")
    assert cell.seed_for("data") != other.seed_for("data")
    assert cell.seed_for("data", shared=("start",)) == other.seed_for("data", shared=("start",))
    seeds = {
        Cell(claim, version, {"width": 2}, seed).seed_for(purpose)
        for claim in "ab" for version in (1, 2) for seed in (0, 1) for purpose in ("x", "y")
    }  # fmt: skip
    assert len(seeds) == 16


def test_cells_cannot_be_changed() -> None:
    cell = Cell("c", 1, {"width": 2}, 0)
    with pytest.raises(TypeError):
        cell.parameters["width"] = 3  # type: ignore[index]
    assert cell.number("width") == 2
    with pytest.raises(TypeError, match="start is 'zero'"):
        Cell("c", 1, {"start": "zero"}, 0).number("start")


def test_a_grid_is_as_long_as_its_cells() -> None:
    grid = Grid("c", 1, {"a": (1, 2), "b": ("x",)}, 3)
    assert len(grid) == 6 == len(grid.cells())


def test_fresh_seeds_are_other_cells_of_the_same_grid() -> None:
    grid = Grid("c", 1, {"a": (1, 2)}, 3)
    fresh = Grid("c", 1, {"a": (1, 2)}, 3, first_seed=3)
    assert [cell.seed for cell in fresh.cells()] == [3, 4, 5, 3, 4, 5]
    keys = {cell.key for cell in (*grid.cells(), *fresh.cells())}
    assert keys == {cell.key for cell in Grid("c", 1, {"a": (1, 2)}, 6).cells()}
    control = Control("one", "", "a", 1, "")
    assert fresh.under(control).seed_numbers == range(3, 6)
