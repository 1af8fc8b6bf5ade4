"""How often a rule says `supported`, with a number pushed to where the claim no longer holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from whynet.core.claim import Judgement

Make = Callable[[np.random.Generator], tuple[xr.Dataset, xr.Dataset]]


def supported(
    judge: Callable[[xr.Dataset, xr.Dataset], Judgement], make: Make, draws: int = 200
) -> float:
    """Return the share of draws of `make` that are called supported."""
    generator = np.random.default_rng(0)
    return float(np.mean([judge(*make(generator)).state == "supported" for _ in range(draws)]))
