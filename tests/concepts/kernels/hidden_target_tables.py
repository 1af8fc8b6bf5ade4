"""Errors of networks and kernels on hidden targets, made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from tests.concepts.verdict_rates import Tables

DIMENSIONS = np.array([24, 48, 96])


def excess(
    generator: np.random.Generator, size: Callable[[int], float], network: float, kernel: float
) -> Tables:
    """Draw errors of 12 seeds from 8 rows a dimension.

    Args:
        generator: of the noise.
        size: dimension to the number of functions that cannot be told apart.
        network: mean error of the network.
        kernel: by how much the kernel's exceeds its bound.

    """
    dims = ["dimension", "ratio", "seed"]
    coords = {"dimension": DIMENSIONS, "ratio": [8], "seed": range(12)}
    sizes = np.array([size(int(d)) for d in DIMENSIONS], dtype=float)
    ones = np.ones((3, 1, 12))
    low = (1 - 8 * DIMENSIONS / sizes)[:, None, None] * ones
    noise = 0.03 * generator.standard_normal((2, 3, 1, 12))
    errors = {"network": (dims, network + noise[0]), "kernel": (dims, low + kernel + noise[1])}
    known = {"least": (dims, low), "size": (dims, sizes[:, None, None] * ones)}
    return xr.Dataset(errors, coords), xr.Dataset(known, coords)
