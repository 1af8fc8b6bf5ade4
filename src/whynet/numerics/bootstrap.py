"""Bootstrap over examples, for statistics that are no plain mean.

Bias-corrected and accelerated percentile intervals (BCa) of Efron (1987, JASA 82:171-185), with
resampling by weights, so that a statistic is computed for all resamples in one product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate, Kind

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Maps weights [draws, examples] (each row sums to about `examples`) to values [draws]."""

_ENTRIES = 2**22
"""Weights held at one time: 32 MiB."""
_GROUPS = 1000
"""At most so many leave-out evaluations for the acceleration."""


def bootstrap(
    statistic: Statistic,
    examples: int,
    *,
    seed: int,
    draws: int = 1000,
    unit: str = "",
    how: str = "BCa bootstrap",
    over: str = "examples",
    level: float = 0.95,
) -> Estimate:
    """BCa interval of a statistic over resampled examples.

    The statistic is written for weights, which all resamples share with the data themselves:
    weight 1 everywhere is the data, counts that sum to `examples` are a resample, and a zero
    leaves an example out. It must not depend on the scale of the weights. For example R^2:

        def r_squared(w):                                   # w: [draws, n]; y, prediction: [n]
            mean = (w @ y / w.sum(1))[:, None]
            return 1 - w @ (y - prediction) ** 2 / (w * (y - mean) ** 2).sum(1)

    The acceleration comes from a jackknife that leaves out single examples, or, above 1000
    examples, 1000 interleaved groups of them (the groups follow the order of the examples; shuffle
    first if the order is periodic). Memory: 32 MiB of weights at one time, beside what the
    statistic allocates. Cost: `draws` + min(`examples`, 1000) values of the statistic.

    Coverage is approximate: it is sound for smooth statistics of at least some 100 examples
    (R^2, log-loss ratios, correlations). It is not for a statistic whose bias outweighs its
    spread, such as the plug-in calibration error of a well calibrated network, nor for maxima.

    Args:
        statistic: weights [k, examples] float64 to values [k], for any k.
        examples: number of examples.
        seed: seed of the resampling; the same seed gives the same interval.
        draws: number of resamples, at least 200.
        unit: unit of the statistic.
        how: phrase for the reader.
        over: what is resampled.
        level: nominal coverage.

    Returns:
        Kind `interval`; `indicative` below 30 examples or where no resample changes the value.
        The interval is widened, where needed, to hold the value itself.

    Raises:
        InputError: too few examples or draws, a bad level, or a statistic that returns another
            shape or values that are not finite.

    """
    _check(examples, draws, level)
    value = float(_evaluate(statistic, np.ones((1, examples)))[0])
    resampled = np.concatenate([_evaluate(statistic, w) for w in _resamples(examples, draws, seed)])
    left_out = np.concatenate([_evaluate(statistic, w) for w in _leave_out(examples)])
    low, high = np.quantile(resampled, _bca_shares(value, resampled, left_out, level))
    spread = bool(np.ptp(resampled) > 0)
    kind: Kind = "interval" if examples >= 30 and spread else "indicative"
    bounds = min(float(low), value), max(float(high), value)
    return Estimate(value, *bounds, kind, level, unit, how, over)


def _check(examples: int, draws: int, level: float) -> None:
    if examples < 2:
        raise InputError("examples", str(examples), "at least 2")
    if draws < 200:
        raise InputError("draws", str(draws), "at least 200")
    if not 0 < level < 1:
        raise InputError("level", str(level), "a number between 0 and 1, such as 0.95")


def _evaluate(statistic: Statistic, weights: Floats) -> Floats:
    values = np.asarray(statistic(weights), dtype=np.float64)
    if values.shape != (len(weights),):
        raise InputError("statistic", f"values of shape {values.shape}", f"({len(weights)},)")
    broken = np.count_nonzero(~np.isfinite(values))
    if broken:
        found = f"{broken} of {values.size} values not finite"
        raise InputError("statistic", found, "a finite value for every resample")
    return values


def _resamples(examples: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield multinomial counts, [chunk, examples] at a time."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _ENTRIES // examples)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        picks = generator.integers(examples, size=(rows, examples))
        picks += examples * np.arange(rows)[:, None]
        counts = np.bincount(picks.ravel(), minlength=rows * examples)
        yield counts.reshape(rows, examples).astype(np.float64)


def _leave_out(examples: int) -> Iterator[Floats]:
    """Yield weights that leave out one group of examples each, [chunk, examples] at a time."""
    groups = min(examples, _GROUPS)
    member = np.arange(examples) % groups
    chunk = max(1, _ENTRIES // examples)
    for start in range(0, groups, chunk):
        names = np.arange(start, min(start + chunk, groups))
        yield (member[None, :] != names[:, None]).astype(np.float64)


def _bca_shares(value: float, resampled: Floats, left_out: Floats, level: float) -> Floats:
    """Return the two shares at which the quantiles of the resamples are read."""
    below = np.mean(resampled < value) + np.mean(resampled == value) / 2
    least = 0.5 / resampled.size
    bias = stats.norm.ppf(np.clip(below, least, 1 - least))
    influence = left_out.mean() - left_out
    energy = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * energy**1.5) if energy > 0 else 0.0
    shifted = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    shares = stats.norm.cdf(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-3))
    return np.asarray(shares, dtype=np.float64)
