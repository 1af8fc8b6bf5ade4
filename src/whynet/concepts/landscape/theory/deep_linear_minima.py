"""The least loss of a deep linear network: what a matrix of limited rank must leave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def least_loss(target: NDArray[Any], rank: int) -> float:
    """Return the least ½‖W − M‖² over matrices W of a rank: half the squares of the other values.

    With whitened inputs and squared loss every local minimum of a product of matrices has this loss
    (Baldi and Hornik 1989, Neural Networks 2:53; Kawaguchi 2016, arXiv:1605.07110, theorem 2.3).

    Args:
        target: M, `[rows, columns]`.
        rank: width of the narrowest layer.

    """
    values = np.linalg.svd(np.asarray(target, dtype=np.float64), compute_uv=False)
    return float(0.5 * np.sum(values[rank:] ** 2))
