"""Closed forms: what two networks do on the same examples, and how often the bars hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from whynet.concepts.generalization.instruments.fit import Scores
from whynet.core.estimate import Estimate
from whynet.examination.comparison_functions import (
    Answers,
    changes,
    differences,
    flips,
    independent_agreement,
    output_distance,
)
from whynet.models.losses import load_loss

PROBABILITY = np.array([0.9, 0.6, 0.3, 0.8, 0.5, 0.1])
"""Of label 1, in six equally frequent cells of a finite population."""

CELLS = np.array([[1.0, 2.0], [1.0, -0.5], [-1.0, -2.0], [2.0, 0.2], [-0.3, 1.0], [-2.0, 0.1]])
FIRST, SECOND = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def test_coverage_of_churn_and_paired_differences_on_a_closed_form() -> None:
    # Two linear classifiers on six points: what they say, and hence every share, is known.
    said = [(CELLS @ w > 0).astype(int) for w in (FIRST, SECOND)]
    right = [np.where(s == 1, PROBABILITY, 1 - PROBABILITY) for s in said]
    differ = said[0] != said[1]
    truth = {
        "churn": differ.mean(),
        "fixed": (differ * right[1]).mean(),
        "broken": (differ * right[0]).mean(),
        "accuracy_difference": (right[1] - right[0]).mean(),
    }
    margins = [CELLS @ w for w in (FIRST, SECOND)]
    each = [[np.logaddexp(0, m) - y * m for y in (0, 1)] for m in margins]
    gap = np.array(each[1]) - np.array(each[0])
    truth["loss_difference"] = ((1 - PROBABILITY) * gap[0] + PROBABILITY * gap[1]).mean()

    random, draws, rows = np.random.default_rng(0), 1000, 150
    hits = dict.fromkeys(truth, 0)
    cells = random.integers(0, 6, (draws, rows))
    labels = (random.random((draws, rows)) < PROBABILITY[cells]).astype(int)
    for cell, label in zip(cells, labels, strict=True):
        one, two = said[0][cell], said[1][cell]
        found = changes(Answers(one[:, None], two[:, None], label[:, None]))
        scores = [
            Scores(np.choose(label, [e[0][cell], e[1][cell]]), (s == label) * 1.0, None, None, True)
            for e, s in zip(each, (one, two), strict=True)
        ]
        found |= differences(scores[0], scores[1])
        for name, wanted in truth.items():
            hits[name] += found[name].low <= wanted <= found[name].high
    for name, count in hits.items():
        # Three binomial errors of 1000 draws are 2 %; Clopper-Pearson covers at least its level.
        assert count >= 930, (name, count)
    for name in ("accuracy_difference", "loss_difference"):
        assert hits[name] <= 980, name


def test_agreement_of_independent_errors_is_met_by_independent_errors() -> None:
    random, classes, rows = np.random.default_rng(1), 5, 200_000
    labels = random.integers(0, classes, rows)
    said = []
    for accuracy in (0.9, 0.7):
        wrong = (labels + random.integers(1, classes, rows)) % classes
        said.append(np.where(random.random(rows) < accuracy, labels, wrong))
    exact = [Estimate(a, a, a, "exact") for a in (0.9, 0.7)]
    expected = independent_agreement(exact[0], exact[1], classes).value
    assert (said[0] == said[1]).mean() == pytest.approx(expected, abs=0.004)


def test_output_distance_of_independent_outputs_is_the_root_of_two_and_covers() -> None:
    loss = load_loss("mse")
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        base, noise = torch.randn(2, 200, 3, generator=generator)
        # Correlation 0.8 of Gaussian outputs: the squared distance is 2 (1 - 0.8).
        found = output_distance(loss, base, 0.8 * base + 0.6 * noise)
        hits += found.low <= 0.4**0.5 <= found.high
    assert 372 <= hits <= 398
    far = output_distance(loss, *torch.randn(2, 5000, 3, generator=generator))
    assert far.value == pytest.approx(2**0.5, abs=0.03)
    logits = torch.randn(50, 4, generator=generator)
    shifted = logits + torch.randn(50, 1, generator=generator)
    assert output_distance(load_loss("cross_entropy"), logits, shifted).value < 1e-6


def test_sequences_and_ignored_labels_count_what_is_scored() -> None:
    loss = load_loss("cross_entropy")
    first = torch.eye(3)[torch.tensor([[0, 1], [2, 2], [0, 0]])]
    second = torch.eye(3)[torch.tensor([[0, 2], [2, 1], [1, 1]])]
    labels = np.array([[0, 2], [2, -100], [-100, -100]])
    found = changes(Answers(first.argmax(-1).numpy(), second.argmax(-1).numpy(), labels))
    assert found["churn"].value == pytest.approx(0.25)
    assert found["fixed"].value == pytest.approx(0.25)
    assert found["broken"].value == 0.0
    assert flips(loss, Answers(*(np.zeros((3, 2), int),) * 3), first, second) == ()
    one = changes(Answers(*(np.array([[0], [1], [1]]), np.array([[1], [1], [0]]),
                            np.array([[1], [1], [-100]]))))  # fmt: skip
    assert (one["churn"].value, one["fixed"].value) == (0.5, 0.5)
    assert one["churn"].high == pytest.approx(stats.beta.ppf(0.975, 2, 1))
