"""The list of small networks is what its file says."""

from __future__ import annotations

import math

import pytest
import torch
from tests.cases import CASES, TEST_ROWS, TRAIN_ROWS, Case, mean_loss
from torch import Tensor

from whynet.core.tags import TAGS
from whynet.models.preservation import fingerprint, global_state

every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def first(inputs: Tensor | dict[str, Tensor]) -> Tensor:
    return next(iter(inputs.values())) if isinstance(inputs, dict) else inputs


@every_case
def test_a_case_is_small_seeded_and_off_its_initialization(case: Case) -> None:
    before = global_state()
    module, again, initial = case.build(), case.build(), case.initial()
    assert global_state() == before
    assert fingerprint(module) == fingerprint(again)
    assert module is not again
    assert sum(p.numel() for p in module.parameters()) <= 600
    assert not any(child.training for child in module.modules())
    for name, parameter in module.named_parameters():
        assert parameter.grad is None
        moved = not torch.equal(parameter, initial.get_parameter(name))
        # Batch normalization takes the mean away, and with it the gradient of a bias before it.
        pointless = case.name == "batch-norm" and name == "0.bias"
        assert pointless or moved == parameter.requires_grad, name
    assert [*module.state_dict()] == [*initial.state_dict()]


@every_case
def test_the_data_of_a_case_are_fixed_and_hold_every_class(case: Case) -> None:
    (train, train_targets), (test, test_targets) = case.data()
    assert len(first(train)) == len(train_targets) == TRAIN_ROWS
    assert len(first(test)) == len(test_targets) == TEST_ROWS
    assert torch.equal(first(train), first(case.train[0]))
    if "classification" in case.tags:
        labels = {0, 1} if case.loss == "bce" else {0, 1, 2}
        for targets in (train_targets, test_targets):
            assert set(targets.unique().tolist()) - {-100} == labels


@every_case
def test_the_steps_lowered_the_loss_and_outputs_are_deterministic(case: Case) -> None:
    inputs, targets = case.train
    with torch.no_grad():
        trained = case.scores(case.build(), inputs)
        again = case.scores(case.build(), inputs)
        untrained = case.scores(case.initial(), inputs)
    assert torch.equal(trained, again)
    after, before = (mean_loss(case.loss, out, targets).item() for out in (trained, untrained))
    assert math.isfinite(after)
    assert after < before


def test_running_statistics_are_not_trivial() -> None:
    for name in ("batch-norm", "residual-convolution"):
        buffers = dict(CASES[name].build().named_buffers())
        for key, buffer in buffers.items():
            if key.endswith("running_mean"):
                assert buffer.abs().max() > 0.01
            if key.endswith("running_var"):
                assert (buffer - 1).abs().max() > 0.01


def test_ignored_targets_and_masks_are_there() -> None:
    assert (CASES["sequence"].train[1] == -100).any()
    inputs = CASES["masked-tokens"].train[0]
    assert isinstance(inputs, dict)
    assert not inputs["mask"].all()


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_subject_agrees_with_the_network_and_carries_the_tags(
    case: Case, dtype: torch.dtype
) -> None:
    subject = case.subject(dtype=dtype, batch_size=7)
    outputs, targets = subject.outputs("test")
    assert outputs.dtype == subject.dtype == dtype
    assert subject.tags == case.tags
    assert torch.equal(targets.to(case.test[1].dtype), case.test[1])
    with torch.no_grad():
        wanted = case.scores(case.build(), case.test[0])
    torch.testing.assert_close(outputs.to(wanted.dtype), wanted, rtol=1e-4, atol=1e-5)


def test_the_tags_of_cases_are_defined() -> None:
    assert all(case.tags <= TAGS.keys() for case in CASES.values())
