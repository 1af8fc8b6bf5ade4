"""Gaussian classes of known moments, seen as the features of a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

CLASSES, FEATURES, ROWS = 4, 6, 400


def gaussian_classes() -> ClosedForm:
    """Features of class c are normal with a mean and a covariance of their own.

    The hidden layer is linear, so that its outputs, the features, have known moments, and with
    them the four numbers of collapse and the rank of the covariance. Labels are drawn evenly.
    """
    means, scales, weight = moments()
    first = np.float32(2) * np.eye(FEATURES, dtype=np.float32)

    def data(dtype: torch.dtype, *key: str | int) -> tuple[torch.Tensor, torch.Tensor]:
        random = np.random.default_rng(seed_from("gaussian-classes", *key))
        labels = random.integers(CLASSES, size=ROWS)
        noise = random.standard_normal((ROWS, FEATURES))
        rows = means[labels] + scales[labels] * noise
        return torch.tensor(rows / 2, dtype=dtype), torch.tensor(labels)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        inner, last = nn.Linear(FEATURES, FEATURES, bias=False), nn.Linear(FEATURES, CLASSES)
        with torch.no_grad():
            inner.weight.copy_(torch.tensor(first))
            last.weight.copy_(torch.tensor(weight))
        module = nn.Sequential(inner, last)
        train, test = data(dtype, draw, "train"), data(dtype, draw, "test")
        return Subject(module, train=train, test=test, dtype=dtype, name="gaussian classes")

    sizes = {"0": np.full(FEATURES, 2.0), "1": np.sqrt(np.linalg.eigvalsh(weight @ weight.T))}
    truth: dict[Key, float] = {}
    for layer, values in sizes.items():
        place = (("layer", layer),)
        truth[("spectral_norm", place)] = float(values.max())
        truth[("stable_rank", place)] = float((values**2).sum() / values.max() ** 2)
    for name, value in _truth(means, scales, weight).items():
        for split in ("train", "test"):
            truth[(name, (("split", split),))] = value
    return ClosedForm(subject, {"representation": truth}, over_examples=True)


def moments() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the classes' means and standard deviations, and the rows of the last layer."""
    generator = np.random.default_rng(seed_from("gaussian-classes"))
    means = 2.0 * generator.standard_normal((CLASSES, FEATURES))
    scales = generator.uniform(0.5, 1.5, (CLASSES, FEATURES))
    weight = means + generator.standard_normal((CLASSES, FEATURES))
    return means, scales, weight.astype(np.float32).astype(float)


def _truth(means: np.ndarray, scales: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Compute every number from the definitions, matrices written out."""
    centered = means - means.mean(0)
    within = np.diag((scales**2).mean(0))
    between = centered.T @ centered / CLASSES
    covariance = within + between
    length = np.sqrt((centered**2).sum(1))
    apart = [
        float(centered[c] @ centered[d] / (length[c] * length[d])) + 1 / (CLASSES - 1)
        for c in range(CLASSES)
        for d in range(c)
    ]
    rows = weight - weight.mean(0)
    product = np.sqrt((rows**2).sum() * (centered**2).sum())
    return {
        "feature_rank": float(np.trace(covariance) ** 2 / np.trace(covariance @ covariance)),
        "nc1": float(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / CLASSES),
        "nc2_norms": float(np.std(length) / np.mean(length)),
        "nc2_angles": float(np.sqrt(np.mean(np.square(apart)))),
        "nc3_alignment": float((rows * centered).sum() / product),
    }
