"""Gradient flow and log-time flow against exact solutions."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from tests.training.ensembles import (
    data,
    half_mean_square,
    linear,
    member,
    same,
    start,
    two_layer,
)

from whynet.core.errors import InputError
from whynet.models.preservation import global_state
from whynet.training.ensemble import Below
from whynet.training.gradient_flow import GradientFlow, flow_ensemble
from whynet.training.log_time_flow import flow_in_log_time
from whynet.training.schedule import logarithmic_times

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def regression(dtype=torch.float64, members: int = 4):
    """Return data, starts and the exact flow of underdetermined linear regression."""
    inputs, targets = data(rows=6, inputs=10, dtype=dtype)
    weights = start(members, inputs=10, dtype=dtype)["w"][:, 0]

    def exact(time):
        wide, aim, begin = inputs.double(), targets.double(), weights.double()
        limit = begin + (aim - begin @ wide.T) @ torch.linalg.pinv(wide).T
        values, vectors = torch.linalg.eigh(wide.T @ wide / 6)
        kept = vectors @ torch.diag(torch.exp(-values * time)) @ vectors.T
        return limit + (begin - limit) @ kept

    return inputs, targets, {"w": weights}, exact


def weight(result, index):
    return torch.from_numpy(result.records.w.values[:, index]).double()


@DTYPES
def test_runge_kutta_follows_linear_regression(dtype):
    inputs, targets, weights, exact = regression(dtype)
    times = (0.0, 0.1, *logarithmic_times(1.0, 100.0, 2)[1:])
    found = flow_ensemble(
        linear, weights, inputs, targets, half_mean_square, times=times, record={"w": _w}
    )
    for index, time in enumerate(times):
        error = float((weight(found, index) - exact(time)).abs().max())
        assert error < (2e-6 if dtype == torch.float64 else 3e-4)
    assert found.state == ("finished",) * 4 and found.times.tolist() == [100.0] * 4
    assert torch.equal(found.parameters["w"], torch.from_numpy(found.records.w.values[:, -1]))


def _w(parameters):
    return parameters["w"]


@pytest.mark.parametrize("method", ["runge-kutta", "chebyshev"])
def test_one_number_a_member_decays_exponentially(method):
    inputs = torch.tensor([1.0, 2.0], dtype=torch.float64)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = flow_ensemble(
        lambda p, x: p["w"] * x, {"w": weights}, inputs, 0 * inputs, half_mean_square,
        times=(0.7,), flow=GradientFlow(method=method, relative_tolerance=1e-8),
    )  # fmt: skip
    torch.testing.assert_close(
        found.parameters["w"], weights * math.exp(-0.7 * 2.5), rtol=1e-5, atol=0
    )


def test_a_tighter_tolerance_is_a_smaller_error():
    inputs, targets, weights, exact = regression()
    errors = []
    for tolerance in (1e-4, 1e-6, 1e-8, 1e-10):
        found = flow_ensemble(
            linear,
            weights,
            inputs,
            targets,
            half_mean_square,
            times=[3.0],
            flow=GradientFlow(relative_tolerance=tolerance),
        )
        errors.append(float((found.parameters["w"] - exact(3.0)).abs().max()))
    assert all(later < earlier / 5 for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-9


def test_euler_is_the_integrator_of_the_catalogue():
    """Of first order in its two settings; its first step is min(0.5 / λ, 0.05 / g)."""
    inputs, targets, weights, exact = regression()
    errors = []
    for factor in (1.0, 0.2, 0.04):
        how = GradientFlow("euler", stability=0.5 * factor, accuracy=0.05 * factor)
        found = flow_ensemble(
            linear, weights, inputs, targets, half_mean_square, times=[2.0], flow=how
        )
        errors.append(float((found.parameters["w"] - exact(2.0)).abs().max()))
    assert 4 < errors[0] / errors[1] < 6.5 and 4 < errors[1] / errors[2] < 6 and errors[0] < 0.05

    one = flow_ensemble(
        linear,
        weights,
        inputs,
        targets,
        half_mean_square,
        times=[1e9],
        flow=GradientFlow("euler"),
        limit=1,
    )
    largest = float(torch.linalg.eigvalsh(inputs @ inputs.T / 6)[-1])
    residual = weights["w"] @ inputs.T - targets
    growth = torch.maximum((residual @ inputs / 6).abs().amax(1), (residual.sum(1) / 6).abs())
    wanted = torch.minimum(torch.full_like(growth, 0.5 / largest), 0.05 / growth)
    assert torch.allclose(one.times, wanted, rtol=2e-3)  # 30 power iterations
    assert one.state == ("out of steps",) * 4

    slow = flow_ensemble(
        linear,
        weights,
        inputs,
        targets,
        half_mean_square,
        times=[1e9],
        flow=GradientFlow("euler", accuracy=1e9),
        limit=1,
    )
    assert torch.allclose(slow.times, torch.full_like(growth, 0.5 / largest), rtol=2e-3)


@DTYPES
@pytest.mark.parametrize("method", ["runge-kutta", "chebyshev", "euler"])
def test_a_balanced_two_layer_linear_network_learns_its_modes_in_turn(dtype, method):
    """σ(t) = λ / (1 + (λ/α² - 1) exp(-2 λ t)) for ½|W₂W₁ - M|² from W₁ = W₂ = αI."""
    modes = torch.tensor([4.0, 2.0, 0.5], dtype=torch.float64)
    turn = torch.linalg.qr(start(1, width=3)["w"][0])[0]
    aim = (turn @ torch.diag(modes) @ turn.T).to(dtype)
    scales = (0.1, 0.01, 0.3)
    eyes = torch.stack([scale * torch.eye(3, dtype=dtype) for scale in scales])

    def forward(parameters, inputs):
        return inputs @ (parameters["second"] @ parameters["first"]).T

    def loss(outputs, targets):
        return 0.5 * (outputs - targets).square().sum()

    times = (0.2, 0.5, 1.0, 2.0, 4.0)
    found = flow_ensemble(
        forward,
        {"first": eyes, "second": eyes},
        torch.eye(3, dtype=dtype),
        aim.T.contiguous(),
        loss,
        times=times,
        flow=GradientFlow(method),
        record={"product": lambda p: p["second"] @ p["first"]},
    )
    precise = 2e-5 if dtype == torch.float64 else 3e-3
    allowed = {"euler": 0.35, "runge-kutta": precise, "chebyshev": 3e-3}[method]
    for number, scale in enumerate(scales):
        for index, time in enumerate(times):
            product = torch.from_numpy(found.records["product"].values[number, index]).double()
            along = torch.diagonal(turn.T @ product @ turn)
            exact = modes / (1 + (modes / scale**2 - 1) * torch.exp(-2 * modes * time))
            assert float((along - exact).abs().max()) < allowed
    # Equal factors stay equal to round-off in every integrator.
    balance = found.parameters["first"] - found.parameters["second"].mT
    assert float(balance.abs().max()) < (1e-12 if dtype == torch.float64 else 1e-5)


def test_a_nonlinear_network_follows_scipy():
    parameters, (inputs, targets) = start(2, width=4), data()
    found = flow_ensemble(
        two_layer,
        parameters,
        inputs,
        targets,
        half_mean_square,
        times=[1.0, 5.0],
        flow=GradientFlow(relative_tolerance=1e-9),
    )
    for number in range(2):
        own = {name: value[number] for name, value in parameters.items()}

        def velocity(_, flat, own=own):
            parts, at = {}, 0
            for name, value in own.items():
                part = torch.from_numpy(flat[at : at + value.numel()].copy())
                parts[name] = part.reshape(value.shape).requires_grad_()
                at += value.numel()
            loss = half_mean_square(two_layer(parts, inputs), targets)
            slopes = torch.autograd.grad(loss, list(parts.values()))
            return -np.concatenate([slope.flatten().numpy() for slope in slopes])

        begin = np.concatenate([value.flatten().numpy() for value in own.values()])
        exact = solve_ivp(velocity, (0, 5), begin, method="LSODA", rtol=1e-10, atol=1e-12).y[:, -1]
        ends = [value[number].flatten().numpy() for value in found.parameters.values()]
        assert np.abs(np.concatenate(ends) - exact).max() < 1e-7


@pytest.mark.parametrize("method", ["runge-kutta", "chebyshev", "euler"])
def test_members_of_a_flow_do_not_disturb_each_other(method):
    """A member alone, beside one that stops and beside one that is lost: the same bits."""
    parameters, (inputs, targets) = start(4), data()
    stop = Below("loss", torch.tensor([0.0, 0.2, 0.0, 0.0], dtype=torch.float64))
    spoiled = {name: value.clone() for name, value in parameters.items()}
    spoiled["b"][3] = torch.nan
    before = global_state()

    def follow(own, criterion):
        how = GradientFlow(method, relative_tolerance=1e-5)
        return flow_ensemble(
            two_layer,
            own,
            inputs,
            targets,
            half_mean_square,
            times=[1.0, 20.0],
            flow=how,
            stop=criterion,
        )

    found = follow(spoiled, stop)
    assert before == global_state()
    assert found.state == ("out of steps", "converged", "out of steps", "not finite")
    assert 0 < found.times[1] < 20 and found.losses[1] <= 0.2 and found.times[3] == 0
    alone = follow(member(parameters, 2), None)
    assert same(member(found.parameters, 2), alone.parameters)
    assert alone.state == ("finished",) and torch.equal(found.steps[2:3], alone.steps)
    only = follow(member(parameters, 1), Below("loss", 0.2))
    assert same(member(found.parameters, 1), only.parameters) and only.state == ("converged",)


def test_criteria_at_recorded_times():
    inputs, targets, weights, _ = regression()
    times = logarithmic_times(0.1, 100.0, 4)
    found = flow_ensemble(
        linear,
        weights,
        inputs,
        targets,
        half_mean_square,
        times=times,
        stop=Below("gradient", 1e-3),
        record={"w": _w},
    )
    assert found.state == ("converged",) * 4
    assert all(float(time) in times for time in found.times)
    residual = found.parameters["w"] @ inputs.T - targets
    assert bool(((residual @ inputs / 6).norm(dim=1) <= 1e-3).all())


def test_settings_of_a_flow_that_do_not_fit_are_refused():
    inputs, targets, weights, _ = regression()

    def refused(sentence, **options):
        with pytest.raises(InputError, match=sentence):
            flow_ensemble(
                linear, weights, inputs, targets, half_mean_square, **{"times": [1.0], **options}
            )

    refused("times: found", times=[])
    refused("times: found", times=[1.0, 0.5])
    refused("stop: found 'size'", stop=Below("size", 1.0))
    for settings in ({"method": "leapfrog"}, {"stability": 2.0}, {"relative_tolerance": 0.0}):
        with pytest.raises(InputError, match=f"{next(iter(settings))}: found"):
            GradientFlow(**settings)
    refused("relative_tolerance: found 1e-16", flow=GradientFlow(relative_tolerance=1e-16))


POINTS = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)


def along(z, tail, times, parameters, **options):
    return flow_in_log_time(
        linear,
        parameters,
        z,
        torch.ones(len(z), dtype=z.dtype),
        tail=tail,
        times=times,
        record={"w": _w},
        **options,
    )


@DTYPES
def test_the_exponential_loss_has_its_closed_form_to_1e100(dtype):
    """From zero on z = (1,1), (1,-1): w₁(t) = log(1 + 2t), w₂ = 0."""
    times = (0.0, 1e-6, 1e-3, 1.0, 1e3, 1e10, 1e50, 1e100, 1e300)
    begin = {"w": torch.zeros(3, 2, dtype=dtype)}
    found = along(POINTS.to(dtype), "exponential", times, begin)
    exact = [math.log1p(2 * time) for time in times]
    first, second = found.records.w.values[..., 0], found.records.w.values[..., 1]
    # The tolerance of a step is relative to the weights.
    allowed = np.maximum(1, exact) * (1e-6 if dtype == torch.float64 else 2e-4)
    assert (np.abs(first - exact) < allowed).all() and (np.abs(second) < allowed).all()
    assert found.state == ("finished",) * 3
    assert np.allclose(found.times, 1e300, rtol=1e-9)


def test_a_wrong_clock_would_be_seen():
    """The same flow against a formula off by the factor 2 in time fails the test above."""
    found = along(POINTS, "exponential", (1e100,), {"w": torch.zeros(1, 2).double()})
    assert abs(float(found.parameters["w"][0, 0]) - math.log(1e100)) > 0.6


def test_an_offset_between_the_points_has_its_closed_form():
    """One point z: |z|² (e^{w·z} - e^{w₀·z}) / |z|² = |z|² t, logistic: + m - m₀."""
    z = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    begin = torch.tensor([[0.1, 0.2], [-0.3, 0.0]], dtype=torch.float64)
    times = (0.01, 1.0, 1e5, 1e100)
    for tail in ("exponential", "logistic"):
        found = along(z, tail, times, {"w": begin})
        margin = found.records.w.values @ z[0].numpy()
        for number in range(2):
            first = float(begin[number] @ z[0])
            for index, time in enumerate(times):
                m = float(margin[number, index])
                # dm/dt = 25 e^{-m}; logistic: 25 / (1 + e^m). Compared by their logarithms.
                if tail == "exponential":
                    right = np.logaddexp(first, math.log(25 * time))
                    left = m
                else:
                    left = np.logaddexp(m, math.log(max(m - first, 1e-300)))
                    right = np.logaddexp(first, math.log(25 * time))
                assert abs(left - right) < 1e-4


def test_log_time_and_plain_flow_agree():
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(8, 3, generator=generator, dtype=torch.float64) + 1.0
    parameters = {"w": torch.randn(2, 3, generator=generator, dtype=torch.float64)}
    times = (0.5, 5.0, 50.0)
    for tail, loss in (
        ("exponential", lambda f, y: torch.exp(-y * f).sum()),
        ("logistic", lambda f, y: torch.log1p(torch.exp(-y * f)).sum()),
    ):
        slow = along(z, tail, times, parameters)
        plain = flow_ensemble(
            linear,
            parameters,
            z,
            torch.ones(8, dtype=torch.float64),
            loss,
            times=times,
            record={"w": _w},
        )
        assert np.abs(slow.records.w.values - plain.records.w.values).max() < 3e-5
        assert np.allclose(slow.losses, plain.losses, rtol=1e-4)


def test_log_time_flow_finds_the_slope_that_the_catalogue_prescribes():
    """(w(1e100) - w(1e10)) / log(1e90) is the support vector solution (1, 0) from any start."""
    begin = {"w": torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64)}
    for tail in ("exponential", "logistic"):
        found = along(POINTS, tail, (1e10, 1e100), begin)
        slope = np.diff(found.records.w.values, axis=1)[:, 0] / math.log(1e90)
        assert np.abs(slope - [1.0, 0.0]).max() < 1e-4


def test_log_time_flow_refuses_what_it_cannot_do():
    begin = {"w": torch.zeros(1, 2, dtype=torch.float64)}
    with pytest.raises(InputError, match="tail: found 'hinge'"):
        along(POINTS, "hinge", (1.0,), begin)
    with pytest.raises(InputError, match="method: found 'euler'"):
        along(POINTS, "logistic", (1.0,), begin, flow=GradientFlow("euler"))
    with pytest.raises(InputError, match="labels: found labels other than ±1"):
        flow_in_log_time(linear, begin, POINTS, torch.zeros(2), tail="logistic", times=(1.0,))
