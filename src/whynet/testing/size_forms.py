"""A two-layer classifier on a finite population: the truth of every smaller network is a sum."""

from __future__ import annotations

import numpy as np
import torch
from scipy import linalg
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, UNITS, CLASSES, POPULATION, ROWS = 5, 12, 3, 3001, 400
SIZES = {0.707: 8, 0.5: 6, 0.354: 4, 0.25: 3, 0.177: 2}
"""Share to number of units; below, every network answers nearly the same."""


def two_layer_classes() -> ClosedForm:
    """Tanh units read by a linear layer; points and their labels come from a finite population.

    For each draw of the training data units are chosen by QR with column pivoting of their
    activations and the reader is refitted by least squares; both are judged on all points.
    """
    first, last, points, labels = network()

    def rows_of(draw: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed_from("two-layer-classes", draw))
        return random.integers(POPULATION, size=ROWS), random.integers(POPULATION, size=ROWS)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        inner, reader = nn.Linear(FEATURES, UNITS, bias=False), nn.Linear(UNITS, CLASSES)
        with torch.no_grad():
            inner.weight.copy_(torch.tensor(first))
            reader.weight.copy_(torch.tensor(last))
            reader.bias.zero_()
        module = nn.Sequential(inner, nn.Tanh(), reader)
        x, y = torch.tensor(points, dtype=dtype), torch.tensor(labels)
        train, test = ((x[rows], y[rows]) for rows in rows_of(draw))
        return Subject(module, train=train, test=test, dtype=dtype, name="two layers")

    units = np.tanh(points @ first.T)

    def of_draw(instrument: str, draw: int) -> dict[Key, float]:
        return _chosen(units, last, labels, rows_of(draw)[0])

    magnitude = _by_magnitude(units, first, last)
    return ClosedForm(subject, {"size-error": magnitude}, over_examples=True, of_draw=of_draw)


def network() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the weights of both layers, the points and their labels, some of them wrong."""
    generator = np.random.default_rng(seed_from("two-layer-classes"))
    first, last, points = (
        generator.standard_normal(shape).astype(np.float32).astype(float)
        for shape in ((UNITS, FEATURES), (CLASSES, UNITS), (POPULATION, FEATURES))
    )
    scores = np.tanh(points @ first.T) @ last.T
    noisy = scores + generator.standard_normal(scores.shape)
    return first, last, points, noisy.argmax(1)


def _error(outputs: np.ndarray, plain: np.ndarray) -> float:
    spread = ((plain - plain.mean(0)) ** 2).sum()
    return float(np.sqrt(((outputs - plain) ** 2).sum() / spread))


def _chosen(
    units: np.ndarray, last: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> dict[Key, float]:
    """Fit the smaller networks to a draw, and judge them on the population."""
    plain = units @ last.T
    right = plain.argmax(1) == labels
    seen = units[rows]
    weighted = (seen - seen.mean(0)) * np.linalg.norm(last, axis=0)
    order = linalg.qr(weighted, mode="r", pivoting=True)[1]
    truth: dict[Key, float] = {}
    for share, count in SIZES.items():
        kept = order[:count]
        design = np.column_stack([units[:, kept], np.ones(len(units))])
        fitted = np.linalg.lstsq(design[rows], plain[rows], rcond=None)[0]
        outputs = design @ fitted
        place = (("layer", "0"), ("share", share))
        truth[("relative_error", (*place, ("method", "chosen")))] = _error(outputs, plain)
        truth[("accuracy_change", place)] = float(
            np.mean((outputs.argmax(1) == labels) * 1.0 - right)
        )
    return truth


def _by_magnitude(units: np.ndarray, first: np.ndarray, last: np.ndarray) -> dict[Key, float]:
    plain = units @ last.T
    size = np.linalg.norm(first, axis=1) * np.linalg.norm(last, axis=0)
    truth: dict[Key, float] = {("width", (("layer", "0"),)): float(UNITS)}
    for share, count in SIZES.items():
        kept = np.argsort(-size)[:count]
        place = (("layer", "0"), ("share", share))
        truth[("kept", place)] = float(count)
        truth[("relative_error", (*place, ("method", "magnitude")))] = _error(
            units[:, kept] @ last[:, kept].T, plain
        )
    return truth
