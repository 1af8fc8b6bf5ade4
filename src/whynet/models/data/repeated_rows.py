"""Which rows of one data set occur in another, entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from whynet.core.seeds import seed_from
from whynet.models.data.examples import Examples
from whynet.models.data.structure import leaves

Array = np.ndarray[Any, Any]

ROWS = 1024
"""Rows in memory at a time."""


def fingerprints(data: Examples) -> Array:
    """Return a 64-bit number for every row's inputs: equal inputs have equal numbers.

    Sums of the bytes with fixed random odd weights, modulo 2^64, in exact integer arithmetic: two
    different rows agree by chance once in about 10^19 pairs. Numbers are compared as float64, so
    that data sets stored in different precisions can be compared where the values are equal.

    Args:
        data: any examples; memory is that of some 1,000 rows.

    Returns:
        `[rows]`, uint64.

    """
    found: list[Array] = []
    weights: Array | None = None
    for inputs, _ in data.batches(ROWS, device="cpu", dtype=torch.float64):
        flat = [leaf.detach().double().reshape(len(leaf), -1).numpy() for _, leaf in leaves(inputs)]
        rows = np.concatenate(flat, axis=1) + 0.0  # minus zero equals zero
        words = np.ascontiguousarray(rows).view(np.uint64)
        if weights is None:
            generator = np.random.default_rng(seed_from("fingerprints"))
            drawn = generator.integers(0, 2**63, words.shape[1], dtype=np.uint64)
            weights = np.asarray(drawn * np.uint64(2) + np.uint64(1))
        mixed = words ^ (words >> np.uint64(29))
        found.append((mixed * weights).sum(1, dtype=np.uint64))
    return np.concatenate(found)


def seen_rows(data: Examples, other: Examples) -> int:
    """Count the rows of `data` whose inputs occur among those of `other`."""
    return int(np.isin(fingerprints(data), fingerprints(other)).sum())
