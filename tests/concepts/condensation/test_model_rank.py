"""Directions of wide models at simple targets: theory, experiment, verdict."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, exceptions

from whynet.concepts.condensation import embedded_targets as targets
from whynet.concepts.condensation.claims import model_rank as module
from whynet.concepts.condensation.theory.optimistic_sample_size import (
    optimistic_matrix,
    optimistic_neurons,
)
from whynet.core.claim import Cell
from whynet.core.errors import InputError


def test_numbers_of_the_catalogue() -> None:
    assert [optimistic_matrix(8, 8, r) for r in (1, 2)] == [15, 28]
    assert optimistic_matrix(4, 6, 2) == 16
    assert optimistic_matrix(5, 7, 5) == 35
    assert optimistic_neurons(3, 2) == 8


@pytest.mark.parametrize("rank", [0, 4])
def test_bad_sizes_are_refused(rank: int) -> None:
    with pytest.raises(InputError, match="rank"):
        optimistic_matrix(3, 5, rank)
    with pytest.raises(InputError, match="sizes"):
        optimistic_neurons(0, 2)


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("kind", ["tanh", "rectified"])
def test_a_wide_network_computes_the_target_and_has_the_derivatives_of_autograd(
    idle: bool, kind: str
) -> None:
    made = [
        targets.split_network(np.random.default_rng(3), 4, 2, width, idle=idle) for width in (2, 9)
    ]
    x = np.random.default_rng(1).standard_normal((20, 4))
    activation = {"tanh": targets.TANH, "rectified": targets.RECTIFIED}[kind]
    found = [activation.value(x @ weights.T) @ outer for weights, outer in made]
    np.testing.assert_allclose(found[1], found[0], atol=1e-13)
    assert made[1][0].shape == (9, 4)
    function = {"tanh": torch.tanh, "rectified": torch.relu}[kind]
    weights, outer = (torch.from_numpy(part) for part in made[1])
    rows = torch.func.jacrev(lambda w, a: function(torch.from_numpy(x) @ w.T) @ a, argnums=(1, 0))(
        weights, outer
    )
    wanted = torch.cat([part.flatten(1) for part in rows], 1).numpy()
    np.testing.assert_allclose(
        targets.network_tangents(x, *made[1], activation), wanted, atol=1e-13
    )


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("depth", [2, 3])
def test_a_wide_product_has_the_rank_and_the_derivatives_of_autograd(
    idle: bool, depth: int
) -> None:
    sizes = (5, *[7] * (depth - 1), 4)
    factors = targets.padded_factors(np.random.default_rng(0), sizes, 2, idle=idle)
    whole = reduce(lambda low, high: high @ low, factors)
    assert whole.shape == (4, 5) and np.linalg.matrix_rank(whole) == 2
    tensors = tuple(torch.from_numpy(factor) for factor in factors)
    rows = torch.func.jacrev(
        lambda *f: reduce(lambda low, high: high @ low, f).flatten(), argnums=tuple(range(depth))
    )(*tensors)
    wanted = torch.cat([part.flatten(1) for part in rows], 1).numpy()
    np.testing.assert_allclose(targets.product_tangents(factors), wanted, atol=1e-12)


def test_the_rank_of_a_matrix_of_known_singular_values() -> None:
    generator = np.random.default_rng(2)
    left, right = (np.linalg.qr(generator.standard_normal((n, n)))[0] for n in (9, 12))
    matrix = left[:, :4] @ np.diag([1, 1e-2, 1e-4, 1e-6]) @ right[:4]
    rank, kept, dropped = targets.numerical_rank(matrix)
    assert rank == 4 and kept > 1e-8 and dropped < 1e-13
    assert targets.numerical_rank(np.eye(3)) == (3, 1.0, 0.0)


def test_targets_that_do_not_fit_are_refused() -> None:
    parameters = {"model": "network", "inputs": 4, "complexity": 3, "width": 2, "units": "copies",
                  "activation": "tanh"}  # fmt: skip
    with pytest.raises(InputError, match="complexity: found 3; wanted at most 2"):
        module.predict([Cell("model-rank", 1, parameters, 0)])


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("model-rank")


def test_ranks_are_as_predicted_and_not_under_controls(smoke: Any) -> None:
    verdict, tables = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {name: j.state for name, j in verdict.controls.items()} == dict.fromkeys(
        ("idle-units", "rectified"), "refuted"
    )
    rectified = tables["rectified"][0]["rank"].sel(model="network", complexity=2)
    assert (rectified == 2 * 4).all()  # k d, without the output weights


def test_one_direction_more_flips_the_verdict(smoke: Any) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    more = measured["rank"] + xr.where(measured["seed"] == 1, 1, 0)
    assert module.judge(measured.assign(rank=more), predicted).state == "refuted"


def ranks(wrong: np.ndarray) -> Tables:
    """Ranks, one too many where it is said."""
    ones = np.ones(len(wrong))
    known = xr.Dataset({"rank": ("seed", 5 * ones)})
    beside = {"kept": 0.1 * ones, "dropped": 0 * ones, "parameters": 50 * ones}
    measured = known.assign({name: ("seed", values) for name, values in beside.items()})
    return measured.assign(rank=("seed", 5 * ones + wrong)), known


MADE_UP = exceptions(ranks)


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
