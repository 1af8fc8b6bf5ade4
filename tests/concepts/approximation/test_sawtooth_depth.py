"""Uneven sawtooths, what few pieces miss, exact distances, and the claim about depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy.optimize import linprog
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, exceptions
from torch import nn

import whynet
from whynet.concepts.approximation.claims import sawtooth_depth as module
from whynet.concepts.approximation.distances import integrated_gap
from whynet.concepts.approximation.theory.sawtooth_networks import (
    few_pieces_error_bound,
    sawtooth,
    turning_points,
    uneven_sawtooth,
)
from whynet.core.errors import InputError

PEAKS = [0.35, 0.6, 0.5, 0.42]


def tents(x: np.ndarray, peaks: list[float]) -> np.ndarray:
    for peak in peaks:
        x = np.where(x < peak, x / peak, (1 - x) / (1 - peak))
    return x


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_an_uneven_sawtooth_is_its_tents(dtype: torch.dtype, near: float) -> None:
    network = uneven_sawtooth(PEAKS, dtype)
    x = np.linspace(0, 1, 997)
    with torch.no_grad():
        found = network(torch.from_numpy(x).to(dtype)[:, None])[:, 0].double().numpy()
    np.testing.assert_allclose(found, tents(x, PEAKS), rtol=0, atol=near)
    assert sum(p.numel() for p in network.parameters()) == 6 * len(PEAKS) + 1
    turns = turning_points(PEAKS)
    assert (np.diff(turns) > 0).all()
    np.testing.assert_allclose(tents(turns, PEAKS), np.arange(17) % 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_instrument_counts_all_pieces(seed: int) -> None:
    peaks = np.random.default_rng(seed).uniform(module.LOW, module.HIGH, 11).tolist()
    ends = torch.tensor([[0.0], [1.0]])
    pieces = whynet.regions.along(uneven_sawtooth(peaks), ends)
    assert pieces.output_pieces == 2048  # type: ignore[union-attr]
    pieces = whynet.regions.along(sawtooth(8, torch.float32), ends)
    assert pieces.output_pieces == 256  # type: ignore[union-attr]


def test_equal_peaks_are_the_sawtooth() -> None:
    for one, other in zip(
        uneven_sawtooth([0.5] * 3).parameters(), sawtooth(3).parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert turning_points([0.5] * 3).tolist() == [j / 8 for j in range(9)]


def best_line(x: np.ndarray, y: np.ndarray) -> float:
    """Return the least mean absolute distance of a line from points, by a linear program."""
    n = len(x)
    columns = np.stack([x, np.ones(n)], 1)
    above = np.block([[columns, -np.eye(n)], [-columns, -np.eye(n)]])
    cost = np.concatenate([[0, 0], np.full(n, 1 / n)])
    limits = [(None, None)] * 2 + [(0, None)] * n
    return float(linprog(cost, above, np.concatenate([y, -y]), bounds=limits).fun)


@pytest.mark.parametrize("peak", [0.05, 0.2, 0.25, 0.4, 0.5, 0.83])
def test_no_line_is_nearer_to_a_tent(peak: float) -> None:
    x = (np.arange(400) + 0.5) / 400
    found = few_pieces_error_bound(3 * np.array([0, peak, 1]), 1)
    assert found == pytest.approx(3 * best_line(x, tents(x, [peak])), rel=2e-3)


def test_the_bound_of_equal_teeth_and_where_it_ends() -> None:
    turns = turning_points([0.5] * 6)
    for pieces in (1, 5, 32, 33, 50):
        wanted = max(0.0, 1 / 4 - (pieces - 1) / 128)
        assert few_pieces_error_bound(turns, pieces) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("pieces", [1, 2, 3, 4])
def test_the_best_lines_between_turning_points_stay_above_the_bound(pieces: int) -> None:
    turns = turning_points([0.35, 0.6, 0.45])
    teeth = len(turns) - 1
    cost = np.full((teeth + 1, teeth + 1), np.inf)
    for i in range(teeth):
        for j in range(i + 1, teeth + 1):
            x = turns[i] + (np.arange(160) + 0.5) / 160 * (turns[j] - turns[i])
            cost[i, j] = best_line(x, tents(x, [0.35, 0.6, 0.45])) * (turns[j] - turns[i])
    best = cost[0]
    for _ in range(pieces - 1):
        best = np.minimum(best, (best[:, None] + cost).min(0))
    bound = few_pieces_error_bound(turns, pieces)
    assert 0.99 * bound <= best[-1]
    assert best[-1] <= (1.7 if pieces < 3 else 4) * bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_are_integrals(dtype: torch.dtype) -> None:
    up, down = (nn.Linear(1, 1, dtype=dtype) for _ in range(2))
    with torch.no_grad():
        for line, slope, offset in ((up, 1.0, 0.0), (down, -1.0, 1.0)):
            line.weight.fill_(slope)
            line.bias.fill_(offset)
    assert integrated_gap(up, down, 0, 1) == pytest.approx(0.5, abs=1e-14)
    assert integrated_gap(up, down, -1, 3) == pytest.approx(8.5, abs=1e-13)
    tooth = uneven_sawtooth([0.3], dtype)
    assert integrated_gap(tooth, tooth, 0, 1) == 0
    x = (np.arange(200_000) + 0.5) / 200_000
    grid = np.abs(tents(x, PEAKS) - x).mean()
    found = integrated_gap(uneven_sawtooth(PEAKS, dtype), up, 0, 1)
    assert found == pytest.approx(grid, abs=1e-6 if dtype == torch.float32 else 1e-9)


def test_bad_input_is_refused() -> None:
    line = nn.Linear(1, 1)
    for call, words in (
        (lambda: uneven_sawtooth([]), "at least one"),
        (lambda: uneven_sawtooth([0.5, 1.0]), "peaks: found 1.0"),
        (lambda: few_pieces_error_bound(np.array([0.0, 0.0]), 1), "turns"),
        (lambda: few_pieces_error_bound(np.array([0.0, 1.0]), 0), "pieces"),
        (lambda: integrated_gap(line, line, 1, 1), "high"),
        (lambda: integrated_gap(nn.Sequential(line, nn.Tanh()), line, 0, 1), "Tanh"),
    ):
        with pytest.raises(InputError, match=words):
            call()


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("sawtooth-depth")


def test_depth_is_needed_and_controls_are_refuted(smoke: Any) -> None:
    verdict, tables = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {name: j.state for name, j in verdict.controls.items()} == {
        "one-straight-layer": "refuted",
        "deep-competitor": "refuted",
    }
    straight = tables["one-straight-layer"][0]["pieces"].values
    assert (straight == 16).all()
    trained = tables[""][0]["distance"].values
    assert trained.max() < 0.25  # a constant is 1/4 away: training did something


@pytest.mark.parametrize(("name", "factor"), [("pieces", 31 / 32), ("distance", 0.1)])
def test_one_wrong_number_flips_the_verdict(smoke: Any, name: str, factor: float) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    wrong = measured[name] * xr.where(measured["seed"] == 3, factor, 1)
    assert module.judge(measured.assign({name: wrong}), predicted).state == "refuted"
    assert module.judge(measured, predicted).state == "supported"
    few = measured.isel(seed=slice(16)), predicted.isel(seed=slice(16))
    assert module.judge(*few).state == "inconclusive"
    none = predicted.assign(distance=0 * predicted["distance"])
    assert module.judge(measured, none).state == "not applicable"


def bounds(wrong: np.ndarray) -> Tables:
    """Distances at least at their bound, and below it where it is said."""
    ones = np.ones(len(wrong))
    known = xr.Dataset({"pieces": ("seed", 8 * ones), "distance": ("seed", 0.1 * ones)})
    return known.assign(distance=("seed", 0.11 - 0.02 * wrong)), known


MADE_UP = exceptions(bounds)


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
