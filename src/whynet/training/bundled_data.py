"""The real data that scikit-learn bundles, split once and for all; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Pair = tuple[NDArray[Any], NDArray[Any]]
"""Inputs `[rows, ...]` and targets `[rows]`."""

SPLIT_SEED: Final = 0
"""Seed of every split; part of what a built-in subject is, not an option."""


def digits(shape: tuple[int, ...]) -> tuple[Pair, Pair]:
    """Return the handwritten digits, pixels divided by 16 to lie in [0, 1].

    Args:
        shape: of an input, 64 features in all.

    Returns:
        1437 training and 360 test rows, stratified by class and disjoint; inputs float32,
        targets int64 from 0 to 9.

    """
    inputs, targets = _arrays("load_digits")
    train, test = _split(len(targets), 360, targets)
    scaled = (inputs / 16).astype(np.float32).reshape(-1, *shape)
    labels = targets.astype(np.int64)
    return (scaled[train], labels[train]), (scaled[test], labels[test])


def breast_cancer() -> tuple[Pair, Pair]:
    """Return the Wisconsin breast cancer data, inputs standardized by the training rows.

    Returns:
        455 training and 114 test rows of 30 features, stratified by class and disjoint; float32,
        targets 0 (malignant) or 1 (benign).

    """
    inputs, targets = _arrays("load_breast_cancer")
    train, test = _split(len(targets), 114, targets)
    scaled = _standardized(inputs, train)
    labels = targets.astype(np.float32)
    return (scaled[train], labels[train]), (scaled[test], labels[test])


def diabetes() -> tuple[Pair, Pair]:
    """Return the diabetes data, inputs and targets standardized by the training rows.

    The unscaled table is read, since the scaled one that scikit-learn offers has seen every row.

    Returns:
        353 training and 89 test rows of 10 features, disjoint and stratified by the fifths of
        the target; float32, targets (disease progression after a year) in training standard
        deviations.

    """
    inputs, targets = _arrays("load_diabetes", scaled=False)
    fifths = np.digitize(targets, np.quantile(targets, [0.2, 0.4, 0.6, 0.8]))
    train, test = _split(len(targets), 89, fifths)
    scaled, labels = _standardized(inputs, train), _standardized(targets, train)
    return (scaled[train], labels[train]), (scaled[test], labels[test])


def _arrays(loader: str, **options: Any) -> Pair:
    from sklearn import datasets

    load: Callable[..., Any] = getattr(datasets, loader)
    inputs, targets = load(return_X_y=True, **options)
    return np.asarray(inputs, dtype=np.float64), np.asarray(targets)


def _split(count: int, test: int, classes: NDArray[Any]) -> Pair:
    from sklearn.model_selection import train_test_split

    rows = np.arange(count)
    chosen = train_test_split(rows, test_size=test, random_state=SPLIT_SEED, stratify=classes)
    return np.sort(chosen[0]), np.sort(chosen[1])


def _standardized(values: NDArray[Any], train: NDArray[Any]) -> NDArray[np.float32]:
    """Shift and scale columns to mean 0 and deviation 1 over the training rows alone."""
    mean, deviation = values[train].mean(axis=0), values[train].std(axis=0)
    scaled: NDArray[np.float32] = ((values - mean) / deviation).astype(np.float32)
    return scaled
