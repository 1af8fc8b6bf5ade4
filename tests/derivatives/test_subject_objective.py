"""The objective of a subject is its mean loss, whatever the batches; the plan is found once."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tests.cases import CASES, mean_loss
from torch import nn

from whynet.core.outcome import NotApplicable
from whynet.derivatives import subject_objective
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import gradient, hessian, loss
from whynet.derivatives.subject_objective import describe, objective_from, plan_for
from whynet.models.subject import Subject


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_mean_loss_whatever_the_batches(case: str) -> None:
    chosen = CASES[case]
    inputs, targets = chosen.train
    with torch.no_grad():
        wanted = mean_loss(chosen.loss, chosen.scores(chosen.build(), inputs), targets).item()
    for size in (7, 512):
        objective = objective_from(chosen.subject(dtype=torch.float64, batch_size=size))
        assert loss(objective) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("case", ["relu-mlp", "sequence", "masked-tokens", "tied-weights"])
def test_its_gradient_is_that_of_backward(case: str) -> None:
    chosen = CASES[case]
    inputs, targets = chosen.train
    module = chosen.build()
    with torch.enable_grad():
        mean_loss(chosen.loss, chosen.scores(module, inputs), targets).backward()
    wanted = torch.cat([p.grad.reshape(-1) for p in module.parameters() if p.grad is not None])
    found = gradient(objective_from(chosen.subject(batch_size=7)))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def test_positions_that_are_not_scored_do_not_count() -> None:
    chosen = CASES["sequence"]
    objective = objective_from(chosen.subject(batch_size=7))
    assert objective.count == int((chosen.train[1] != -100).sum())


def test_rows_are_spread_evenly_over_the_split() -> None:
    chosen = CASES["relu-mlp"]
    objective = objective_from(chosen.subject(), rows=12)
    batches = list(objective.batches())
    inputs = torch.cat([pair[0] for pair in batches])
    assert torch.equal(inputs, chosen.train[0][::4])
    assert objective.count == 12
    assert objective_from(chosen.subject(), rows=1000).count == 48


def test_the_other_split_can_be_asked_for() -> None:
    assert objective_from(CASES["relu-mlp"].subject(), "test").count == 32


def test_the_plan_is_found_once_and_forgotten_with_its_subject(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    choose = subject_objective.choose_plan

    def counted(objective: object, seed: int) -> Plan | NotApplicable:
        calls.append(seed)
        return choose(objective, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(subject_objective, "choose_plan", counted)
    subject = CASES["tanh-mlp"].subject()
    first = plan_for(subject)
    assert plan_for(subject) is first
    assert len(calls) == 1
    assert isinstance(first, Plan)
    words = describe(first)
    assert words.startswith("Second derivatives by ")
    assert "float64 differences" in words
    kept = weakref.ref(subject)
    del subject
    gc.collect()
    assert kept() is None


def test_without_training_data_the_plan_is_found_on_test_data() -> None:
    assert isinstance(plan_for(CASES["tanh-mlp"].subject(train=None)), Plan)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kept", [0, 99])
@pytest.mark.parametrize("kind", ["labels", "probabilities", "bce", "mse"])
def test_hessian_products_of_built_in_losses(kind: str, kept: int, dtype: torch.dtype) -> None:
    """Against two passes of automatic differentiation through PyTorch's own losses.

    Probabilities sum to 1.0005, as rounded ones may; a label is not scored.
    """
    torch.manual_seed(0)
    classes = 2 if kind == "bce" else 5
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, classes)).to(dtype)
    x = torch.randn(9, 3, dtype=dtype)
    y: torch.Tensor = torch.arange(9) % 5
    y[2] = -100
    if kind != "labels":
        drawn = torch.randn(9, classes, dtype=dtype)
        y = {"probabilities": 1.0005 * drawn.softmax(1), "bce": drawn.sigmoid(), "mse": drawn}[kind]
    loss_name = "cross_entropy" if kind in ("labels", "probabilities") else kind
    held = Subject(module, train=(x, y), loss=loss_name, batch_size=4)
    plan = plan_for(held)
    assert isinstance(plan, Plan)
    operator = hessian(objective_from(held), plan, kept=kept)
    own = [p.double().detach().requires_grad_() for p in module.parameters()]

    def value() -> torch.Tensor:
        names = [name for name, _ in module.named_parameters()]
        called = dict(zip(names, own, strict=True))
        out = torch.func.functional_call(module.double(), called, (x.double(),))
        wide = y.double() if y.is_floating_point() else y
        if kind == "probabilities":
            return -(wide * out.log_softmax(1)).sum(1).mean()
        if kind == "bce":
            return nn.functional.binary_cross_entropy_with_logits(out, wide)
        return (out - wide).square().mean() if kind == "mse" else mean_loss(loss_name, out, wide)

    vector = torch.randn(operator.size, dtype=dtype)
    gradients = torch.autograd.grad(value(), own, create_graph=True)
    along = (torch.cat([g.flatten() for g in gradients]) * vector.double()).sum()
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(along, own)])
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close((operator @ vector).double(), wanted, atol=tolerance, rtol=tolerance)
