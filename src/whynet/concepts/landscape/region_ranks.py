"""The Jacobian of a two-layer network inside an activation region, and whether it is onto."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whynet.core.errors import InputError


def onto(patterns: NDArray[np.bool_], points: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether the Jacobian by the hidden weights has full row rank in each region.

    With outer weights that are not 0 its rows are (A_ij x_i)_j, A_ij whether unit j is active at
    point i, the Khatri-Rao product of patterns and points; outer weights scale columns. Singular
    values below max(shape) eps of the largest count as 0.

    Args:
        patterns: `[regions, N, units]`.
        points: `[N, n]`, with a last column of ones for biases.

    Raises:
        InputError: the shapes do not fit.

    Cost: a singular value decomposition of `[N, units n]` each; none where units n < N.

    """
    if patterns.ndim != 3 or points.ndim != 2 or patterns.shape[1] != len(points):
        raise InputError(
            "patterns", f"shapes {patterns.shape} and {points.shape}",
            "[regions, points, units] and [points, inputs]",
        )  # fmt: skip
    regions, rows, units = patterns.shape
    columns = units * points.shape[1]
    if columns < rows or regions == 0:
        return np.zeros(regions, dtype=bool)
    products = patterns[..., None] * np.asarray(points, dtype=np.float64)[:, None, :]
    jacobians = torch.from_numpy(products.reshape(regions, rows, columns))
    values = torch.linalg.svdvals(jacobians).numpy()
    floor = columns * np.finfo(np.float64).eps * values[:, 0]
    return np.asarray(values[:, rows - 1] > floor)
