"""Expected cells of a plane, cells of lines, and the claim that counts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds

from whynet.concepts.regions.claims import plane_regions as module
from whynet.concepts.regions.theory import plane_cells_at_initialization as theory
from whynet.concepts.regions.theory.region_bounds import generic_arrangement_regions
from whynet.core.errors import InputError

SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
PENTAGON = np.array([[np.cos(a), np.sin(a)] for a in 2 * np.pi * np.arange(5) / 5 + 0.3])
ZERO, EYE = np.zeros(2), np.eye(2)


@pytest.mark.parametrize("lines", [0, 1, 3, 10])
def test_lines_in_general_position_make_zaslavskys_number(lines: int) -> None:
    generator = np.random.default_rng(lines)
    angles = np.pi * (np.arange(lines) + generator.uniform(0.2, 0.8, lines)) / max(lines, 1)
    weight = np.stack([np.cos(angles), np.sin(angles)], 1)
    bias = generator.uniform(-1, 1, lines)
    found = theory.arrangement_cells(weight, bias, 1e4 * SQUARE)
    assert found == generic_arrangement_regions(lines, 2)


def test_lines_are_counted_where_they_are_inside() -> None:
    weight = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    # x = 0.2, y = −0.1, x + y = 1.5 (a corner cut off), x = 0.7 (parallel to the first).
    bias = np.array([-0.2, 0.1, -1.5, -0.7])
    assert theory.arrangement_cells(weight[:2], bias[:2], SQUARE) == 4
    assert theory.arrangement_cells(weight[:3], bias[:3], SQUARE) == 5
    assert theory.arrangement_cells(weight, bias, SQUARE) == 8
    assert theory.arrangement_cells(weight, bias, SQUARE - 5) == 1


@pytest.mark.parametrize("widths", [[64], [32, 32], [20, 30, 14]])
def test_a_whole_plane_has_one_crossing_a_pair(widths: list[int]) -> None:
    found = theory.expected_plane_cells(ZERO, EYE, 60 * SQUARE, widths, bias_scale=1.0)
    total = sum(widths)
    if len(widths) == 1:
        assert found == pytest.approx(1 + total + total * (total - 1) / 2, rel=0.03)
    assert found == pytest.approx(total**2 / 2, rel=0.08)


def test_the_mean_of_drawn_lines_is_the_expected_number() -> None:
    generator = np.random.default_rng(3)
    axes = np.linalg.qr(generator.standard_normal((5, 2)))[0].T
    origin, polygon = np.array([1.0, -0.5, 0.3, 0.0, 2.0]), 2.5 * PENTAGON + 0.4
    counts = []
    for _ in range(400):
        weight = 1.1 / 5**0.5 * generator.standard_normal((30, 5))
        bias = 0.7 * generator.standard_normal(30)
        counts.append(theory.arrangement_cells(weight @ axes.T, weight @ origin + bias, polygon))
    error = np.std(counts, ddof=1) / 20
    scales = {"weight_scale": 1.1, "bias_scale": 0.7}
    found = theory.expected_plane_cells(origin, axes, polygon, [30], **scales)
    assert abs(np.mean(counts) - found) < 3 * error
    scales["bias_scale"] = 0.9
    wrong = theory.expected_plane_cells(origin, axes, polygon, [30], **scales)
    assert abs(np.mean(counts) - wrong) > 4 * error


def test_crossings_are_the_density_of_common_zeros() -> None:
    generator = np.random.default_rng(0)
    (k, d, a), (k2, d2, a2) = (1.3, 0.8, 0.5), (2.0, 0.6, 0.1)
    draws = generator.standard_normal((4, 1_000_000))
    across, around = draws[0] * a**0.5, draws[1] * d**0.5
    across2, around2 = draws[2] * a2**0.5, draws[3] * d2**0.5
    mean = np.abs(across * around2 - around * across2).mean()
    fields = [(np.array([one[0]]), one[1], np.array([one[2]])) for one in ((k, d, a), (k2, d2, a2))]
    found = theory._crossings(*fields)
    assert float(found[0]) == pytest.approx(mean / (2 * np.pi * (k * k2) ** 0.5), rel=5e-3)
    assert theory._crossings(*reversed(fields)) == pytest.approx(found)
    none = (np.ones(1), 1.0, np.zeros(1))
    assert theory._crossings(none, none) == 0


@pytest.mark.parametrize(
    ("axes", "polygon", "words"),
    [
        (np.eye(3), SQUARE, "axes: .*shape"),
        (np.array([[1.0, 0.0], [1.0, 1.0]]), SQUARE, "not orthonormal"),
        (EYE, SQUARE[:2], "polygon"),
        (EYE, SQUARE[::-1], "turn left"),
    ],
)
def test_bad_planes_are_refused(axes: Any, polygon: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        theory.expected_plane_cells(ZERO, axes, polygon, [4], bias_scale=1.0)


def test_bad_lines_are_refused() -> None:
    with pytest.raises(InputError, match="bias"):
        theory.arrangement_cells(np.ones((3, 2)), np.ones(2), SQUARE)
    with pytest.raises(InputError, match="not finite"):
        theory.arrangement_cells(np.full((1, 2), np.nan), np.ones(1), SQUARE)


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("plane-regions")


def test_cells_are_as_expected_and_other_networks_have_other_cells(smoke: Any) -> None:
    verdict, tables = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}
    half = tables["opposite-units"][0]["cells"].mean() / tables[""][0]["cells"].mean()
    assert float(half) == pytest.approx(0.25, abs=0.04)


def test_one_cell_too_many_and_a_wrong_mean_flip_the_verdict(smoke: Any) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    cells = measured["cells"]
    one = (measured["seed"] == 5) & (measured["depth"] == 1)
    more = module.judge(measured.assign(cells=cells + one), predicted)
    assert more.state == "refuted" and "exceptions" in more.sentence
    deep = xr.where(measured["depth"] == 2, 1.2, 1.0)
    wrong = module.judge(measured.assign(cells=cells * deep), predicted)
    assert wrong.state == "refuted" and "depth 2" in wrong.sentence
    alone = measured.sel(depth=[2]), predicted.sel(depth=[2])
    assert "lines" not in module.judge(*alone).sentence


def cells(generator: np.random.Generator, mean: float) -> Tables:
    """Numbers of cells over the expected ones, of which those of one depth are off."""
    names, shape, coords = frame("plane-regions", "small")
    center = np.ones(shape)
    center[1] = mean
    found = 1000 * (center + 0.13 * generator.normal(size=shape))
    lines = np.full(shape, np.nan)
    lines[0] = found[0]
    expected = {"cells": (names, np.full(shape, 1000.0)), "arrangement": (names, lines)}
    return xr.Dataset({"cells": (names, found)}, coords), xr.Dataset(expected, coords)


MADE_UP = (
    at_null("7 % too few at one depth, past the band", lambda g: cells(g, 0.93)),
    at_null("7 % too many at one depth", lambda g: cells(g, 1.07)),
    holds("the expected numbers", lambda g: cells(g, 1.0)),
    fails("20 % too many at one depth", lambda g: cells(g, 1.2)),
)


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
