"""Hessians that are known on paper."""

from __future__ import annotations

import math

import pytest
import torch
from tests.derivatives.making import (
    cross_entropy,
    dense_gauss_newton,
    dense_hessian,
    filled,
    labels,
    normal,
    objective,
    squared,
)
from torch import Tensor, nn

from whynet.derivatives.output_derivatives import output_derivatives
from whynet.derivatives.products import gradient, loss
from whynet.models.losses import IGNORED, load_loss

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
DTYPES = list(TOLERANCE)


def close(found: Tensor, wanted: Tensor) -> bool:
    gap = (found.double() - wanted.double()).abs().max()
    return bool(gap <= TOLERANCE[found.dtype] * (1 + wanted.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_regression(dtype: torch.dtype) -> None:
    x, y = normal(40, 3, dtype=dtype), normal(40, 1, seed=2, dtype=dtype)
    made = objective(filled(nn.Linear(3, 1, bias=False), dtype), x, y, squared)
    wanted = 2 * x.T @ x / 40
    assert close(dense_hessian(made), wanted)
    assert close(dense_gauss_newton(made), wanted)
    weight = made.parameters["weight"]
    residual = x @ weight.T - y
    assert close(gradient(made), (2 * residual.T @ x / 40)[0])
    assert loss(made) == pytest.approx(float(residual.square().mean()), rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_regression(dtype: torch.dtype) -> None:
    x, y = normal(40, 3, dtype=dtype), labels(40, 4)
    made = objective(filled(nn.Linear(3, 4, bias=False), dtype), x, y, cross_entropy)
    p = (x @ made.parameters["weight"].T).softmax(-1)
    spread = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    wanted = torch.einsum("nab,ni,nj->aibj", spread, x, x).reshape(12, 12) / 40
    assert close(dense_hessian(made), wanted)
    assert close(dense_gauss_newton(made), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 15, 16, 100])
def test_curvature_of_cross_entropy(classes: int, dtype: torch.dtype) -> None:
    """Of sequences with a position that is not scored."""
    outputs, y = normal(5, 3, classes, dtype=dtype), labels(15, classes).reshape(5, 3)
    y[2, 1] = -100
    tangent = normal(2, 5, 3, classes, seed=1, dtype=dtype)
    p = outputs.softmax(-1) * (y >= 0)[..., None]
    spread = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    wanted = torch.einsum("ntab,kntb->knta", spread, tangent)
    assert close(output_derivatives("categorical", outputs, y).curve(tangent), wanted)


def targets_of(loss: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Targets of every kind: labels of which one is not scored, and rows that sum to 1.0005."""
    if loss == "labels":
        y = labels(math.prod(shape[:-1]), shape[-1]).reshape(shape[:-1])
        y.view(-1)[1] = IGNORED
        return y
    values = normal(*shape, seed=4, dtype=dtype)
    if loss == "probabilities":
        return values.softmax(-1) * 1.0005
    return values.sigmoid() if loss == "bce" else values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 20), (7, 1)])
@pytest.mark.parametrize("loss", ["labels", "probabilities", "bce", "mse"])
def test_output_derivatives(loss: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Against differentiation of the loss itself, for one tangent and for several at once."""
    name = "cross_entropy" if loss in ("labels", "probabilities") else loss
    if name == "cross_entropy" and shape[-1] == 1:
        shape = (7, 2)
    rule = load_loss(name)
    outputs = normal(*shape, dtype=dtype).requires_grad_()
    y = targets_of(loss, shape, dtype)
    (slope,) = torch.autograd.grad(rule.sums(outputs, y)[0], outputs, create_graph=True)
    tangents = normal(3, *shape, seed=5, dtype=dtype)
    curved = [torch.autograd.grad(slope, outputs, t, retain_graph=True)[0] for t in tangents]
    assert rule.likelihood is not None
    known = output_derivatives(rule.likelihood, outputs.detach(), y)
    assert known.slope is not None
    assert close(known.slope(), slope.detach())
    assert close(known.curve(tangents), torch.stack(curved))
    assert close(known.curve(tangents[0]), curved[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_logistic_regression(dtype: torch.dtype) -> None:
    def binary(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")

    x = normal(40, 3, dtype=dtype)
    y = (normal(40, 1, seed=3, dtype=dtype) > 0).to(dtype)
    made = objective(filled(nn.Linear(3, 1, bias=False), dtype), x, y, binary)
    p = (x @ made.parameters["weight"].T).sigmoid()
    assert close(dense_hessian(made), x.T @ (p * (1 - p) * x) / 40)


class TwoNeurons(nn.Module):
    """`a1 relu(w1 x) + a2 relu(w2 x)` with w = (0.5, -1), a = (3, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))
        self.a = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return ((x * self.w).relu() * self.a).sum(-1, keepdim=True)


def test_two_relu_neurons_by_hand() -> None:
    """At x = 2, y = 1 the second neuron sleeps; output 3, residual 2, gradient (6, 0, 1, 0).

    H = 2 g g^T + 2 * residual * x in the entries (w1, a1): 72, 20 and 2.
    """
    x, y = torch.full((1, 1), 2.0).double(), torch.ones(1, 1).double()
    made = objective(TwoNeurons(), x, y, squared)
    wanted = torch.zeros(4, 4, dtype=torch.float64)
    wanted[0, 0], wanted[2, 2] = 72, 2
    around = wanted.clone()
    wanted[0, 2] = wanted[2, 0] = 20
    around[0, 2] = around[2, 0] = 12
    assert close(dense_hessian(made), wanted)
    assert close(dense_gauss_newton(made), around)
    assert close(gradient(made), torch.tensor([24.0, 0, 4, 0]).double())


def test_deep_linear_chain() -> None:
    """`(a b x - y)^2` with a = 2, b = 3, x = 1, y = 5: H = 2 [[b^2, 2ab - y], [., a^2]]."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.fill_(2)
        net[1].weight.fill_(3)
    one = torch.ones(1, 1).double()
    made = objective(net, one, 5 * one, squared)
    wanted = torch.tensor([[18.0, 14.0], [14.0, 8.0]]).double()
    assert close(dense_hessian(made), wanted)
    assert close(dense_gauss_newton(made), torch.tensor([[18.0, 12.0], [12.0, 8.0]]).double())


def test_loss_linear_in_the_parameters_has_no_curvature() -> None:
    def total(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).sum()

    made = objective(filled(nn.Linear(3, 2)), normal(9, 3), normal(9, 2, seed=4), total)
    assert dense_hessian(made).abs().max() == 0
    assert dense_gauss_newton(made).abs().max() == 0
