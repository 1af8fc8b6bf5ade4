"""Products: linear, symmetric, the same however data, vectors and memory are cut."""

from __future__ import annotations

import pytest
import torch
from tests.derivatives.making import (
    cross_entropy,
    dense,
    dense_gauss_newton,
    dense_hessian,
    filled,
    labels,
    normal,
    objective,
    planned,
    small_network,
    small_objective,
    squared,
)
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.derivatives import kept_batches, products
from whynet.derivatives.flat import Layout
from whynet.derivatives.objective import Objective
from whynet.derivatives.plan import Plan, choose_plan
from whynet.derivatives.products import gauss_newton, gradient, hessian, loss
from whynet.derivatives.ways import WAYS

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def same(found: Tensor, wanted: Tensor, tolerance: float = 1e-9) -> bool:
    return bool((found - wanted).abs().max() <= tolerance * (1e-3 + wanted.abs().max()))


def operators(made: Objective, **options: int) -> list[products.CurvatureOperator]:
    plan = planned(made)
    around = gauss_newton(made, plan, **options)
    assert not isinstance(around, NotApplicable)
    return [hessian(made, plan, **options), around]


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_columns_are_products_and_the_matrix_is_symmetric(dtype: torch.dtype) -> None:
    for operator in operators(small_objective(dtype)):
        columns = normal(operator.size, 5, seed=3, dtype=dtype)
        together = operator.matmat(columns)
        assert together.dtype == dtype
        assert together.shape == columns.shape
        for i in range(5):
            assert same(together[:, i], operator.matvec(columns[:, i]), TOLERANCE[dtype])
        matrix = dense(operator)
        assert same(matrix, matrix.T, TOLERANCE[dtype])


def test_gauss_newton_of_a_convex_loss_is_positive() -> None:
    matrix = dense_gauss_newton(small_objective())
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12
    assert torch.linalg.eigvalsh(dense_hessian(small_objective())).min() < -1e-4


@pytest.mark.parametrize("cuts", [(10,), (1, 2, 29), (7, 20)])
@pytest.mark.parametrize("kept", [0, 1, 2, 9])
def test_batches_do_not_matter(cuts: tuple[int, ...], kept: int) -> None:
    whole, cut = small_objective(), small_objective(cuts=cuts)
    for one, many in zip(operators(whole), operators(cut, kept=kept), strict=True):
        vector = normal(one.size, seed=8)
        wanted = one.matvec(vector)
        assert same(many.matvec(vector), wanted)
        assert same(many.matvec(vector), wanted), "the second product uses what was kept"
    assert same(gradient(cut), gradient(whole))
    assert loss(cut) == pytest.approx(loss(whole), rel=1e-12)


def test_kept_batches_are_not_computed_again() -> None:
    made = small_objective(cuts=(10, 20))
    passes = 0

    def batches() -> object:
        nonlocal passes
        passes += 1
        return made.batches()

    counted = Objective(
        made.module, made.parameters, made.frozen, made.loss_sum, batches, made.count
    )
    plan = planned(counted)
    operator = hessian(counted, plan, kept=3)
    before = passes
    for _ in range(3):
        operator.matvec(torch.ones(operator.size).double())
    assert passes == before + 1


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same(way: str) -> None:
    made = small_objective()
    plan = choose_plan(made, 0, ways=(way,))
    assert isinstance(plan, Plan)
    assert plan.way == way
    assert same(dense(hessian(made, plan)), dense_hessian(made), 1e-7)


def test_vectors_one_by_one_or_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small_objective()
    assert planned(made).vmap
    together = [dense(operator) for operator in operators(made)]
    monkeypatch.setattr(products, "CHUNK", 3)
    in_threes = [dense(operator) for operator in operators(made)]
    monkeypatch.setattr(products, "SMALL", 0)
    apart = [dense(operator) for operator in operators(made)]
    for a, b, c in zip(together, in_threes, apart, strict=True):
        assert same(b, a)
        assert same(c, a)


class Tied(nn.Module):
    """One weight in two places, `y = W^T tanh(W x)`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


def test_a_tied_weight_counts_once_and_in_both_places() -> None:
    x, y = normal(8, 3), normal(8, 3, seed=2)
    net = filled(Tied())
    made = objective(net, x, y, squared)
    assert list(made.parameters) == ["first.weight"]

    def value(flat: Tensor) -> Tensor:
        weight = flat.reshape(3, 3)
        return ((x @ weight.T).tanh() @ weight.T - y).square().sum() / 8

    point = net.first.weight.detach().reshape(-1)
    assert same(dense_hessian(made), torch.autograd.functional.hessian(value, point))


def test_frozen_parameters_are_constants() -> None:
    x, y = normal(20, 4, seed=5), labels(20, 3)
    full = dense_hessian(objective(small_network(), x, y, cross_entropy))
    net = small_network()
    net[0].requires_grad_(False)
    made = objective(net, x, y, cross_entropy)
    assert list(made.parameters) == ["2.weight", "2.bias"]
    assert same(dense_hessian(made), full[25:, 25:])


def test_padding_rows_are_held_fixed() -> None:
    net = nn.Sequential(nn.Embedding(4, 2, padding_idx=1), nn.Tanh(), nn.Flatten(), nn.Linear(6, 2))
    tokens = torch.tensor([[0, 1, 2], [3, 1, 1], [2, 2, 0]])
    made = objective(filled(net), tokens, labels(3, 2), cross_entropy)
    matrix = dense_hessian(made)
    assert matrix[2:4].abs().max() == 0
    assert matrix[:, 2:4].abs().max() == 0
    assert gradient(made)[2:4].abs().max() == 0
    assert matrix.abs().max() > 0


def test_structured_inputs() -> None:
    net = filled(nn.Bilinear(2, 3, 2))
    pair = {"left": normal(6, 2), "right": (normal(6, 3, seed=2),)}

    def call(network: object, inputs: dict[str, object]) -> Tensor:
        return network(inputs["left"], *inputs["right"]).tanh()

    made = Objective(
        net,
        {n: p.detach() for n, p in net.named_parameters()},
        {},
        squared,
        lambda: [(pair, torch.zeros(6, 2).double())],
        6,
        call,
    )
    matrix = dense_hessian(made)
    assert same(matrix, matrix.T)


def test_shapes_are_checked() -> None:
    operator = operators(small_objective())[0]
    assert operator.shape == (operator.size, operator.size)
    with pytest.raises(ValueError, match=r"columns \[43, k\] are needed, not \(42, 1\)"):
        operator.matvec(torch.zeros(42).double())
    with pytest.raises(ValueError, match=r"a vector \[43\] is needed, not \(43, 1\)"):
        operator.matvec(torch.zeros(43, 1).double())
    assert operator.matmat(torch.zeros(43, 0).double()).shape == (43, 0)


def test_flatten_and_back() -> None:
    parameters = {"a": normal(2, 3), "b": normal(4, seed=1).float(), "c": normal(seed=2)}
    layout = Layout.of(parameters)
    assert layout.size == 11
    assert layout.dtype == torch.float64
    flat = layout.flatten(tuple(parameters.values()))
    for piece, wanted in zip(layout.unflatten(flat), parameters.values(), strict=True):
        assert piece.dtype == wanted.dtype
        assert torch.equal(piece, wanted)
    columns = torch.stack([flat, 2 * flat], dim=1)
    assert torch.equal(layout.flatten_many(layout.unflatten_many(columns)), columns)
    with pytest.raises(ValueError, match=r"a vector of shape \(11,\) is needed, not \(12,\)"):
        layout.unflatten(torch.zeros(12))


def test_batches_are_kept_while_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small_objective(cuts=(10, 20))
    plan = planned(made)
    assert 8 * 10 < plan.bytes_per_example < 8 * 1000
    for fit, wanted in ((0, 1), (15, 2), (20, 3)):
        monkeypatch.setattr(kept_batches, "KEPT_BYTES", fit * plan.bytes_per_example)
        operator = hessian(made, plan)
        operator.matvec(torch.ones(operator.size).double())
        assert len(operator._batches.graphs) == wanted


def test_batches_that_are_not_kept_take_a_single_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small_objective(cuts=(10, 20))
    plan = planned(made)
    assert plan.once
    assert not isinstance(plan.gauss_newton, NotApplicable)
    assert plan.gauss_newton.once
    wanted = [operator.matvec(torch.ones(operator.size)) for operator in operators(made, kept=9)]

    def never(*given: object) -> object:
        raise AssertionError(given)

    for operator, right in zip(operators(made, kept=0), wanted, strict=True):
        monkeypatch.setattr(operator._batches, "prepare", never)
        assert same(operator.matvec(torch.ones(operator.size)), right, 1e-12)
        with pytest.raises(AssertionError):
            operator.matmat(torch.ones(operator.size, 2))


class Softened(nn.Module):
    """A softmax in between, in a precision that is named or not."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.first, self.second, self.dtype = nn.Linear(4, 5), nn.Linear(5, 3), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.softmax(self.first(x), -1, self.dtype))


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_no_single_pass_where_forward_mode_cannot_be_differentiated(
    dtype: torch.dtype | None,
) -> None:
    """PyTorch's softmax edits what the reverse pass needs; ours, of no named dtype, does not."""
    net = filled(Softened(dtype))
    made = objective(net, normal(30, 4, seed=5), labels(30, 3), cross_entropy, cuts=(10,))
    plan = planned(made)
    assert plan.once == (dtype is None)
    one, other = hessian(made, plan, kept=0), hessian(made, plan)
    for i in range(3):
        vector = normal(one.size, seed=i)
        assert same(one.matvec(vector), other.matvec(vector))
