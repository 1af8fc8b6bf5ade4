"""Subjects whose true numbers are known: where instruments and their intervals are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import special
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject

Key = tuple[str, tuple[tuple[str, object], ...]]
"""A quantity and its labels: `("accuracy", (("split", "test"),))`."""


@dataclass(frozen=True)
class ClosedForm:
    """A subject with known answers.

    Attributes:
        subject: makes it in a precision; the second argument is the number of the draw of its
            examples, for closed forms whose intervals are over examples.
        truth: instrument to what its quantities are in truth.
        over_examples: whether coverage is judged over draws of the examples (the instrument's
            seed fixed) or over seeds of the instrument (the examples fixed).

    """

    subject: Callable[[torch.dtype, int], Subject]
    truth: Mapping[str, Mapping[Key, float]]
    over_examples: bool


@cache
def closed_forms() -> dict[str, ClosedForm]:
    """Return all closed forms, by the name that instruments give."""
    from whynet.testing.condensation_forms import random_directions
    from whynet.testing.curvature_forms import quadratic
    from whynet.testing.region_forms import hinges
    from whynet.testing.robustness_forms import linear_classifier

    return {
        "logistic-labels": logistic_labels(),
        "quadratic": quadratic(),
        "random-directions": random_directions(),
        "hinges": hinges(),
        "linear-classifier": linear_classifier(),
    }


POPULATION, CLASSES, ROWS, TEMPERATURE = 4000, 3, 400, 2.0


def logistic_labels() -> ClosedForm:
    """A linear network whose labels are drawn from its own logits at temperature 2.

    The population is a finite set of inputs, so that every true number is a finite sum.
    """
    generator = np.random.default_rng(seed_from("logistic-labels"))
    points = 1.5 * generator.standard_normal((POPULATION, CLASSES))
    chances = special.softmax(points / TEMPERATURE, axis=1)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        random = np.random.default_rng(seed_from("logistic-labels", draw))

        def sample() -> tuple[torch.Tensor, torch.Tensor]:
            rows = random.integers(POPULATION, size=ROWS)
            labels = (random.random((ROWS, 1)) > chances[rows].cumsum(1)).sum(1)
            return torch.tensor(points[rows], dtype=dtype), torch.tensor(labels)

        module = nn.Linear(CLASSES, CLASSES, bias=False)
        with torch.no_grad():
            module.weight.copy_(torch.eye(CLASSES))
        return Subject(module, train=sample(), test=sample(), dtype=dtype, name="logistic labels")

    return ClosedForm(subject, _logistic_truth(points, chances), over_examples=True)


def _logistic_truth(points: np.ndarray, chances: np.ndarray) -> dict[str, dict[Key, float]]:
    log_p = special.log_softmax(points, axis=1)
    loss = float(-(chances * log_p).sum(1).mean())
    best = points.argmax(1)
    accuracy = float(chances[np.arange(len(points)), best].mean())
    confidence = float(np.exp(log_p.max(1)).mean())
    at_best = float(-(chances * np.log(chances)).sum(1).mean())
    fit: dict[Key, float] = {("loss_gap", ()): 0.0, ("accuracy_gap", ()): 0.0}
    for split in ("train", "test"):
        fit[("loss", (("split", split),))] = loss
        fit[("accuracy", (("split", split),))] = accuracy
    return {
        "fit": fit,
        "calibration": {
            ("overconfidence", ()): confidence - accuracy,
            ("temperature", ()): TEMPERATURE,
            ("loss", ()): loss,
            ("loss_saved", ()): loss - at_best,
        },
        "margins": _margin_truth(points, chances),
        "baselines": {},
    }


def _margin_truth(points: np.ndarray, chances: np.ndarray) -> dict[Key, float]:
    """Quantiles of the margin over inputs and labels, weighted by the labels' chances."""
    others = np.stack(
        [np.delete(points, label, axis=1).max(1) for label in range(points.shape[1])], axis=1
    )
    margins, weights = (points - others).ravel(), chances.ravel()
    order = np.argsort(margins)
    mass = np.cumsum(weights[order]) / weights.sum()
    truth: dict[Key, float] = {}
    for level in (0.25, 0.5, 0.75):
        value = float(margins[order][np.searchsorted(mass, level)])
        for split in ("train", "test"):
            truth[("margin", (("split", split), ("quantile", level)))] = value
    return truth
