"""Made-up tables of errors of networks and kernels on hidden targets."""

from __future__ import annotations

import numpy as np
import xarray as xr
from tests.concepts.verdict_rates import MadeUp, Tables, at_null, fails, holds


def made(generator: np.random.Generator, network: float, kernel: float) -> Tables:
    """Errors of the network, and by how much those of the kernel exceed their bound."""
    dimensions, dims = np.array([24, 48, 96]), ["dimension", "ratio", "seed"]
    coords = {"dimension": dimensions, "ratio": [8], "seed": range(12)}
    size = dimensions * (dimensions - 1) / 2
    low = (1 - 8 * dimensions / size)[:, None, None] * np.ones((3, 1, 12))
    predicted = {"least": (dims, low), "size": (dims, size[:, None, None] * np.ones((3, 1, 12)))}
    noise = 0.03 * generator.standard_normal((2, 3, 1, 12))
    measured = {"network": (dims, network + noise[0]), "kernel": (dims, low + kernel + noise[1])}
    return xr.Dataset(measured, coords), xr.Dataset(predicted, coords)


def cases() -> tuple[MadeUp, ...]:
    """Tables at the edges of the claim, inside, and outside."""
    return (
        at_null("error of the network 0.35, the band's edge", lambda g: made(g, 0.35, 0.3)),
        at_null("error of the kernel at its bound", lambda g: made(g, 0.2, 0.0)),
        holds("errors 0.2, and 0.3 over the bound", lambda g: made(g, 0.2, 0.3), 0.8),
        fails("a network that learns nothing", lambda g: made(g, 1.0, 0.3)),
        fails("a kernel that is below the bound", lambda g: made(g, 0.2, -0.2)),
    )
