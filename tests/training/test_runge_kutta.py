"""The two integrators with error control: order, stability, and members on their own."""

import math

import numpy as np
import pytest
import torch

from whynet.training.chebyshev import CHEBYSHEV, STAGES, TABLE, coefficients
from whynet.training.runge_kutta import DORMAND_PRINCE, Flow, Tolerance, advance, begin

METHODS = pytest.mark.parametrize("method", [DORMAND_PRINCE, CHEBYSHEV])
TIGHT = Tolerance(1e-7, 1e-10)


def swinging(clock, state):
    """Field of x' = cos(t) x: x(t) = x(0) exp(sin t); depends on the clock."""
    return torch.cos(clock)[:, None] * state, state[:, 0]


def followed(field, state, until, method, tolerance=TIGHT, begin_at=0.0):
    flow = begin(field, begin_at, state, tolerance)
    for _ in range(100_000):
        if not bool((flow.running & (flow.clock < until)).any()):
            return flow
        flow = advance(field, flow, until, tolerance, method)
    raise AssertionError("no end")


@METHODS
def test_a_field_that_depends_on_time(method):
    state = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    flow = followed(swinging, state, 4.0, method)
    assert torch.allclose(flow.state, state * math.exp(math.sin(4.0)), rtol=1e-5)
    assert flow.clock.tolist() == [4.0, 4.0] and bool((flow.steps <= flow.tried).all())


@pytest.mark.parametrize(("method", "order"), [(DORMAND_PRINCE, 5), (CHEBYSHEV, 2)])
def test_the_order_of_a_step(method, order):
    """One step of length h is wrong by a multiple of h^(order + 1)."""
    errors = []
    for step in (0.2, 0.1):
        state = torch.ones(1, 1, dtype=torch.float64)
        first = begin(swinging, 0.3, state, TIGHT)
        length = torch.tensor([step], dtype=torch.float64)
        found = method.attempt(swinging, first, length, TIGHT)[0]
        exact = math.exp(math.sin(0.3 + step) - math.sin(0.3))
        errors.append(abs(float(found) - exact))
    assert abs(math.log2(errors[0] / errors[1]) - (order + 1)) < 0.4


def growth(method, length):
    """Return the factor of one step of the given length on x' = -x."""

    def decay(clock, state):
        return -state, state[:, 0]

    state = torch.ones(1, 1, dtype=torch.float64)
    flow = begin(decay, 0.0, state, TIGHT)
    step = torch.tensor([length], dtype=torch.float64)
    return abs(float(method.attempt(decay, flow, step, TIGHT)[0]))


def test_the_stability_intervals_are_as_said():
    assert max(growth(DORMAND_PRINCE, x) for x in np.linspace(0.1, 3.3, 50)) < 1
    assert growth(DORMAND_PRINCE, 3.4) > 1
    assert max(growth(CHEBYSHEV, x) for x in np.linspace(0.1, 93.0, 500)) < 1
    assert growth(CHEBYSHEV, 96.0) > 1 and abs(TABLE.reach - 93.4) < 0.1
    for stages in (3, 5, 20):
        table = coefficients(stages)
        assert abs(table.reach / ((stages**2 - 1) * 2 / 3 * (1 - 4 / 195)) - 1) < 0.02
        assert abs(table.nodes[-1] - 1) < 1e-12
    assert len(TABLE.nodes) == STAGES + 1


def test_where_stability_limits_chebyshev_takes_far_fewer_steps():
    """Rates 1 and 3000: 13 evaluations of the field a step against 6."""
    rates = torch.tensor([[1.0, 3000.0]], dtype=torch.float64)

    def decay(clock, state):
        return -rates * state, state[:, 0]

    steps = []
    for method in (DORMAND_PRINCE, CHEBYSHEV):
        begun = torch.ones(1, 2, dtype=torch.float64)
        flow = followed(decay, begun, 3.0, method, Tolerance(1e-4, 1e-4))
        assert abs(float(flow.state[0, 0]) - math.exp(-3.0)) < 1e-3
        steps.append(int(flow.tried))
    assert 13 * steps[1] < 6 * steps[0] / 3


@METHODS
def test_members_take_their_own_steps(method):
    """x' = -k x: a fast, a slow and a lost member, each as alone."""
    rates = torch.tensor([1.0, 300.0, 0.01], dtype=torch.float64)

    def field(chosen):
        def decay(clock, state):
            return -chosen[:, None] * state, state[:, 0]

        return decay

    state = torch.tensor([[1.0], [1.0], [math.nan]], dtype=torch.float64)
    whole = followed(field(rates), state, 2.0, method)
    assert whole.failed.tolist() == [False, False, True] and whole.steps[2] == 0
    for number in range(2):
        part = slice(number, number + 1)
        alone = followed(field(rates[part]), state[part], 2.0, method)
        assert torch.equal(alone.state, whole.state[part])
        assert torch.equal(alone.steps, whole.steps[part])
    assert torch.allclose(whole.state[0, 0], torch.tensor(math.exp(-2.0)).double(), rtol=1e-5)


def test_a_solution_that_ends_is_given_up():
    """x' = x² from 1 is infinite at t = 1."""

    def explosion(clock, state):
        return state.square(), state[:, 0]

    flow = followed(explosion, torch.ones(1, 1).double(), 2.0, DORMAND_PRINCE)
    assert isinstance(flow, Flow) and not bool(flow.running.any())
    assert 0.99 < float(flow.clock) < 1.0001
