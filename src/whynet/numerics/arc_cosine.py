"""Arc-cosine kernels: Gaussian averages of rectified linear units and of their slopes.

For standard normal `w` and unit vectors at an angle `θ`, `u = cos θ`:
`E[1(w·x > 0) 1(w·x' > 0)] = κ₀(u)/2` and `E[(w·x)₊ (w·x')₊] = κ₁(u)/2` (Cho and Saul 2009).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def kappa0(cosine: ArrayLike) -> Array:
    """Return `κ₀(u) = (π − arccos u)/π`; 1 at 1 and 0 at -1.

    >>> float(kappa0(0.0))
    0.5
    """
    return np.asarray((np.pi - np.arccos(_inside(cosine))) / np.pi)


def kappa1(cosine: ArrayLike) -> Array:
    """Return `κ₁(u) = (u(π − arccos u) + √(1 − u²))/π`; 1 at 1 and 0 at -1.

    >>> round(float(kappa1(0.5)), 7)
    0.6089978
    """
    u = _inside(cosine)
    return np.asarray((u * (np.pi - np.arccos(u)) + np.sqrt(1 - u * u)) / np.pi)


def _inside(cosine: ArrayLike) -> Array:
    """Return cosines in float64, round-off beyond ±1 removed."""
    return np.clip(np.asarray(cosine, dtype=np.float64), -1.0, 1.0)
