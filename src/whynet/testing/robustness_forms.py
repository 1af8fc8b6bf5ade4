"""A linear classifier, whose robust accuracy follows from margins and dual norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, CLASSES, POPULATION, ROWS = 5, 3, 1501, 250
RADII = (0.04, 0.08, 0.2, 0.4, 0.8)
"""What the shares 0.01 to 0.2 of four deviations of about 1 are rounded to."""

APART = 1e-3
"""No point of the population is this close to where its answer changes, at any radius."""


@dataclass(frozen=True)
class Population:
    """A linear network and all points it can meet.

    Attributes:
        weight: `[classes, features]`; the last feature has weight zero.
        bias: `[classes]`.
        points: `[points, features]`.
        labels: `[points]`.

    """

    weight: np.ndarray
    bias: np.ndarray
    points: np.ndarray
    labels: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Return `[points, classes]`."""
        return np.asarray(self.points @ self.weight.T + self.bias)

    def leads(self) -> np.ndarray:
        """Return the right score minus each, `[points, classes]`; 0 at the right one."""
        right = self.scores[np.arange(len(self.labels)), self.labels]
        return np.asarray(right[:, None] - self.scores)

    def pulls(self) -> np.ndarray:
        """Return how these leads depend on the input, `[points, classes, features]`."""
        return np.asarray(self.weight[self.labels][:, None] - self.weight[None])

    def wrong(self) -> np.ndarray:
        """Return which entries of `leads` are over wrong classes."""
        return np.asarray(np.arange(CLASSES) != self.labels[:, None])


def linear_classifier() -> ClosedForm:
    """Three classes, linear scores, some labels wrong, on points drawn from a finite set.

    No change of at most r in every entry moves the lead of y over k by more than r times the sum
    of |w_y - w_k|, and one does, so that robust accuracy is a count. A last feature of weight
    zero takes the values -100 and 100: the range of the data, in which attacks stay, never binds.
    The training data are the whole population, so that the radii are the same in every draw.
    """
    population = _population()

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        random = np.random.default_rng(seed_from("linear-classifier", draw))
        rows = random.integers(POPULATION, size=ROWS)
        module = nn.Linear(FEATURES + 1, CLASSES)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(population.weight))
            module.bias.copy_(torch.tensor(population.bias))
        x, y = torch.tensor(population.points, dtype=dtype), torch.tensor(population.labels)
        return Subject(
            module, train=(x, y), test=(x[rows], y[rows]), dtype=dtype, name="linear classifier"
        )

    truth = {
        "adversarial-accuracy": _attacked(population),
        "input-gradient": _gradients(population),
    }
    return ClosedForm(subject, truth, over_examples=True)


def _population() -> Population:
    generator = np.random.default_rng(seed_from("linear-classifier"))
    weight = np.zeros((CLASSES, FEATURES + 1))
    weight[:, :-1] = generator.standard_normal((CLASSES, FEATURES))
    bias = 0.3 * generator.standard_normal(CLASSES)
    # Rounded, so that a network in float32 has exactly these.
    weight, bias = weight.astype(np.float32).astype(float), bias.astype(np.float32).astype(float)
    points = generator.standard_normal((2 * POPULATION, FEATURES + 1))
    points[:, -1] = np.where(points[:, -1] > 0, 100.0, -100.0)
    noise = 0.7 * generator.standard_normal((len(points), CLASSES))
    labels = (points @ weight.T + bias + noise).argmax(1)
    drawn = Population(weight, bias, points, labels)
    gap = [_steps(drawn)[:, None] - np.array([0.0, *RADII]), _one_step(drawn)[1]]
    clear = np.flatnonzero((np.abs(np.concatenate(gap, axis=1)) > APART).all(1))[:POPULATION]
    assert len(clear) == POPULATION
    return Population(weight, bias, points[clear], labels[clear])


def _steps(population: Population) -> np.ndarray:
    """Return the least change of every entry at which a wrong class wins; negative where wrong."""
    reach = np.abs(population.pulls()).sum(2)
    ratio = population.leads() / np.where(population.wrong(), reach, 1.0)
    return np.asarray(np.where(population.wrong(), ratio, np.inf).min(1))


def _loss_gradient(population: Population) -> np.ndarray:
    chance = special.softmax(population.scores, axis=1)
    chance[np.arange(len(chance)), population.labels] -= 1
    return np.asarray(chance @ population.weight)


def _one_step(population: Population) -> tuple[np.ndarray, np.ndarray]:
    """Return whether one step along the loss's sign leaves a row right, and its lead there."""
    moved = np.einsum("nf,nkf->nk", np.sign(_loss_gradient(population)), population.pulls())
    leads = population.leads()[:, None] + np.array(RADII)[:, None] * moved[:, None]
    least = np.where(population.wrong()[:, None], leads, np.inf).min(2)
    return (least > 0) & (_steps(population) > 0)[:, None], least


def _attacked(population: Population) -> dict[Key, float]:
    steps, (right, _) = _steps(population), _one_step(population)
    truth: dict[Key, float] = {("accuracy", ()): float((steps > 0).mean())}
    for index, radius in enumerate(RADII):
        place = (("radius", radius),)
        truth[("attacked_accuracy", place)] = float((steps > radius).mean())
        truth[("fgsm_accuracy", place)] = float(right[:, index].mean())
    return truth


def _gradients(population: Population) -> dict[Key, float]:
    rows = np.arange(len(population.labels))
    rival = np.where(population.wrong(), population.leads(), np.inf).argmin(1)
    lead = population.leads()[rows, rival]
    truth: dict[Key, float] = {}
    for name, gradient in (
        ("loss", _loss_gradient(population)),
        ("margin", population.pulls()[rows, rival]),
    ):
        sizes = {"l1": np.abs(gradient).sum(1), "l2": np.sqrt((gradient**2).sum(1))}
        for norm, size in sizes.items():
            place = (("norm", norm),)
            truth[(f"{name}_gradient", place)] = float(size.mean())
            truth[(f"{name}_gradient_median", place)] = float(np.median(size))
            if name == "margin":
                change = (("change", {"l1": "linf", "l2": "l2"}[norm]),)
                truth[("distance", change)] = float(np.median(lead / size))
    return truth
