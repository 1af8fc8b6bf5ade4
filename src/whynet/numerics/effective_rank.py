"""Ranks that vary smoothly with the singular values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def entropic_rank(singular_values: ArrayLike) -> NDArray[Any]:
    """Return `exp(H(σ/Σσ))`, Roy and Vetterli 2007: from 1 to the number of singular values.

    Args:
        singular_values: `[..., values]`, at least 0, not all zero.

    >>> float(entropic_rank([1.0, 1.0, 1.0, 1.0]))
    4.0
    """
    values = np.asarray(singular_values, dtype=np.float64)
    shares = values / values.sum(-1, keepdims=True)
    safe = np.where(shares > 0, shares, 1.0)
    return np.asarray(np.exp(-(shares * np.log(safe)).sum(-1)))


def nuclear_rank(singular_values: ArrayLike) -> NDArray[Any]:
    """Return the nuclear over the spectral norm, `Σσ/max σ`: from 1 to the number of values.

    Args:
        singular_values: `[..., values]`, at least 0, not all zero.

    """
    values = np.asarray(singular_values, dtype=np.float64)
    return np.asarray(values.sum(-1) / values.max(-1))
