"""The objective of a subject is its mean loss, whatever the batches; the plan is found once."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tests.cases import CASES, mean_loss

from whynet.core.outcome import NotApplicable
from whynet.derivatives import subject_objective
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import gradient, loss
from whynet.derivatives.subject_objective import describe, objective_from, plan_for


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
