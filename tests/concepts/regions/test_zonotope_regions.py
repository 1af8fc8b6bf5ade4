"""Sums of absolute values, folded, and the claim that counts their pieces."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy.optimize import linprog
from tests.concepts.running_claims import run, tables
from tests.concepts.verdict_rates import Tables, exceptions

from whynet.concepts.approximation.theory.zonotope_networks import unit_polygon, zonotope_network
from whynet.concepts.regions.claims import zonotope_regions as module
from whynet.core.claim import Cell, grid_of
from whynet.core.errors import InputError

DIRECTIONS = torch.tensor([[1.0, 0.5], [-0.25, 1.0], [0.5, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("folds", [0, 1, 3])
def test_the_network_is_the_folded_sum(folds: int, dtype: torch.dtype, near: float) -> None:
    network = zonotope_network(DIRECTIONS.to(dtype), folds)
    x = 0.3 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    wanted = (x.double() @ DIRECTIONS.T).abs().sum(1)
    x, wanted = x[wanted <= 1], wanted[wanted <= 1]
    assert len(x) > 50
    for _ in range(folds):
        wanted = 1 - (1 - 2 * wanted).abs()
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:, 0].double(), wanted, rtol=0, atol=near)
    pairs = pairwise(network)
    units = [one.out_features for one, other in pairs if isinstance(other, torch.nn.ReLU)]
    assert units == [6] + [2] * folds


def test_the_polygon_has_its_corners_where_the_sum_is_one() -> None:
    corners = unit_polygon(DIRECTIONS)
    sums = (corners @ DIRECTIONS.T).abs()
    torch.testing.assert_close(sums.sum(1), torch.ones(6, dtype=torch.float64))
    assert (sums.min(1).values < 1e-15).all()
    following = torch.roll(corners, -1, 0)
    turns = corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]
    assert (turns > 0).all()


@pytest.mark.parametrize(
    ("directions", "folds", "words"),
    [
        (torch.ones(3), 1, "directions: .*shape"),
        (torch.ones(2, 2, dtype=torch.int64), 1, "int64"),
        (torch.zeros(1, 2), 1, "zero or not finite"),
        (DIRECTIONS, -1, "folds"),
    ],
)
def test_bad_directions_are_refused(directions: Any, folds: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        zonotope_network(directions, folds)


def test_parallel_directions_have_no_polygon() -> None:
    with pytest.raises(InputError, match="not parallel"):
        unit_polygon(torch.tensor([[1.0, 2.0], [-2.0, -4.0]]))
    with pytest.raises(InputError, match="shape"):
        unit_polygon(torch.ones(2, 3))


@pytest.mark.parametrize(("inputs", "count"), [(2, 10), (2, 21), (3, 6), (3, 11)])
def test_pieces_are_as_many_as_signs(inputs: int, count: int) -> None:
    """The cones, counted by the signs at points around every line where two walls meet."""
    parameters = {"inputs": inputs, "directions": count, "folds": 1}
    kept = {"position": "generic", "layers": "fold"}
    cell = Cell("zonotope-regions", 1, {**parameters, **kept}, 3)
    own = module.directions_of(cell).numpy()
    if inputs == 2:
        lines = np.stack([-own[:, 1], own[:, 0]], 1)
    else:
        one, two = np.triu_indices(count, 1)
        lines = np.cross(own[one], own[two])
    lines /= np.linalg.norm(lines, axis=1)[:, None]
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    if inputs == 2:
        near = np.stack([np.cos(angles), np.sin(angles)], 1)[None] * np.ones((len(lines), 1, 1))
    else:
        frame = np.linalg.svd(lines[:, None])[2][:, 1:]
        near = (
            np.cos(angles)[:, None] * frame[:, None, 0]
            + np.sin(angles)[:, None] * frame[:, None, 1]
        )
    points = np.concatenate([side * lines[:, None] + 1e-6 * near for side in (1, -1)])
    cones = len(np.unique(points.reshape(-1, inputs) @ own.T > 0, axis=0))
    predicted = module.predict([cell])[0]["pieces"]
    assert module.experiment([cell])[0]["pieces"] == predicted == 2 * cones


def test_cones_of_four_inputs_are_the_feasible_signs() -> None:
    parameters = {"inputs": 4, "directions": 6, "folds": 2}
    kept = {"position": "generic", "layers": "fold"}
    cell = Cell("zonotope-regions", 1, {**parameters, **kept}, 3)
    own = module.directions_of(cell).numpy()
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 6, indexing="ij"), -1).reshape(-1, 6)
    cones = sum(
        linprog(np.zeros(4), -sign[:, None] * own, -np.ones(6), bounds=[(None, None)] * 4).status
        == 0
        for sign in signs
    )
    assert cones == 52
    assert module.experiment([cell])[0]["pieces"] == module.predict([cell])[0]["pieces"] == 4 * 52


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("zonotope-regions")


def test_pieces_are_exact_and_controls_are_refuted(smoke: Any) -> None:
    verdict, found = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}
    straight, whole = (found[name][0]["pieces"] for name in ("one-straight-layer", ""))
    assert (2 * straight.values == whole.values).all()
    fewer = found["two-parallel"][0]["pieces"]
    fewer_directions = grid_of("zonotope-regions", module.CLAIM, "smoke", {"directions": [4]})
    known = tables("zonotope-regions", fewer_directions)[1]["pieces"]
    assert (fewer.values == known.values).all()


def test_one_piece_too_few_flips_the_verdict(smoke: Any) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    wrong = measured["pieces"] - xr.where(measured["seed"] == 4, 1, 0)
    assert module.judge(measured.assign(pieces=wrong), predicted).state == "refuted"
    few = measured.isel(seed=slice(8)), predicted.isel(seed=slice(8))
    assert module.judge(*few).state == "inconclusive"


def pieces(wrong: np.ndarray) -> Tables:
    """Counts of pieces, one too many where it is said."""
    known = xr.Dataset({"pieces": ("seed", np.full(len(wrong), 100.0))})
    return known + wrong.astype(float), known


MADE_UP = exceptions(pieces)


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
