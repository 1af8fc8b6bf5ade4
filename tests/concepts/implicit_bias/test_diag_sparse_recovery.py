"""Sparse recovery by diagonal networks: theory, experiment, verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.run import claim
from whynet.concepts.implicit_bias.claims import diag_sparse_recovery as module
from whynet.concepts.implicit_bias.theory.statistical_dimension import l1_statistical_dimension


def test_the_catalogues_values() -> None:
    found = [l1_statistical_dimension(s, 100) for s in (3, 5, 10, 20)]
    np.testing.assert_allclose(found, (14.09, 20.39, 32.88, 51.11), atol=0.01)


def test_the_dimension_is_the_mean_square_distance_from_the_cone() -> None:
    """Its definition: the least mean of the squared distance of a normal vector from `τ ∂‖x‖₁`."""
    draws = np.random.default_rng(0).standard_normal((20_000, 100))
    taus = np.linspace(0.5, 3, 26)
    means = [
        ((draws[:, :5] - t) ** 2).sum(1).mean()
        + (np.maximum(np.abs(draws[:, 5:]) - t, 0) ** 2).sum(1).mean()
        for t in taus
    ]
    assert l1_statistical_dimension(5, 100) == pytest.approx(min(means), rel=0.01)


def test_a_full_signal_needs_all_equations() -> None:
    assert l1_statistical_dimension(50, 50) == pytest.approx(50, rel=1e-6)


@pytest.fixture(scope="module")
def record() -> Any:
    return claim("diag-sparse-recovery").run("smoke")


def test_signals_are_found_where_predicted_and_not_from_a_large_start(record: Any) -> None:
    assert record.verdict.state == "supported", record.verdict.sentence
    assert record.verdict.controls["large-start"].state == "refuted"
    figure = Figure()
    module.draw(figure, record.dataset, record.predicted)
    assert figure.axes


def test_wrong_measurements_flip_the_verdict(record: Any) -> None:
    measured, predicted = (t.drop_vars("state") for t in (record.dataset, record.predicted))
    exchanged = measured.isel(rows=[1, 0]).assign_coords(rows=measured.coords["rows"])
    assert module.judge(exchanged, predicted).state == "refuted"
    unfinished = measured.assign(residual=measured["residual"] * 0 + 1)
    assert module.judge(unfinished, predicted).state == "inconclusive"
    one_sided = measured.isel(rows=[1]), predicted.isel(rows=[1])
    assert module.judge(*one_sided).state == "inconclusive"


def recoveries(generator: np.random.Generator, above: float, below: float) -> Tables:
    """Recovered or not, with chances above and below the predicted threshold."""
    predicted = xr.Dataset(
        {"threshold": (("rows", "seed"), np.full((2, 60), 20.4))}, {"rows": [16, 25]}
    )
    hits = generator.random((2, 60)) < np.array([[below], [above]])
    table = {
        "recovered": (("rows", "seed"), hits.astype(float)),
        "residual": (("rows", "seed"), np.zeros((2, 60))),
    }
    return xr.Dataset(table, {"rows": [16, 25]}), predicted


MADE_UP = (
    at_null("half recovered above the threshold", lambda g: recoveries(g, 0.5, 0.1)),
    at_null("half recovered below it", lambda g: recoveries(g, 0.8, 0.5)),
    holds("80 % above, 10 % below", lambda g: recoveries(g, 0.8, 0.1), 0.95),
    fails("25 % above, 10 % below", lambda g: recoveries(g, 0.25, 0.1)),
)
