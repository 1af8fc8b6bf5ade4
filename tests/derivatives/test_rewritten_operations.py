"""Rewritten operations against PyTorch's own derivatives, to the second."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tests.derivatives.making import normal
from torch import Tensor
from torch.nn import functional as F

from whynet.derivatives.rewritten_operations import rewritten

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}

MATRIX = normal(6, 6, seed=7)


def fixed(x: Tensor) -> Tensor:
    return MATRIX.to(x.dtype)


def held(x: Tensor, w: Tensor) -> Tensor:
    return fixed(x) * w


CASES: dict[str, Callable[..., Tensor]] = {
    "layer_norm": lambda x, w, b: F.layer_norm(x, (6,), w, b),
    "layer_norm_no_bias": lambda x, w, b: F.layer_norm(x, (6,), w) + b,
    "layer_norm_keyword": lambda x, w, b: F.layer_norm(x, (6,), weight=w, bias=b, eps=1e-2),
    "layer_norm_two_axes": lambda x, w, b: F.layer_norm(x, (4, 6), w.expand(4, 6), b.expand(4, 6)),
    "layer_norm_transposed": lambda x, w, b: F.layer_norm(x.mT, (4,), w[:4], b[:4]),
    "layer_norm_plain": lambda x, w, b: F.layer_norm(x, (6,)) * w + b,
    "gelu": lambda x, w, b: F.gelu(x * w + b),
    "gelu_tanh": lambda x, w, b: F.gelu(x * w + b, approximate="tanh"),
    "silu": lambda x, w, b: F.silu(x * w + b),
    "softplus": lambda x, w, b: F.softplus(x * w + b, beta=2),
    "mish": lambda x, w, b: F.mish(x * w + b),
    "elu": lambda x, w, b: F.elu(x * w + b, alpha=0.7),
    "erf": lambda x, w, b: (x * w + b).erf(),
    "tanh": lambda x, w, b: torch.tanh(x * w + b),
    "sigmoid": lambda x, w, b: torch.sigmoid(x * w + b),
    "relu": lambda x, w, b: F.relu(x * w + b),
    "relu_in_place": lambda x, w, b: F.relu(x * w + b, inplace=True),
    "leaky_relu": lambda x, w, b: F.leaky_relu(x * w + b, 0.2),
    "relu6": lambda x, w, b: F.relu6(3 * x * w + b),
    "linear": lambda x, w, b: F.linear(x, held(x, w), b),
    "linear_no_bias": lambda x, w, b: F.linear(x + b, held(x, w)),
    "linear_twice": lambda x, w, b: F.linear(F.linear(x, held(x, w), b), held(x, b)),
    "linear_of_data": lambda x, w, b: F.linear(fixed(x), held(x, w), b),
    "linear_of_fixed": lambda x, w, b: F.linear(x * w, fixed(x), fixed(x)[0]) + b,
    "linear_shifted": lambda x, w, b: F.linear(fixed(x), fixed(x), b) * w,
    "linear_keyword": lambda x, w, b: F.linear(input=x * b, weight=held(x, w), bias=b),
    "hardtanh": lambda x, w, b: F.hardtanh(x * w + b, -0.5, 0.5),
}


def derivatives(
    function: Callable[..., Tensor], dtype: torch.dtype, *, mode: bool, stacked: bool
) -> list[Tensor]:
    """Value, gradients and second derivatives along a direction of a function of the outputs."""
    leaves = [normal(3, 4, 6, dtype=dtype), normal(6, seed=1, dtype=dtype)]
    leaves = [leaf.requires_grad_() for leaf in (*leaves, normal(6, seed=2, dtype=dtype))]
    with rewritten() if mode else nullcontext():
        outputs = function(*leaves)
    slopes = torch.linspace(-1, 1, outputs.numel(), dtype=dtype).reshape(outputs.shape)
    value = ((outputs + 0.3 * outputs**2) * slopes).sum()
    first = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
    first = tuple(piece for piece in first if piece.requires_grad)
    along = [normal(*piece.shape, seed=3 + i, dtype=dtype) for i, piece in enumerate(first)]
    if stacked:
        along = [torch.stack([piece, -2 * piece]) for piece in along]
    second = torch.autograd.grad(first, leaves, along, is_grads_batched=stacked, allow_unused=True)
    return [outputs.detach(), *(p.detach() for p in first), *(p for p in second if p is not None)]


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("name", list(CASES))
def test_derivatives_are_those_of_pytorch(name: str, stacked: bool, dtype: torch.dtype) -> None:
    take = partial(derivatives, CASES[name], dtype, stacked=stacked)
    for found, wanted in zip(take(mode=True), take(mode=False), strict=True):
        gap = (found - wanted).abs().max()
        assert gap <= TOLERANCE[dtype] * (1 + wanted.abs().max())


def test_a_wide_row_agrees_as_well_in_few_passes() -> None:
    x, w = normal(5, 700).requires_grad_(), normal(700, seed=1).requires_grad_()

    def products(mode: bool) -> tuple[Tensor, ...]:
        with rewritten() if mode else nullcontext():
            loss = F.layer_norm(x, (700,), w).pow(3).sum()
        first = torch.autograd.grad(loss, (x, w), create_graph=True)
        return torch.autograd.grad(first, (x, w), (x.detach() ** 2, w.detach()))

    for found, wanted in zip(products(True), products(False), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_what_pytorch_gets_wrong_is_right() -> None:
    """A layer norm with a bias alone, whose second derivative PyTorch 2.13 misses."""
    x, b = normal(4, 6).requires_grad_(), normal(6, seed=1)

    def slope(at: Tensor) -> Tensor:
        with rewritten():
            loss = F.layer_norm(at, (6,), None, b).pow(3).sum()
        return torch.autograd.grad(loss, at, create_graph=True)[0]

    v = normal(4, 6, seed=2)
    (found,) = torch.autograd.grad(slope(x), x, v)
    step = 1e-5
    wanted = (slope(x + step * v) - slope(x - step * v)).detach() / (2 * step)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
