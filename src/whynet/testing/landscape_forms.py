"""Networks that are permuted and disturbed copies of one another: every barrier is a sum."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.seeds import seed_from
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, UNITS, CLASSES, POPULATION, ROWS = 5, 8, 3, 3001, 400
DISTURBED = 0.4
"""Standard deviation of what the copies' weights differ by; those of the network have 1."""

Weights = tuple[np.ndarray, np.ndarray]


def network() -> tuple[Weights, np.ndarray, np.ndarray]:
    """Return the weights of both layers, points, and their labels, some of them wrong."""
    generator = np.random.default_rng(seed_from("turned-copies"))
    first, last, points = (
        generator.standard_normal(shape).astype(np.float32).astype(float)
        for shape in ((UNITS, FEATURES), (CLASSES, UNITS), (POPULATION, FEATURES))
    )
    noisy = scores((first, last), points)
    noisy = noisy + generator.standard_normal(noisy.shape)
    return (first, last), points, noisy.argmax(1)


def copy(seed: int) -> tuple[Weights, np.ndarray]:
    """Return the copy of a training seed with its units in the network's order, and another."""
    (first, last), _, _ = network()
    generator = np.random.default_rng(seed_from("turned-copies", "copy", seed))
    disturbed = tuple(
        (part + DISTURBED * generator.standard_normal(part.shape)).astype(np.float32).astype(float)
        for part in (first, last)
    )
    return (disturbed[0], disturbed[1]), generator.permutation(UNITS)


def scores(weights: Weights, points: np.ndarray) -> np.ndarray:
    """Return the outputs of tanh units read by a linear layer."""
    return np.asarray(np.tanh(points @ weights[0].T) @ weights[1].T)


def turned_copies() -> ClosedForm:
    """Tanh units on a finite population; other seeds give disturbed copies in another order."""
    (first, last), points, labels = network()
    x, y = torch.tensor(points), torch.tensor(labels)
    known = np.random.default_rng(seed_from("turned-copies", "train")).permutation(POPULATION)[:500]

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        random = np.random.default_rng(seed_from("turned-copies", "test", draw))
        module = _filled(build(), (first, last))
        data = [
            (x[rows].to(dtype), y[rows]) for rows in (known, random.integers(POPULATION, size=ROWS))
        ]
        return Subject(
            module, train=data[0], test=data[1], dtype=dtype, name="turned copies",
            trainer=Trainer(build, train, label=("turned-copies",)),
        )  # fmt: skip

    truth: dict[Key, float] = {}
    for seed in (1, 2):
        other, order = copy(seed)
        turned = (other[0][order], other[1][:, order])
        for line, far in (("as they are", turned), ("aligned", other)):
            truth |= _along((first, last), far, (points, labels), known, seed, line)
    return ClosedForm(subject, {"mode-connectivity": truth}, over_examples=True)


def build() -> nn.Module:
    """Return a network of the form of all copies."""
    return nn.Sequential(
        nn.Linear(FEATURES, UNITS, bias=False), nn.Tanh(), nn.Linear(UNITS, CLASSES, bias=False)
    )


def train(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> None:
    """Give the network the weights of the copy of this seed, in another order."""
    (first, last), order = copy(seed)
    _filled(model, (first[order], last[:, order]))


def _filled(model: nn.Module, weights: Weights) -> nn.Module:
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(weight))
    return model


def _along(
    near: Weights,
    far: Weights,
    population: tuple[np.ndarray, np.ndarray],
    known: np.ndarray,
    seed: int,
    line: str,
) -> dict[Key, float]:
    """Return the true losses, errors and barriers of one line."""
    points, labels = population
    losses, right = [], []
    for share in np.arange(11) / 10:
        between = (near[0] * (1 - share) + far[0] * share, near[1] * (1 - share) + far[1] * share)
        given = scores(between, points)
        top = given.max(1, keepdims=True)
        partition = np.log(np.exp(given - top).sum(1)) + top[:, 0]
        losses.append(partition - given[np.arange(len(labels)), labels])
        right.append(given.argmax(1) == labels)
    loss, hits = np.array(losses), np.array(right)
    on_train = loss[:, known].mean(1)
    rises = [on_train[k] - (1 - k / 10) * on_train[0] - k / 10 * on_train[10] for k in range(1, 10)]
    peak = int(np.argmax(rises)) + 1
    mean = loss.mean(1)
    at = (("seed", seed), ("line", line))
    truth: dict[Key, float] = {
        ("highest", at): peak / 10,
        ("train_barrier", at): float(rises[peak - 1]),
        ("barrier", at): float(mean[peak] - (1 - peak / 10) * mean[0] - peak / 10 * mean[10]),
        ("seed_difference", (("seed", seed),)): float(hits[10].mean() - hits[0].mean()),
    }
    for name, end in (("this network", 0), ("the other", 10)):
        change = float(hits[5].mean() - hits[end].mean())
        truth[("accuracy_change", (*at, ("end", name)))] = change
    for k in (0, 3, 5, 10):
        place = (*at, ("position", k / 10))
        truth[("loss", place)] = float(mean[k])
        truth[("error", place)] = float(1 - hits[k].mean())
        truth[("train_loss", place)] = float(on_train[k])
    return truth
