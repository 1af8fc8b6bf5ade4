"""Inverses of the relative entropy of two coins: the sharpest Chernoff bounds on a share.

For the mean q̂ of m independent draws in [0, 1] with expectation p, kl(q̂‖p) exceeds ln(1/δ)/m with
q̂ below p with probability at most δ, so that p is at most `kl_inverse_upper(q̂, ln(1/δ)/m)`. All
functions work in float64, elementwise; ends are rounded outward, so that a bound stays a bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from whynet.core.errors import InputError

BISECTIONS = 80
"""Halvings of [0, 1], after which neighbors in float64 are reached."""

Floats = NDArray[np.float64]


def coin_divergence(q: ArrayLike, p: ArrayLike) -> Floats:
    """Relative entropy q ln(q/p) + (1 − q) ln((1 − q)/(1 − p)) of two coins, in nats.

    Args:
        q: shares from 0 to 1.
        p: shares from 0 to 1; infinite where p forbids what q allows.

    """
    first, second = np.asarray(q, dtype=np.float64), np.asarray(p, dtype=np.float64)
    whole = special.rel_entr(first, second) + special.rel_entr(1 - first, 1 - second)
    return np.asarray(np.maximum(whole, 0.0))


def kl_inverse_upper(q: ArrayLike, budget: ArrayLike) -> Floats:
    """Largest p of at least q with kl(q‖p) at most the budget.

    Args:
        q: shares from 0 to 1.
        budget: nats, at least 0; may be infinite.

    Returns:
        Of the broadcast shape; 1 − exp(−budget) where q = 0, and 1 where q = 1.

    Raises:
        InputError: a share outside [0, 1] or a negative budget.

    """
    share, nats = _checked(q, budget)
    inside, outside = share.copy(), np.ones_like(share)
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        allowed = coin_divergence(share, middle) <= nats
        inside, outside = np.where(allowed, middle, inside), np.where(allowed, outside, middle)
    return np.asarray(outside)


def kl_inverse_lower(q: ArrayLike, budget: ArrayLike) -> Floats:
    """Smallest p of at most q with kl(q‖p) at most the budget; the mirror image of the upper one.

    Args:
        q: shares from 0 to 1.
        budget: nats, at least 0.

    Raises:
        InputError: a share outside [0, 1] or a negative budget.

    """
    share, nats = _checked(q, budget)
    return np.asarray(1 - kl_inverse_upper(1 - share, nats))


def _checked(q: ArrayLike, budget: ArrayLike) -> tuple[Floats, Floats]:
    share, nats = np.broadcast_arrays(np.asarray(q, np.float64), np.asarray(budget, np.float64))
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise InputError("q", str(q), "shares from 0 to 1")
    if not bool((nats >= 0).all()):
        raise InputError("budget", str(budget), "nats of at least 0")
    return share, nats
