"""How similar neurons are that know nothing: random directions on inputs without structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from whynet.core.errors import InputError
from whynet.core.measurement import Prediction, Quantity


def close_share(tolerance: ArrayLike, dimension: int) -> np.ndarray:
    """Probability that two isotropic random directions have a cosine above a tolerance.

    The squared cosine is Beta(1/2, (d - 1)/2) and its sign is fair, so that
    P(cos > t) = I(1 - t²; (d - 1)/2, 1/2) / 2 for 0 ≤ t < 1, with I the regularized incomplete
    beta function.

    Args:
        tolerance: cosines from 0 to below 1.
        dimension: of the space, at least 1.

    Raises:
        InputError: an argument is out of range.

    """
    t = np.asarray(tolerance, dtype=float)
    if dimension < 1:
        raise InputError("dimension", str(dimension), "at least 1")
    if ((t < 0) | (t >= 1)).any():
        raise InputError("tolerance", str(tolerance), "cosines from 0 to below 1")
    if dimension == 1:
        return np.full_like(t, 0.5)
    return np.asarray(special.betainc((dimension - 1) / 2, 0.5, 1 - t**2) / 2)


def predict(width: int, dimension: int, tolerances: Sequence[float]) -> Prediction:
    """Predict the similarity of random neurons on isotropic inputs.

    Assumes weights that are independent isotropic directions and inputs (with the constant that
    the bias multiplies) whose second moment is a multiple of the identity.

    Args:
        width: number of neurons, at least 1.
        dimension: number of inputs, the constant included.
        tolerances: cosines from 0 to below 1.

    Returns:
        `close_pairs`, the expected share of pairs of neurons with a cosine above each tolerance;
        `effective_rank`, width² over the expected sum of squared cosines,
        width / (1 + (width - 1) / dimension), which for many neurons is their mean rank.

    Raises:
        InputError: an argument is out of range.

    """
    if width < 1:
        raise InputError("width", str(width), "at least 1")
    share = close_share(tolerances, dimension)
    return Prediction.of(
        {
            "close_pairs": Quantity(
                share,
                share,
                share,
                dims=("tolerance",),
                unit="fraction",
                how="incomplete beta function",
            ),
            "effective_rank": Quantity(
                width / (1 + (width - 1) / dimension),
                unit="count",
                how="ratio of expectations",
            ),
        },
        coords={"tolerance": list(tolerances)},
    )
