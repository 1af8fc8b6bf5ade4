"""Jacobians of activation regions, the share of full rank, and the claim."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds

from whynet.concepts.landscape.claims import mild_overparam_landscape as module
from whynet.concepts.landscape.region_ranks import onto
from whynet.concepts.landscape.theory.full_rank_regions import full_rank_share
from whynet.core.claim import Cell
from whynet.core.errors import InputError
from whynet.numerics.dichotomies import dichotomies


def exact_rank(matrix: list[list[int]]) -> int:
    """Return the rank of whole numbers by elimination in fractions."""
    rows = [[Fraction(value) for value in row] for row in matrix]
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


def test_full_rank_is_that_of_exact_elimination() -> None:
    generator = np.random.default_rng(0)
    points = generator.choice(np.arange(-50, 51), (7, 3))
    points[:, 2] = 1
    patterns = generator.random((60, 7, 4)) < 0.5
    wanted = []
    for one in patterns:
        jacobian = (one[:, :, None] * points[:, None, :]).reshape(7, 12)
        wanted.append(exact_rank(jacobian.tolist()) == 7)
    assert onto(patterns, points).tolist() == wanted
    assert 5 < sum(wanted) < 55
    assert onto(patterns, points.astype(np.float32)).tolist() == wanted


def test_the_jacobian_is_that_of_the_network() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    weight, outer = (torch.randn(*s, generator=generator).double() for s in ((4, 3), (4,)))
    jacobian = torch.autograd.functional.jacobian(lambda w: (x @ w.T).relu() @ outer, weight)
    pattern = (x @ weight.T > 0).numpy()
    rank = np.linalg.matrix_rank(jacobian.reshape(5, 12).numpy())
    assert onto(pattern[None], x.numpy()).tolist() == [rank == 5]
    products = (pattern[..., None] * x.numpy()[:, None]) * outer.numpy()[:, None]
    np.testing.assert_allclose(jacobian.numpy(), products, atol=1e-14)


def test_where_full_rank_is_impossible() -> None:
    points = np.random.default_rng(1).standard_normal((6, 2))
    assert not onto(np.ones((3, 6, 2), dtype=bool), points).any()  # four columns
    assert not onto(np.ones((3, 6, 9), dtype=bool), points).any()  # all alike: rank two
    assert onto(np.ones((3, 2, 9), dtype=bool), points[:2]).all()
    with pytest.raises(InputError, match="patterns"):
        onto(np.ones((3, 6), dtype=bool), points)


@pytest.mark.parametrize(("rows", "units"), [(1, 2), (2, 2), (3, 3), (4, 3), (5, 3), (4, 4)])
def test_the_bounds_hold_the_share_of_all_regions(rows: int, units: int) -> None:
    x = np.random.default_rng(rows).standard_normal(rows)
    points = np.stack([x, np.ones(rows)], 1)
    every = dichotomies(points)
    regions = np.array(list(product(range(2 * rows), repeat=units)))
    share = onto(every[regions].swapaxes(1, 2), points).mean()
    low, high = full_rank_share(rows, units)
    assert low - 1e-12 <= share <= high + 1e-12
    patterns = every[regions]
    order = np.argsort(x)
    # The upper bound, counted: no three rows in a row that no unit divides.
    divided = (patterns[..., order][..., 1:] != patterns[..., order][..., :-1]).any(1)
    wide = (~divided[:, 1:] & ~divided[:, :-1]).any(1) if rows > 2 else np.zeros(len(regions), bool)
    assert high == pytest.approx(1 - wide.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "units", "share"),
    # Shares of 400 to 4000 drawn regions in the catalogue, at two and at three units a row.
    [
        (5, 10, 0.98),
        (10, 20, 0.86),
        (20, 40, 0.81),
        (40, 80, 0.57),
        (20, 60, 0.95),
        (40, 120, 0.93),
    ],
)
def test_shares_of_the_catalogue(rows: int, units: int, share: float) -> None:
    low, high = full_rank_share(rows, units)
    assert high - low < 0.03
    assert high == pytest.approx(share, abs=0.06)


def test_bad_sizes_are_refused() -> None:
    for sizes, word in (((0, 3), "rows"), ((3, 0), "units")):
        with pytest.raises(InputError, match=word):
            full_rank_share(*sizes)


def test_units_below_a_ratio_of_one_have_fewer_weights_than_rows() -> None:
    kept = {"data": "generic", "regions": "counted"}
    for inputs, rows, ratio in product((1, 2, 3), (12, 30), (0.9, 1.0, 4.0)):
        parameters = {"inputs": inputs, "rows": rows, "ratio": ratio, **kept}
        weights = (inputs + 1) * module.units_of(Cell("", 1, parameters, 0))
        assert weights < rows if ratio < 1 else weights >= ratio * rows


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("mild-overparam-landscape")


def test_most_regions_have_full_rank_and_controls_do_not(smoke: Any) -> None:
    verdict, tables = smoke
    assert verdict.state == "supported", verdict.sentence
    assert set(verdict.controls) == {"too-few", "repeated-row", "by-volume"}
    assert {j.state for j in verdict.controls.values()} == {"refuted"}
    for name in ("too-few", "repeated-row"):
        assert (tables[name][0]["share"].values == 0).all()


@pytest.mark.parametrize(("inputs", "ratio"), [(1, 3.0), (1, 8.0), (2, 8.0)])
def test_a_wrong_share_flips_the_verdict(smoke: Any, inputs: int, ratio: float) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    place = (measured["inputs"] == inputs) & (measured["ratio"] == ratio)
    wrong = measured["share"] - xr.where(place, 0.15, 0.0)
    assert module.judge(measured.assign(share=wrong), predicted).state == "refuted"


def shares(generator: np.random.Generator, shift: float) -> Tables:
    """Shares of regions, of which that of one ratio and one number of rows is off."""
    names, shape, coords = frame("mild-overparam-landscape", "small")
    known = np.full(shape, np.nan)
    known[0] = np.array([0.3, 0.7, 0.99])[:, None, None, None]
    true = np.broadcast_to(np.array([0.3, 0.7, 0.99])[:, None, None, None], shape).copy()
    true[0, 0, 1] += shift
    share = generator.binomial(module.DRAWS, true) / module.DRAWS
    bounds = {"low": (names, known), "high": (names, known)}
    return xr.Dataset({"share": (names, share)}, coords), xr.Dataset(bounds, coords)


MADE_UP = (
    at_null("one share 0.05 too large, the band's edge", lambda g: shares(g, 0.05)),
    at_null("one share 0.05 too small", lambda g: shares(g, -0.05)),
    holds("the stated shares", lambda g: shares(g, 0.0)),
    fails("one share 0.15 too small", lambda g: shares(g, -0.15)),
)


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
