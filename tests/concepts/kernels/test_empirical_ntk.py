"""The empirical kernel: closed forms, explicit Jacobians, blocks, and networks in the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.cases import CASES
from torch import Tensor, nn

from whynet.derivatives import row_jacobians
from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.models.fitting_rows import row_count
from whynet.models.preservation import fingerprint
from whynet.models.subject import Subject
from whynet.testing.kernel_forms import two_layer_kernel, two_layers

CLOSE = {torch.float32: 2e-6, torch.float64: 1e-13}
PRECISIONS = pytest.mark.parametrize("dtype", CLOSE, ids=["float32", "float64"])


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def subject(module: nn.Module, dtype: torch.dtype = torch.float64, features: int = 4) -> Subject:
    data = gaussian(12, features, seed=9).to(dtype), torch.zeros(12, dtype=torch.long)
    return Subject(module, train=data, dtype=dtype, loss="cross_entropy")


def explicit(held: Subject, inputs: Any) -> Tensor:
    """Return `[n, C, n, C]` from gradients of single outputs of single rows."""
    rows = []
    for i in range(row_count(inputs)):
        own = {n: p.clone().requires_grad_() for n, p in held.parameters.items()}
        outputs = held.forward(own, row_jacobians.rows_of(inputs, i, i + 1)).flatten()
        for value in outputs:
            parts = torch.autograd.grad(
                value, [*own.values()], retain_graph=True, materialize_grads=True
            )
            rows.append(torch.cat([part.flatten() for part in parts]))
    jacobian, n = torch.stack(rows), row_count(inputs)
    return (jacobian @ jacobian.T).reshape(n, len(rows) // n, n, len(rows) // n)


def gap(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


@PRECISIONS
@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_model_has_the_kernel_of_its_inputs(dtype: torch.dtype, bias: bool) -> None:
    x = gaussian(12, 4).to(dtype)
    held = subject(nn.Linear(4, 3, bias=bias), dtype)
    wanted = x @ x.T + bias
    assert gap(empirical_ntk(held, x), wanted) < CLOSE[dtype]
    full = torch.einsum("ij,cd->icjd", wanted, torch.eye(3, dtype=dtype))
    assert gap(empirical_ntk(held, x, form="full"), full) < CLOSE[dtype]


@PRECISIONS
def test_two_layers_of_relu_have_the_kernel_written_by_hand(dtype: torch.dtype) -> None:
    random = np.random.default_rng(3)
    hidden, last = random.standard_normal((7, 4)), random.standard_normal(7)
    hidden, last = (a.astype(np.float32).astype(float) for a in (hidden, last))
    x = gaussian(12, 4)
    data = (x.to(dtype), torch.zeros(12, dtype=dtype))
    held = Subject(two_layers((hidden, last)), train=data, loss="mse", dtype=dtype)
    wanted = torch.tensor(two_layer_kernel(x.double().numpy(), hidden, last)).to(dtype)
    assert gap(empirical_ntk(held, data[0]), wanted) < CLOSE[dtype]


@PRECISIONS
@pytest.mark.parametrize("name", CASES)
def test_every_case_agrees_with_explicit_jacobians(name: str, dtype: torch.dtype) -> None:
    held = CASES[name].subject(dtype=dtype)
    inputs, _ = held.examples("train").take(range(7), dtype=dtype)
    before = fingerprint(held.module)
    full = empirical_ntk(held, inputs, form="full")
    wanted = explicit(held, inputs)
    assert gap(full, wanted) < CLOSE[dtype]
    traced = torch.einsum("icjc->ij", wanted) / full.shape[1]
    assert gap(empirical_ntk(held, inputs), traced) < CLOSE[dtype]
    assert fingerprint(held.module) == before
    # An average of Gram matrices is symmetric and positive semidefinite.
    values = torch.linalg.eigvalsh(traced.double())
    assert float(values[0]) > -1e-5 * float(values[-1])


@pytest.mark.parametrize("name", ["relu-mlp", "convolution", "masked-tokens"])
@pytest.mark.parametrize("form", ["full", "per-output", None])
def test_blocks_change_nothing(name: str, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = CASES[name].subject(dtype=torch.float64)
    first, _ = held.examples("train").take(range(11), dtype=torch.float64)
    second, _ = held.examples("test").take(range(5), dtype=torch.float64)
    plan = plan_ntk(held, first)
    whole = [empirical_ntk(held, first, b, form=form, plan=plan) for b in (None, second)]
    memory = 8 * 6 * plan.row_numbers
    monkeypatch.setattr(row_jacobians, "ACTIVITIES", 1)
    cut = [
        empirical_ntk(held, first, b, form=form, plan=plan, memory=memory) for b in (None, second)
    ]
    for one, two in zip(whole, cut, strict=True):
        assert gap(one, two) < 1e-13
    assert whole[1].shape[0] == 11
    assert whole[1].shape[2 if form == "full" else 1] == 5


class Branching(nn.Module):
    """A Python branch on a value, which nothing that batches can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(gaussian(4, 3))
        self.second = nn.Parameter(gaussian(4, 3, seed=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([r @ (self.first if r[0] > 0 else self.second) for r in x])


class Shared(nn.Module):
    """A dense layer whose weight is used a second time, not by calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(torch.tanh(self.layer(x)), self.layer.weight)


def test_a_network_that_cannot_be_batched_is_taken_row_by_row() -> None:
    held, x = subject(Branching()), gaussian(6, 4).double()
    plan = plan_ntk(held, x)
    assert not plan.batched
    assert gap(empirical_ntk(held, x, form="full", plan=plan), explicit(held, x)) < 1e-13


def test_a_weight_that_is_used_twice_is_no_product_of_two_factors() -> None:
    held, x = subject(Shared()), gaussian(6, 4).double()
    plan = plan_ntk(held, x)
    assert "layer" not in plan.layers
    assert [len(part.uses) for part in plan.parts] == [2, 1]
    assert gap(empirical_ntk(held, x, form="full", plan=plan), explicit(held, x)) < 1e-13


def test_activations_in_place_and_frozen_parts_are_followed() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.Linear(4, 2))
    module[0].bias.requires_grad_(False)
    module[2].weight.requires_grad_(False)
    module[3].requires_grad_(False)
    held, x = subject(module), gaussian(6, 4).double()
    plan = plan_ntk(held, x)
    assert plan.layers == ("0",)
    assert plan.rest == ()
    assert gap(empirical_ntk(held, x, form="full", plan=plan), explicit(held, x)) < 1e-13


def test_chains_of_dense_layers_need_no_jacobian() -> None:
    held = CASES["relu-mlp"].subject()
    plan = plan_ntk(held, held.examples("train").take(range(4))[0])
    assert plan.layers == ("0", "2", "4")
    assert plan.rest == ()
    assert plan.miss < 1e-5
