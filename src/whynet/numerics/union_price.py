"""What it costs to choose one of countably many bounds after the data were seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def union_price(index: ArrayLike) -> NDArray[np.float64]:
    """Price ln(1/p) of the whole number j under p(j) = 2 / (3 (|j| + 1)(|j| + 2)).

    These sum to 1 over all whole numbers, so that bounds with delta · p(j) hold for all j at once.

    Args:
        index: whole numbers.

    Returns:
        Nats, of the shape of `index`.

    """
    size = np.abs(np.asarray(index, np.float64))
    return np.asarray(np.log(1.5 * (size + 1) * (size + 2)))
