"""Scores agree with scikit-learn's, on every kind of task and with either split missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics
from tests.cases import CASES
from torch import nn

from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject


def fitted(subject: Subject) -> Measurement:
    found = measure("fit", subject)
    assert isinstance(found, Measurement)
    return found


@pytest.mark.parametrize("case", ["relu-mlp", "convolution", "tokens", "masked-tokens"])
def test_classification(case: str) -> None:
    chosen = CASES[case]
    found = fitted(chosen.subject(dtype=torch.float64))
    for split, (inputs, targets) in zip(("train", "test"), chosen.data(), strict=True):
        with torch.no_grad():
            scores = chosen.scores(chosen.build(), inputs).double().numpy()
        chances = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        loss = metrics.log_loss(targets.numpy(), chances, labels=[0, 1, 2])
        share = metrics.accuracy_score(targets.numpy(), scores.argmax(1))
        assert found.estimate("loss", split=split).value == pytest.approx(loss, rel=1e-5)
        accuracy = found.estimate("accuracy", split=split)
        assert accuracy.value == pytest.approx(share)
        exact = stats.binomtest(round(share * len(targets)), len(targets)).proportion_ci()
        assert (accuracy.low, accuracy.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
        assert accuracy.kind == "certified"
    gap = found.estimate("accuracy_gap").value
    values = found.values("accuracy")
    assert gap == pytest.approx(values[0] - values[1])
    losses = found.values("loss")
    assert found.estimate("loss_gap").value == pytest.approx(losses[1] - losses[0])


def test_regression() -> None:
    chosen = CASES["regression"]
    found = fitted(chosen.subject(dtype=torch.float64))
    inputs, targets = chosen.test
    with torch.no_grad():
        given = chosen.build()(inputs)
    square = metrics.mean_squared_error(targets, given)
    assert found.estimate("loss", split="test").value == pytest.approx(square, rel=1e-5)
    assert found.estimate("rmse", split="test").value == pytest.approx(square**0.5, rel=1e-5)
    r2 = metrics.r2_score(targets, given)
    assert found.estimate("r_squared", split="test").value == pytest.approx(r2, rel=1e-5)
    assert "accuracy" not in found.names


def test_binary() -> None:
    chosen = CASES["binary"]
    found = fitted(chosen.subject(dtype=torch.float64))
    inputs, targets = chosen.test
    with torch.no_grad():
        logits = chosen.build()(inputs).double().reshape(-1)
    loss = metrics.log_loss(targets, torch.sigmoid(logits))
    assert found.estimate("loss", split="test").value == pytest.approx(loss, rel=1e-5)
    share = metrics.accuracy_score(targets, (logits > 0).float())
    assert found.estimate("accuracy", split="test").value == pytest.approx(share)


def test_sequences_leave_out_what_is_not_scored() -> None:
    chosen = CASES["sequence"]
    found = fitted(chosen.subject(dtype=torch.float64))
    inputs, targets = chosen.test
    with torch.no_grad():
        answers = chosen.build()(inputs).argmax(-1)
    shares = [
        float((a == t)[t != -100].double().mean())
        for a, t in zip(answers, targets, strict=True)
        if bool((t != -100).any())
    ]
    assert found.estimate("accuracy", split="test").value == pytest.approx(np.mean(shares))
    assert found.estimate("accuracy", split="test").kind == "interval"


@pytest.mark.parametrize("kept", ["train", "test"])
def test_one_split_is_enough(kept: str) -> None:
    case = CASES["relu-mlp"]
    found = fitted(case.subject(**{"train": None, "test": None, kept: getattr(case, kept)}))
    assert list(found.dataset["split"].values) == [kept]
    assert "accuracy_gap" not in found.names
    assert "loss_gap" not in found.names


def test_without_data_it_does_not_apply() -> None:
    found = measure("fit", Subject(nn.Linear(2, 2)))
    assert isinstance(found, NotApplicable)
    assert "neither training nor test data" in found.reason


def test_a_single_class_is_measured_and_not_compared() -> None:
    inputs, labels = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(40)
    data = (inputs, labels.long())
    subject = Subject(nn.Linear(2, 2), train=data, test=data)
    assert 0 <= fitted(subject).estimate("accuracy", split="test").value <= 1
    found = measure("baselines", subject)
    assert isinstance(found, NotApplicable)
    assert "one class only" in found.reason


def test_constant_targets_have_no_r_squared() -> None:
    inputs = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    data = (inputs, torch.ones(40, 1))
    found = fitted(Subject(nn.Linear(2, 1), train=data, test=data, loss="mse"))
    assert "rmse" in found.names
    assert "r_squared" not in found.names
    cheap = measure("baselines", Subject(nn.Linear(2, 1), train=data, test=data, loss="mse"))
    assert isinstance(cheap, NotApplicable)
    assert "do not vary" in cheap.reason
