"""A linear classifier, whose robust accuracy follows from margins and dual norms."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm

FEATURES, CLASSES, POPULATION, ROWS = 5, 3, 1501, 250
RADII = (0.04, 0.08, 0.2, 0.4, 0.8)
"""Shares 0.01 to 0.2 of four times the median deviation, which the population makes 1."""

_APART = 1e-3
"""No point of the population is this close to where its answer changes, at any radius."""


def linear_classifier() -> ClosedForm:
    """Three classes, linear scores, some labels wrong, on points drawn from a finite set.

    No change of size r in every entry moves the label y's lead over k by more than r times the
    sum of |w_y - w_k|, and one does, so that robust accuracy is a count. A last feature of
    weight zero takes the values ±100: the range of the data, in which attacks stay, is far away
    from all others. The training data are the whole population, so that the radii are the same
    in every draw.
    """
    weight, bias, points, labels = population()

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        random = np.random.default_rng(seed_from("linear-classifier", draw))
        rows = random.integers(POPULATION, size=ROWS)
        module = nn.Linear(FEATURES + 1, CLASSES)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(weight))
            module.bias.copy_(torch.tensor(bias))
        x, y = torch.tensor(points, dtype=dtype), torch.tensor(labels)
        return Subject(
            module, train=(x, y), test=(x[rows], y[rows]), dtype=dtype, name="linear classifier"
        )

    truth = {
        "adversarial-accuracy": _attacked(weight, bias, points, labels),
        "input-gradient": _gradients(weight, bias, points, labels),
    }
    return ClosedForm(subject, truth, over_examples=True)


def population() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return weight, bias, points and labels; deviations of all features but the last are 1."""
    generator = np.random.default_rng(seed_from("linear-classifier"))
    weight = np.zeros((CLASSES, FEATURES + 1))
    weight[:, :-1] = generator.standard_normal((CLASSES, FEATURES))
    bias = 0.3 * generator.standard_normal(CLASSES)
    points = generator.standard_normal((4 * POPULATION, FEATURES + 1))
    points[:, -1] = np.where(points[:, -1] > 0, 100.0, -100.0)
    noisy = points @ weight.T + bias + 0.7 * generator.standard_normal((4 * POPULATION, CLASSES))
    labels = noisy.argmax(1)
    lead, reach = _leads(weight, bias, points, labels)
    gap = np.abs(lead[:, None] - np.array([0.0, *RADII])[:, None] * reach[:, None]).min((1, 2))
    clear = np.flatnonzero((gap > _APART) & _no_ties(weight, bias, points))[:POPULATION]
    points = points[clear]
    points[:, :-1] /= points[:, :-1].std(0)
    weight[:, :-1] *= 1.0
    return weight, bias, points, labels[clear]
