"""Calibration agrees with optimizers, definitions and known temperatures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special
from sklearn import metrics
from tests.cases import CASES
from torch import nn

from whynet.concepts.generalization.instruments.calibration import temperature
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject


def labeled(rows: int, at: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their softmax at a temperature."""
    random = np.random.default_rng(seed)
    logits = 2.0 * random.standard_normal((rows, 4))
    chances = special.softmax(logits / at, axis=1).cumsum(1)
    return logits, (random.random((rows, 1)) > chances).sum(1)


def as_subject(logits: np.ndarray, labels: np.ndarray) -> Subject:
    data = (torch.tensor(logits), torch.tensor(labels))
    return Subject(nn.Identity(), test=data, dtype=torch.float64)


@pytest.mark.parametrize("at", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_as_another_optimizer_finds_it(at: float) -> None:
    logits, labels = labeled(3000, at)
    found = temperature(logits, labels)
    assert found.low <= at <= found.high
    assert found.width < 0.3 * at
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=200, tolerance_grad=1e-12)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(torch.tensor(logits) / log_t.exp(), torch.tensor(labels))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert found.value == pytest.approx(float(log_t.detach().exp()), rel=1e-4)


def test_separated_classes_have_no_best_temperature() -> None:
    logits = np.eye(3)[np.arange(60) % 3] * 5
    found = temperature(logits, np.arange(60) % 3)
    assert found.kind == "indicative"
    assert found.value == pytest.approx(0.001)


def test_a_fold_without_errors_beside_it_keeps_temperature_one() -> None:
    logits = np.eye(3)[np.arange(60) % 3] * 5
    labels = np.arange(60) % 3
    labels[7] = 2  # the only error; the rows of the other folds are separated without it
    found = measure("calibration", as_subject(logits, labels))
    assert isinstance(found, Measurement)
    assert found.estimate("loss_at_temperature").value < 1


def test_numbers_follow_their_definitions() -> None:
    logits, labels = labeled(500, 2.0)
    found = measure("calibration", as_subject(logits, labels))
    assert isinstance(found, Measurement)
    chances = special.softmax(logits, axis=1)
    confidence, right = chances.max(1), chances.argmax(1) == labels
    assert found.estimate("overconfidence").value == pytest.approx(confidence.mean() - right.mean())
    loss = metrics.log_loss(labels, chances)
    assert found.estimate("loss").value == pytest.approx(loss)
    saved = found.estimate("loss_saved").value
    assert found.estimate("loss_at_temperature").value == pytest.approx(loss - saved)
    assert saved > 0
    shares = found.values("bin_accuracy")
    assert shares.mean() == pytest.approx(right.mean(), abs=1e-9)  # 10 bins of 50 rows each
    means = found.values("bin_confidence")
    assert (np.diff(means) > 0).all()
    error = np.abs(shares - means).mean()
    assert found.estimate("calibration_error").value == pytest.approx(error)


def test_a_binary_network_counts_as_two_classes() -> None:
    case = CASES["binary"]
    found = measure("calibration", case.subject(dtype=torch.float64))
    assert isinstance(found, Measurement)
    with torch.no_grad():
        logits = case.build()(case.test[0]).double().reshape(-1).numpy()
    confidence = np.maximum(special.expit(logits), special.expit(-logits))
    right = (logits > 0) == case.test[1].numpy().astype(bool)
    assert found.estimate("overconfidence").value == pytest.approx(
        confidence.mean() - right.mean(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("case", "options", "word"),
    [
        ("regression", {}, "class labels"),
        ("sequence", {}, "more than one label"),
        ("relu-mlp", {"test": None}, "test data"),
        ("relu-mlp", {"test": (CASES["relu-mlp"].test[0][:9], CASES["relu-mlp"].test[1][:9])},
         "too few"),
    ],
)  # fmt: skip
def test_where_it_does_not_apply(case: str, options: dict[str, object], word: str) -> None:
    found = measure("calibration", CASES[case].subject(**options))
    assert isinstance(found, NotApplicable)
    assert word in found.reason


def test_the_surest_mistakes_are_named_by_their_test_rows() -> None:
    """Also where rows before them are not scored."""
    logits = np.zeros((40, 2))
    labels = np.arange(40) % 2
    logits[np.arange(40), labels] = 1.0
    for row, size in ((30, 5.0), (21, 7.0), (12, 3.0)):
        logits[row] = 0
        logits[row, 1 - labels[row]] = size
    labels[:4] = -100
    found = measure("calibration", as_subject(logits, labels))
    assert isinstance(found, Measurement)
    assert found.values("surest_mistakes")[:4].tolist()[:3] == [21, 30, 12]
    assert found.estimate("sure_mistakes").value == 1.0
    promised = np.mean([1 - special.expit(size) for size in (5.0, 7.0, 3.0)])
    assert found.estimate("sure_mistakes_promised").value == pytest.approx(promised)
