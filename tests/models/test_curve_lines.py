"""Lines around smooth functions against dense samples, and derivatives against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from whynet.models import smooth_curves as curves
from whynet.models.curve_lines import (
    difference_planes,
    difference_range,
    own_lines,
    slope_range,
    value_range,
)
from whynet.models.piecewise_linear_operations import Curve

WHOLE = {
    "sigmoid": (curves.SIGMOID, torch.sigmoid),
    "tanh": (curves.TANH, torch.tanh),
    "silu": (curves.SILU, functional.silu),
    "gelu": (curves.GELU, functional.gelu),
    "tanh gelu": (curves.TANH_GELU, lambda x: functional.gelu(x, approximate="tanh")),
    "erf": (curves.ERF, torch.erf),
    "sin": (curves.SINE, torch.sin),
    "cos": (curves.COSINE, torch.cos),
    "square": (curves.SQUARE, torch.square),
    "cube": (curves.power(3), lambda x: x**3),
    "softsign": (curves.SOFTSIGN, functional.softsign),
    "softplus": (curves.softplus(2.0, 20.0), lambda x: functional.softplus(x, 2.0, 20.0)),
    "elu": (curves.exponential_unit("elu", 1.0, 1.0), functional.elu),
    "elu of 2": (curves.exponential_unit("elu", 1.0, 2.0), lambda x: functional.elu(x, 2.0)),
    "celu": (curves.exponential_unit("celu", 1.0, 0.5, 0.5), lambda x: functional.celu(x, 0.5)),
}
POSITIVE = {
    "exp": (curves.EXPONENTIAL, torch.exp),
    "sqrt": (curves.ROOT, torch.sqrt),
    "rsqrt": (curves.INVERSE_ROOT, torch.rsqrt),
    "log": (curves.LOGARITHM, torch.log),
    "reciprocal": (curves.RECIPROCAL, torch.reciprocal),
}
EVERY = {**WHOLE, **POSITIVE}


def derivative(function, x: Tensor, order: int) -> Tensor:
    point = x.clone().requires_grad_()
    value = function(point)
    for _ in range(order):
        if not value.requires_grad:
            return torch.zeros_like(x)
        (value,) = torch.autograd.grad(value.sum(), point, create_graph=True)
    return value.detach()


@pytest.mark.parametrize("name", EVERY)
def test_curves_are_torchs_functions_and_bounds_hold_their_derivatives(name: str) -> None:
    curve, function = EVERY[name]
    x = torch.linspace(0.05 if name in POSITIVE else -12.0, 12.0, 48_001, dtype=torch.float64)
    x = x[(x[:, None] - torch.tensor([0.0, *curve.levels]).double()).abs().amin(1) > 1e-6]
    assert float((curve.value(x) - function(x)).abs().max()) <= curve.error + 1e-13 * float(
        function(x).abs().max()
    )
    slope = derivative(curve.value, x, 1)
    assert torch.allclose(curve.slope(x), slope, rtol=1e-9, atol=1e-9)
    for order, most in ((2, curve.most_bend), (3, curve.most_twist)):
        size = derivative(curve.slope, x, order - 1).abs()
        assert bool((size <= most(x, x) * (1 + 1e-6) + 1e-9).all())
        wide = most(x[:1], x[-1:])
        # The constants are the extremes, rounded up: sharp, not merely true.
        if bool(wide.isfinite()) and name in WHOLE and float(wide) > 0:
            assert 0.995 < float(size.max() / wide) <= 1 + 1e-9


def inside(low: float, high: float, count: int) -> Tensor:
    at = torch.linspace(0, 1, count, dtype=torch.float64)
    return torch.clamp(low + (high - low) * at, low, high)


WIDTHS = st.sampled_from([0.0, 1e-300, 1e-16, 1e-9, 1e-3, 0.3, 2.0, 40.0, 1e6])


@settings(max_examples=120, deadline=None)
@given(name=st.sampled_from(sorted(EVERY)), start=st.floats(-30, 30), width=WIDTHS)
def test_no_value_leaves_its_lines(name: str, start: float, width: float) -> None:
    curve, function = EVERY[name]
    low = abs(start) + 1e-3 if name in POSITIVE else start
    ends = torch.tensor([low]).double(), torch.tensor([low + width]).double()
    x = inside(float(ends[0]), float(ends[1]), 2001)
    value = function(x)
    above, below = own_lines(curve, *ends)
    least, most = value_range(curve, *ends)
    flat, steep = slope_range(curve, *ends)
    slope = curve.slope(x)
    known = value.isfinite()
    # A line of nan or infinity is no bound, and is taken for none.
    for line, sign in ((above, 1), (below, -1)):
        room = sign * (line[0] * x + line[1] - value)
        round_off = 4e-16 * ((line[0] * x).abs() + value.abs())
        assert not bool((room[known] < -round_off[known]).any())
    assert not bool((value[known] > most).any() or (value[known] < least).any())
    assert not bool((slope > steep).any() or (slope < flat).any())


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(EVERY)),
    start=st.floats(-6, 6),
    width=WIDTHS,
    shift=st.floats(-1, 1),
    spread=st.sampled_from([0.0, 1e-12, 1e-4, 0.1, 3.0]),
)
def test_no_difference_leaves_its_planes(
    name: str, start: float, width: float, shift: float, spread: float
) -> None:
    curve, function = EVERY[name]
    low = abs(start) + spread + 1.1 if name in POSITIVE else start
    own = torch.tensor([low]).double(), torch.tensor([low + width]).double()
    gap = torch.tensor([shift - spread]).double(), torch.tensor([shift + spread]).double()
    other = own[0] + gap[0], own[1] + gap[1]
    if name in POSITIVE and float(other[0]) <= 0:
        return
    h = inside(float(own[0]), float(own[1]), 101)[:, None]
    d = inside(float(gap[0]), float(gap[1]), 41)[None]
    made = function(h + d) - function(h)
    known = made.isfinite()
    above, below, _ = difference_planes(curve, own, other, gap)
    ranges = value_range(curve, *own), value_range(curve, *other)
    least, most = difference_range(curve, own, other, gap, ranges)
    size = function(h + d).abs() + function(h).abs()
    for plane, sign in ((above, 1), (below, -1)):
        held = plane.own * h + plane.gap * d + plane.offset
        parts = (plane.own * h).abs() + (plane.gap * d).abs() + plane.offset.abs()
        room = sign * (held - made) + 4e-16 * (size + parts)
        # h + d is rounded, which moves its value by as much times the slope.
        room = room + 4e-16 * (h + d).abs() * curve.slope(h + d).abs()
        assert not bool((room[known] < 0).any())
    slack = 4e-16 * (size + (h + d).abs() * curve.slope(h + d).abs())
    assert not bool(((made > most + slack) & known).any())
    assert not bool(((made < least - slack) & known).any())


def test_planes_of_small_balls_are_tangent_to_second_order() -> None:
    """Ten times smaller balls: a hundred times less between the planes."""
    apart = []
    for radius in (1e-2, 1e-3):
        own = torch.tensor([0.3 - radius]).double(), torch.tensor([0.3 + radius]).double()
        gap = torch.tensor([0.5 - radius]).double(), torch.tensor([0.5 + radius]).double()
        other = own[0] + gap[0], own[1] + gap[1]
        apart.append(float(difference_planes(curves.GELU, own, other, gap)[2]))
    assert apart[1] == pytest.approx(apart[0] / 100, rel=0.05)


def test_where_both_inputs_are_the_same_there_is_no_difference() -> None:
    own = torch.tensor([-2.0]).double(), torch.tensor([3.0]).double()
    zero = torch.zeros(1).double()
    for curve, _ in WHOLE.values():
        above, below, apart = difference_planes(curve, own, own, (zero, zero))
        assert float(above.own) == float(below.own) == 0.0
        assert float(above.offset) == float(below.offset) == float(apart) == 0.0
        made = value_range(curve, *own)
        ends = difference_range(curve, own, own, (zero, zero), (made, made))
        assert float(ends[0]) == float(ends[1]) == 0.0


def test_outside_its_domain_a_function_has_no_bound() -> None:
    ends = torch.tensor([-1.0]).double(), torch.tensor([1.0]).double()
    for name in ("sqrt", "rsqrt", "log", "reciprocal"):
        curve = POSITIVE[name][0]
        assert isinstance(curve, Curve)
        above, below = own_lines(curve, *ends)
        assert not math.isfinite(float(above[1])) and not math.isfinite(float(below[1]))
