"""How many Gaussian equations basis pursuit needs."""

from __future__ import annotations

from scipy.optimize import minimize_scalar
from scipy.stats import norm


def l1_statistical_dimension(sparsity: int, features: int) -> float:
    """Return the statistical dimension of the ℓ1 descent cone at a sparse vector.

    `δ = min_τ s(1 + τ²) + 2(p − s)[(1 + τ²)Φ(−τ) − τφ(τ)]`, Amelunxen, Lotz, McCoy and Tropp 2014
    (arXiv:1303.6672), proposition 4.5: with so many Gaussian equations basis pursuit recovers a
    signal with `s` of `p` entries about half of the time. An upper bound on the dimension, sharp
    to `2 √(p/s)`.

    Args:
        sparsity: `s`, 1 to `features`.
        features: `p`.

    """

    def excess(threshold: float) -> float:
        square = 1 + threshold**2
        tail = square * norm.cdf(-threshold) - threshold * norm.pdf(threshold)
        return float(sparsity * square + 2 * (features - sparsity) * tail)

    return float(minimize_scalar(excess, bounds=(0, 20), method="bounded").fun)
