"""Exponential steps of gradient flow, speeds of parameters, and members that are left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.ensembles import (
    data,
    distance,
    half_mean_square,
    linear,
    member,
    relu_two_layer,
    same,
    start,
    two_layer,
)
from torch import Tensor
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.training import flow_run, gradient_flow
from whynet.training.ensemble import Below
from whynet.training.exponential_flow import _second, _third
from whynet.training.gradient_flow import GradientFlow, flow_ensemble

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
EXACT = GradientFlow(relative_tolerance=1e-7)


def test_functions_of_the_method_are_their_integrals() -> None:
    z = torch.tensor(
        [0.0, 1e-9, 1e-3, 0.0099, 0.0101, 0.099, 0.101, 1.0, 30.0], dtype=torch.float64
    )
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(60))
    at, weights = (nodes + 1) / 2, weights / 2
    decay = torch.exp(-z[:, None] * (1 - at))
    second = (decay * at) @ weights  # φ₂(-z) = ∫ exp(-(1 - s) z) s ds
    torch.testing.assert_close(_second(z), second, rtol=1e-11, atol=0)
    third = (decay * at**2 / 2) @ weights  # φ₃(-z), which is (½ - φ₂(-z)) / z
    torch.testing.assert_close(_third(z), third, rtol=1e-9, atol=0)


@DTYPES
def test_linear_regression_takes_one_step_of_any_length(dtype: torch.dtype) -> None:
    inputs, targets = data(rows=6, inputs=10, dtype=dtype)
    weights = {"w": start(3, inputs=10, dtype=dtype)["w"][:, 0]}
    found = flow_ensemble(
        linear, weights, inputs, targets, half_mean_square, times=(30.0, 1e4),
        flow=GradientFlow("exponential"), record={"w": lambda p: p["w"]},
    )  # fmt: skip
    wide, aim, begin = inputs.double(), targets.double(), weights["w"].double()
    limit = begin + (aim - begin @ wide.T) @ torch.linalg.pinv(wide).T
    values, vectors = torch.linalg.eigh(wide.T @ wide / 6)
    for place, time in enumerate((30.0, 1e4)):
        kept = vectors @ torch.diag(torch.exp(-values.clamp(min=0) * time)) @ vectors.T
        gap = torch.from_numpy(found.records.w.values[:, place]) - (limit + (begin - limit) @ kept)
        assert float(gap.abs().max()) < (1e-10 if dtype == torch.float64 else 1e-4)
    # The first step is short, later ones grow five times each; round-off limits long ones.
    assert int(found.steps.max()) < (25 if dtype == torch.float64 else 400)


def _logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.softplus(-outputs * (2 * (targets > 0) - 1)).mean()


def _two_outputs(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
    hidden = torch.tanh(inputs @ parameters["w"].T + parameters["b"])
    return torch.stack([hidden @ parameters["a"], hidden.square() @ parameters["a"]], 1)


def _both(outputs: Tensor, targets: Tensor) -> Tensor:
    wanted = torch.stack([targets, targets.square()], 1)
    return (outputs - wanted).square().sum(1).mean() + 0.1 * outputs.exp().mean()


@pytest.mark.parametrize(
    ("forward", "loss"),
    [(two_layer, half_mean_square), (two_layer, _logistic), (_two_outputs, _both)],
)  # fmt: skip
def test_exponential_and_runge_kutta_steps_follow_the_same_flow(forward, loss) -> None:  # type: ignore[no-untyped-def]
    inputs, targets = data(rows=5)
    begin = start(3, width=6)
    speeds = {"w": torch.tensor([0.5, 1.0, 4.0]), "a": torch.tensor([3.0, 1.0, 0.1])}
    ends = []
    for how in (EXACT, *(GradientFlow("exponential", t) for t in (1e-2, 1e-4))):
        found = flow_ensemble(
            forward, begin, inputs, targets, loss, times=(2.0,), flow=how, speeds=speeds
        )
        ends.append(found.parameters)
    errors = [distance(end, ends[0]) for end in ends[1:]]
    assert errors[1] < 3e-3 and errors[1] < errors[0] / 5


def test_rectified_units_are_followed_through_their_kinks() -> None:
    inputs, targets = data(rows=4)
    begin = start(3, width=30)
    ends = [
        flow_ensemble(
            relu_two_layer, begin, inputs, targets, half_mean_square, times=(3.0,), flow=how
        ).parameters
        for how in (GradientFlow(relative_tolerance=1e-4), GradientFlow("exponential", 1e-2, 1e-2))
    ]
    assert distance(ends[1], ends[0]) < 0.02


@pytest.mark.parametrize("method", ["runge-kutta", "chebyshev", "exponential"])
def test_speeds_are_a_change_of_units(method: str) -> None:
    """θ = u θ' moves as the flow of θ, where θ' has the speed 1/u²."""
    inputs, targets = data(rows=5)
    begin = start(2, width=4)
    units = {"w": torch.tensor([10.0, 0.3]), "a": torch.tensor([0.01, 5.0])}
    how = GradientFlow(method, 1e-8 if method == "runge-kutta" else 1e-4)  # type: ignore[arg-type]
    plain = flow_ensemble(
        two_layer, begin, inputs, targets, half_mean_square, times=(1.5,), flow=how
    )

    def scaled(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        own = {n: parameters[n] * parameters.get(f"unit {n}", 1) for n in ("w", "b", "a")}
        return two_layer(own, rows)

    shapes = {"w": (-1, 1, 1), "a": (-1, 1)}
    other = {n: v / units[n].reshape(shapes[n]) if n in units else v for n, v in begin.items()}
    held = flow_ensemble(
        scaled, other, inputs, targets, half_mean_square, times=(1.5,), flow=how,
        constants={f"unit {n}": u.double() for n, u in units.items()},
        speeds={n: u.double() ** -2 for n, u in units.items()},
    )  # fmt: skip
    back = {
        n: v * units[n].reshape(shapes[n]) if n in units else v for n, v in held.parameters.items()
    }
    assert distance(back, plain.parameters) < (1e-5 if method == "runge-kutta" else 5e-3)


@pytest.mark.parametrize("method", ["runge-kutta", "chebyshev", "exponential"])
def test_members_that_have_stopped_are_left_out_and_change_nothing(method: str) -> None:
    inputs, targets = data(rows=4)
    begin, thresholds = start(7, width=5), torch.tensor([10.0, 0.1, 0.05, 0.02, 0.1, 0.01, 5e-3])
    computed: list[int] = []

    class Watched(flow_run.FlowRun):
        """Notes how many members are computed."""

        def __init__(self, make, *rest, **more):  # type: ignore[no-untyped-def]
            def noted(rows):  # type: ignore[no-untyped-def]
                computed.append(7 if rows is None else len(rows))
                return make(rows)

            super().__init__(noted, *rest, **more)

    def run(parameters: dict[str, Tensor], stop: Tensor):  # type: ignore[no-untyped-def]
        return flow_ensemble(
            two_layer, parameters, inputs, targets, half_mean_square, times=(1.0, 5.0, 400.0),
            flow=GradientFlow(method, 1e-2), stop=Below("loss", stop),  # type: ignore[arg-type]
            record={"a": lambda p: p["a"]},
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_flow, "FlowRun", Watched)
        whole = run(begin, thresholds)
    assert computed[0] == 7 and computed[-1] < 7
    assert whole.state == ("converged",) * 7
    assert (whole.losses <= thresholds).all() and int(whole.steps[0]) == 0
    for place in (0, 3, 6):
        alone = run(member(begin, place), thresholds[place : place + 1])
        assert int(alone.steps[0]) == int(whole.steps[place])
        assert same(alone.parameters, member(whole.parameters, place))
        assert (alone.records.a.values[0] == whole.records.a.values[place]).all()


def test_what_does_not_fit_is_refused() -> None:
    inputs, targets = data(rows=5)
    begin = start(2)

    def run(**changes: object) -> None:
        given = {"flow": GradientFlow("exponential"), **changes}
        forward = given.pop("forward", two_layer)
        flow_ensemble(forward, begin, inputs, targets, half_mean_square, times=(1.0,), **given)  # type: ignore[arg-type]

    def mixed(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        return two_layer(parameters, rows - rows.mean(0))

    with pytest.raises(InputError, match="depend on the other rows"):
        run(forward=mixed)
    with pytest.raises(InputError, match="trained parameters"):
        run(speeds={"z": torch.ones(2)})
    with pytest.raises(InputError, match="positive finite"):
        run(speeds={"w": torch.tensor([1.0, 0.0])})
    with pytest.raises(InputError, match="another method"):
        run(speeds={"w": torch.ones(2)}, flow=GradientFlow("euler"))
    many = torch.zeros(600, 3, dtype=torch.float64)
    with pytest.raises(InputError, match="600 outputs over all rows"):
        flow_ensemble(
            two_layer, begin, many, many[:, 0], half_mean_square, times=(1.0,),
            flow=GradientFlow("exponential"),
        )  # fmt: skip
