"""Wide networks and their linearization: prediction, training, verdict.

The closed form of the linearized training is tested in `test_ntk_drift.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.concepts.kernels.claims import ntk_linearized as module
from whynet.concepts.kernels.two_layers import learning_rates, problems
from whynet.core.claim import Cell


def test_the_prediction_is_gradient_descent_on_the_linearized_network() -> None:
    parameters = {"activation": "tanh", "rows": 6, "width": 10, "steps": 30, "scaling": "ntk",
                  "start": "plain"}  # fmt: skip
    cells = [Cell("ntk-linearized", 1, parameters, seed) for seed in range(2)]
    given = problems(cells)
    own = {name: value[1] for name, value in given.start.items()}
    tables, starts = [], []
    for points in (given.inputs[1], given.other[1]):
        rows = torch.func.jacrev(lambda p, x=points: given.forward(p, x))(own)
        tables.append(torch.cat([rows[n].flatten(1) for n in sorted(rows)], 1))
        starts.append(given.forward(own, points))
    assert float(starts[0].abs().max()) > 0.1
    weights = torch.zeros(tables[0].shape[1], dtype=torch.float64)
    rate = float(learning_rates(given)[1])
    for _ in range(30):
        residual = starts[0] + tables[0] @ weights - given.targets[1]
        weights = weights - rate / 6 * tables[0].T @ residual
    found = module.predict(cells)[1]
    np.testing.assert_allclose(found["before"], starts[1].numpy(), atol=1e-13)
    np.testing.assert_allclose(
        found["after"], (starts[1] + tables[1] @ weights).numpy(), atol=1e-11
    )


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run("ntk-linearized")


def test_wide_networks_are_where_their_linearization_is(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_functions_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    for wrong in (1.3 * measured["after"], measured["after"].roll(seed=1)):
        assert module.judge(measured.assign(after=wrong), predicted).state == "refuted"
    one = measured.isel(width=[0])
    assert module.judge(one, predicted.isel(width=[0])).state == "not applicable"


def functions(generator: np.random.Generator, last: float, exponent: float) -> Tables:
    """Functions whose distance from the linearized one falls to `last` at the widest."""
    widths, dims = np.array([64, 256, 1024]), ["activation", "width", "seed"]
    coords = {"activation": ["tanh"], "width": widths, "seed": range(20)}
    zero = np.zeros((1, 3, 20, 1))
    axes = [*dims, "before_0"], [*dims, "after_0"]
    predicted = xr.Dataset({"before": (axes[0], zero), "after": (axes[1], zero + 1)}, coords)
    spread = np.exp(0.2 * generator.normal(size=(3, 20)) - 0.02)
    far = last * (widths[:, None] / 1024) ** exponent * spread
    return xr.Dataset({"after": (axes[1], 1 + far[None, ..., None])}, coords), predicted


MADE_UP = (
    at_null("10 % away at the widest, the band's edge", lambda g: functions(g, 0.1, -0.5)),
    at_null("exponent -0.25, the band's edge", lambda g: functions(g, 0.02, -0.25)),
    holds("5 % away, exponent -0.5", lambda g: functions(g, 0.05, -0.5), 0.95),
    fails("30 % away at every width", lambda g: functions(g, 0.3, 0.0)),
)
