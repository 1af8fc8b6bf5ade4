"""Deep matrix factorization: theory, experiment, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.judging import CLAIM
from whynet.concepts.implicit_bias.claims import dmf_low_rank as module
from whynet.concepts.implicit_bias.theory.nuclear_completion import least_nuclear_norm
from whynet.core.claim import grid_of
from whynet.core.errors import InputError


@pytest.mark.parametrize(("a", "b"), [(0.5, 1.2), (2.0, 3.0), (-2.0, 3.0), (0.0, 1.0), (1.0, 1.0)])
def test_one_missing_entry_of_two_by_two_has_a_closed_form(a: float, b: float) -> None:
    """‖M‖_*² = ‖M‖_F² + 2|det M|: least at ab, cut off at ±1."""
    matrix = np.array([[1.0, a], [b, np.nan]])
    found = least_nuclear_norm(matrix, ~np.isnan(matrix), tolerance=1e-9)
    assert found.gap <= 1e-9
    assert found.matrices[1, 1] == pytest.approx(np.clip(a * b, -1, 1), abs=1e-4)


def test_an_entry_is_where_a_search_along_it_finds_it() -> None:
    generator = np.random.default_rng(0)
    matrices = generator.standard_normal((3, 5, 4))
    seen = np.ones(matrices.shape, dtype=bool)
    seen[:, 2, 1] = False
    found = least_nuclear_norm(matrices, seen, tolerance=1e-8)
    for own, filled in zip(matrices, found.matrices, strict=True):

        def norm(entry: float, own: Any = own) -> float:
            trial = own.copy()
            trial[2, 1] = entry
            return float(np.linalg.norm(trial, "nuc"))

        best = minimize_scalar(norm, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9})
        assert filled[2, 1] == pytest.approx(best.x, abs=1e-3)


def test_the_gap_proves_that_no_completion_is_smaller() -> None:
    generator = np.random.default_rng(1)
    matrices = generator.standard_normal((4, 8, 2)) @ generator.standard_normal((4, 2, 8))
    seen = generator.random(matrices.shape) < 0.6
    found = least_nuclear_norm(matrices, seen, tolerance=1e-5)
    np.testing.assert_array_equal(found.matrices[seen], matrices[seen])
    assert (found.gap <= 1e-5).all()
    assert (found.gap >= -1e-12).all()
    norms = np.linalg.norm(found.matrices, "nuc", axis=(1, 2))
    for _ in range(100):
        away = np.where(seen, 0, generator.standard_normal(matrices.shape))
        others = np.linalg.norm(found.matrices + 0.1 * away, "nuc", axis=(1, 2))
        assert (others >= norms * (1 - 1e-5)).all()
    early = least_nuclear_norm(matrices, seen, tolerance=1e-9, limit=3)
    assert (early.gap > 1e-3).all()


def test_what_cannot_be_completed_is_named() -> None:
    with pytest.raises(InputError, match=r"^observed: found shapes"):
        least_nuclear_norm(np.ones((2, 2)), np.ones((2, 3), dtype=bool))
    with pytest.raises(InputError, match=r"^matrices: found one that is zero"):
        least_nuclear_norm(np.ones((2, 2)), np.zeros((2, 2), dtype=bool))


def test_one_factor_never_moves_a_hidden_entry() -> None:
    grid = grid_of("dmf-low-rank", module.CLAIM, "smoke", {"depth": (1,)})
    for values in module.experiment(grid.cells()):
        assert values["hidden_error"] == 1.0
        assert values["observed_error"] < 0.01


def test_a_control_has_the_matrix_and_the_entries_of_the_claim() -> None:
    grid = grid_of("dmf-low-rank", module.CLAIM, "smoke")
    own = module._stacked(grid.cells())
    for control in module.CLAIM.controls:
        matrices, seen = module._stacked(grid.under(control).cells())
        same = control.name != "full-rank"
        assert np.array_equal(own[0], matrices) == same
        assert np.linalg.matrix_rank(matrices[0]) == (2 if same else 30)
        if same:
            np.testing.assert_array_equal(own[1], seen)


@pytest.fixture(scope="module")
def found() -> Any:
    return run("dmf-low-rank")


def test_it_beats_least_nuclear_norm_and_the_controls_do_not(found: Any) -> None:
    verdict, tables = found
    assert verdict.state == "supported", verdict.sentence
    states = {name: control.state for name, control in verdict.controls.items()}
    assert states == dict.fromkeys(("full-rank", "one-factor", "large-start"), "refuted")
    measured, predicted = tables[CLAIM]
    assert (measured["observed_error"] < 2e-3).all()
    assert (predicted["gap"] < 1e-3).all()
    figure = Figure()
    module.draw(figure, measured, predicted)
    assert figure.axes


def test_wrong_measurements_flip_the_verdict(found: Any) -> None:
    measured, predicted = (table.drop_vars("state") for table in found[1][CLAIM])

    def state(change: Mapping[str, Any]) -> str:
        return module.judge(measured.assign(change), predicted).state

    assert state({}) == "supported"
    assert state({"hidden_error": 1.2 * predicted["hidden_error"]}) == "refuted"
    deep = measured.assign_coords(depth=[3]), predicted.assign_coords(depth=[3])
    wrong = deep[0].assign(effective_rank=1.3 * deep[1]["effective_rank"])
    assert module.judge(wrong, deep[1]).state == "refuted"


def completions(generator: np.random.Generator, median: float) -> Tables:
    """Errors of 10 seeds over that of the least nuclear norm, spread as at the small scale."""
    error = median * np.exp(0.6 * generator.standard_normal((2, 10)))
    rank = 1 + 0.02 * generator.standard_normal((2, 10))
    dims, ones = ("depth", "seed"), np.ones((2, 10))
    table = {"hidden_error": (dims, error), "effective_rank": (dims, rank)}
    truth = {"hidden_error": (dims, ones), "effective_rank": (dims, ones)}
    depth = {"depth": [2, 3]}
    return xr.Dataset(table, depth), xr.Dataset(truth, depth)


MADE_UP = (
    at_null("median error 0.9 of the nuclear norm's", lambda g: completions(g, 0.9)),
    holds("median error 0.3 of it", lambda g: completions(g, 0.3)),
    fails("median error 3 times it", lambda g: completions(g, 3.0)),
)
