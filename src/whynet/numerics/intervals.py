"""Confidence intervals: every function returns a number that says how sure it is.

All take plain arrays or counts, compute in float64 and return `whynet.core.estimate.Estimate`.
The kind is `interval` (coverage tested), `certified` (Clopper-Pearson, whose coverage is at least
its level by theorem) or `indicative` (fewer than 30 draws, or draws that show no spread).

An unsound argument raises `InputError`, which names the argument. Cost is negligible everywhere,
except in `whynet.numerics.bootstrap`, which has its own file.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate, Kind

Floats = NDArray[np.float64]

ENOUGH_DRAWS = 30
"""Below this many draws an interval is called `indicative`."""


def mean_t(
    values: ArrayLike,
    *,
    unit: str = "",
    how: str = "mean with Student t interval",
    over: str = "draws",
    level: float = 0.95,
) -> Estimate:
    """Mean of independent draws with Student's t interval.

    Assumes independent draws of one distribution whose mean of n draws is close to normal; for
    strongly skewed draws take more of them, or work on a log scale. The interval is never
    narrower than the round-off of a mean in the dtype of `values`.

    Args:
        values: [n] draws; float32 or float64 (integers and booleans count as float64).
        unit: unit of the draws.
        how: phrase for the reader.
        over: what the draws are (`probes`, `training seeds`…).
        level: nominal coverage.

    Returns:
        Kind `interval`; `indicative` with fewer than 30 draws or where all draws are equal (then
        the interval has no width beyond round-off, and says nothing of what was not drawn). One
        draw has the whole line as its interval.

    Raises:
        InputError: no draws, not one axis, not finite, or a level outside (0, 1).

    """
    draws, roundoff = _draws("values", values)
    _check_level(level)
    count = draws.size
    mean = float(draws.mean())
    floor = roundoff * float(np.abs(draws).max())
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, "indicative", level, unit, how, over)
    error = float(draws.std(ddof=1)) / math.sqrt(count)
    half = max(float(stats.t.ppf(0.5 + level / 2, count - 1)) * error, floor)
    kind: Kind = "interval" if count >= ENOUGH_DRAWS and np.ptp(draws) > 0 else "indicative"
    return Estimate(mean, mean - half, mean + half, kind, level, unit, how, over)


def half_widths(values: ArrayLike, axis: int, level: float = 0.95) -> Floats:
    """Half widths of Student's t intervals of means along an axis, for many means at once.

    Assumes, as `mean_t`, independent draws along the axis.

    Args:
        values: draws along `axis`; of one there is no interval, and NaN.
        axis: which.
        level: nominal coverage.

    """
    draws = np.asarray(values, dtype=np.float64)
    count = draws.shape[axis]
    if count < 2:
        return np.full_like(draws.mean(axis), np.nan)
    reach = float(stats.t.ppf(0.5 + level / 2, count - 1))
    return np.asarray(reach * draws.std(axis, ddof=1) / math.sqrt(count))


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    unit: str = "",
    how: str = "mean of paired differences with Student t interval",
    over: str = "draws",
    level: float = 0.95,
) -> Estimate:
    """Mean of `first - second` over pairs: Student's t on the differences.

    Args:
        first: [n] one value per pair.
        second: [n] the other value of the same pairs, in the same order.
        unit: unit of both.
        how: phrase for the reader.
        over: what the pairs are.
        level: nominal coverage.

    Returns:
        As `mean_t`.

    Raises:
        InputError: the two differ in length, or what `mean_t` refuses.

    """
    left, right = np.asarray(first), np.asarray(second)
    if left.shape != right.shape:
        raise InputError("second", f"shape {right.shape}", f"the shape of first, {left.shape}")
    if left.dtype.kind == "b" or right.dtype.kind in "bu" or left.dtype.kind == "u":
        left, right = left.astype(np.float64), right.astype(np.float64)
    return mean_t(left - right, unit=unit, how=how, over=over, level=level)


def difference_of_means(
    first: ArrayLike,
    second: ArrayLike,
    *,
    unit: str = "",
    how: str = "difference of means with Welch's t interval",
    over: str = "draws",
    level: float = 0.95,
) -> Estimate:
    """Mean of `first` minus mean of `second` for independent samples: Welch's t interval.

    Variances may differ; degrees of freedom by Welch (1947) and Satterthwaite (1946).

    Args:
        first: [n1] draws.
        second: [n2] draws, independent of the first.
        unit: unit of both.
        how: phrase for the reader.
        over: what the draws are.
        level: nominal coverage.

    Returns:
        Kind `interval`; `indicative` where either sample has fewer than 30 draws or neither
        shows any spread. With a single draw in a sample the interval is the whole line.

    Raises:
        InputError: as `mean_t`.

    """
    a, roundoff_a = _draws("first", first)
    b, roundoff_b = _draws("second", second)
    _check_level(level)
    gap = float(a.mean() - b.mean())
    if min(a.size, b.size) == 1:
        return Estimate(gap, -math.inf, math.inf, "indicative", level, unit, how, over)
    floor = roundoff_a * float(np.abs(a).max()) + roundoff_b * float(np.abs(b).max())
    parts = np.array([a.var(ddof=1) / a.size, b.var(ddof=1) / b.size])
    half, spread = floor, bool(parts.sum() > 0)
    if spread:
        shares = parts / parts.sum()
        freedom = 1 / float((shares**2 / np.array([a.size - 1, b.size - 1])).sum())
        half = max(float(stats.t.ppf(0.5 + level / 2, freedom)) * math.sqrt(parts.sum()), floor)
    enough = min(a.size, b.size) >= ENOUGH_DRAWS and spread
    kind: Kind = "interval" if enough else "indicative"
    return Estimate(gap, gap - half, gap + half, kind, level, unit, how, over)


def proportion(
    successes: int,
    trials: int,
    *,
    how: str = "Clopper-Pearson",
    over: str = "examples",
    level: float = 0.95,
) -> Estimate:
    """Share of successes with the interval of Clopper and Pearson (1934, Biometrika 26).

    Assumes independent trials with one probability of success. Coverage is at least `level` at
    every probability and every number of trials, hence the kind `certified`.

    Args:
        successes: number of successes, 0 to `trials`.
        trials: number of trials, at least 1.
        how: phrase for the reader.
        over: what the trials are.
        level: coverage that is guaranteed.

    Raises:
        InputError: counts or level out of range.

    """
    _check_counts("successes", successes, "trials", trials)
    _check_level(level)
    miss, failures = (1 - level) / 2, trials - successes
    low = float(stats.beta.ppf(miss, successes, failures + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1 - miss, successes + 1, failures)) if failures else 1.0
    share = successes / trials
    return Estimate(share, low, high, "certified", level, "fraction", how, over)


def difference_of_proportions(
    successes_first: int,
    trials_first: int,
    successes_second: int,
    trials_second: int,
    *,
    how: str = "difference of shares, Newcombe's hybrid score interval",
    over: str = "examples",
    level: float = 0.95,
) -> Estimate:
    """Share of the first sample minus share of the second, for independent samples.

    Newcombe (1998, Statistics in Medicine 17:873-890), method 10: the Wilson score intervals of
    both shares, combined by squares; no continuity correction. Never leaves [-1, 1].

    Args:
        successes_first: successes in the first sample.
        trials_first: its size.
        successes_second: successes in the second sample.
        trials_second: its size.
        how: phrase for the reader.
        over: what the trials are.
        level: nominal coverage.

    Returns:
        Kind `interval`, or `indicative` with fewer than 30 trials in a sample.

    Raises:
        InputError: counts or level out of range.

    """
    _check_counts("successes_first", successes_first, "trials_first", trials_first)
    _check_counts("successes_second", successes_second, "trials_second", trials_second)
    _check_level(level)
    value, low, high = newcombe_bounds(
        np.float64(successes_first),
        trials_first,
        np.float64(successes_second),
        trials_second,
        level,
    )
    enough = min(trials_first, trials_second) >= ENOUGH_DRAWS
    kind: Kind = "interval" if enough else "indicative"
    return Estimate(float(value), float(low), float(high), kind, level, "fraction", how, over)


def paired_difference_of_proportions(
    right_first: ArrayLike,
    right_second: ArrayLike,
    *,
    how: str = "paired difference of shares, Tango's score interval",
    over: str = "examples",
    level: float = 0.95,
) -> Estimate:
    """Share of successes of two classifiers on the same examples: first minus second.

    Score interval of Tango (1998, Statistics in Medicine 17:891-908), which rests on the
    discordant examples alone. Preferred to Newcombe's paired method 10, whose coverage depends on
    the accuracy itself (exact enumeration: down to 86 % where half the examples are right).
    With 0.3 to 5 % of 300 to 1000 examples discordant, Tango's covers 95 to 97 % on average and
    92.9 % at the worst of 1040 points. Two classifiers that agree everywhere still get an
    interval of about -4 / n to 4 / n.

    Args:
        right_first: [n] booleans, whether the first is right on each example.
        right_second: [n] the same for the second, same examples, same order.
        how: phrase for the reader.
        over: what the pairs are.
        level: nominal coverage.

    Returns:
        Kind `interval`, or `indicative` with fewer than 30 examples.

    Raises:
        InputError: not boolean, not of one length, empty, or a level outside (0, 1).

    """
    first, second = np.asarray(right_first), np.asarray(right_second)
    for name, array in (("right_first", first), ("right_second", second)):
        if array.dtype != np.bool_ or array.ndim != 1 or array.size == 0:
            found = f"dtype {array.dtype} of shape {array.shape}"
            raise InputError(name, found, "a non-empty row of booleans")
    if first.size != second.size:
        raise InputError("right_second", f"{second.size} examples", f"the {first.size} of first")
    _check_level(level)
    only_first = np.float64(np.count_nonzero(first & ~second))
    only_second = np.float64(np.count_nonzero(second & ~first))
    low, high = tango_bounds(only_first, only_second, first.size, level)
    value = float(only_first - only_second) / first.size
    kind: Kind = "interval" if first.size >= ENOUGH_DRAWS else "indicative"
    bounds = min(float(low), value), max(float(high), value)
    return Estimate(value, *bounds, kind, level, "fraction", how, over)


def newcombe_bounds(
    successes_first: Floats | np.float64,
    trials_first: int,
    successes_second: Floats | np.float64,
    trials_second: int,
    level: float,
) -> tuple[Floats, Floats, Floats]:
    """Difference of two shares with Newcombe's method 10, elementwise over arrays of counts.

    Returns:
        value, low, high; each of the broadcast shape of the counts.

    """
    p1, low1, high1 = _wilson(successes_first, trials_first, level)
    p2, low2, high2 = _wilson(successes_second, trials_second, level)
    gap = np.asarray(p1 - p2)
    low = gap - np.sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2)
    high = gap + np.sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2)
    return gap, low, high


def tango_bounds(
    only_first: Floats | np.float64,
    only_second: Floats | np.float64,
    examples: int,
    level: float,
) -> tuple[Floats, Floats]:
    """Tango's score interval from the discordant counts, elementwise over arrays of counts.

    Finds by 60 bisections the ends of the set of differences d with
    (b - c - n d)^2 <= z^2 n (2 q(d) + d (1 - d)), where b and c are the discordant counts and
    q(d) is the maximum-likelihood share of `only_second` given d.

    Args:
        only_first: examples where the first alone is right.
        only_second: examples where the second alone is right.
        examples: number of examples.
        level: nominal coverage.

    Returns:
        low, high; each of the broadcast shape of the counts.

    """
    b, c, n = np.asarray(only_first, float), np.asarray(only_second, float), float(examples)
    z2 = float(stats.norm.ppf(0.5 + level / 2)) ** 2
    center = (b - c) / n

    def outside(d: Floats) -> NDArray[np.bool_]:
        linear = (2 * n - b + c) * d - b - c
        root = np.sqrt(np.maximum(linear**2 + 8 * n * c * d * (1 - d), 0.0))
        share = (root - linear) / (4 * n)
        variance = np.maximum(2 * share + d * (1 - d), 0.0)
        return np.asarray((b - c - n * d) ** 2 > z2 * n * variance)

    ends = []
    for edge in (-1.0, 1.0):
        far, near = np.full_like(center, edge), center.copy()
        for _ in range(60):
            middle = (far + near) / 2
            out = outside(middle)
            far, near = np.where(out, middle, far), np.where(out, near, middle)
        ends.append(far)
    return ends[0], ends[1]


def _wilson(
    successes: Floats | np.float64, trials: int, level: float
) -> tuple[Floats, Floats, Floats]:
    z2 = float(stats.norm.ppf(0.5 + level / 2)) ** 2
    share = np.asarray(successes / trials)
    center = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return share, np.minimum(center - half, share), np.maximum(center + half, share)


def _draws(argument: str, values: ArrayLike) -> tuple[Floats, float]:
    """Check draws; return them in float64 and the relative round-off of their mean."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiub":
        found = f"dtype {array.dtype} of shape {array.shape}"
        raise InputError(argument, found, "a non-empty row of real numbers")
    broken = array.size - np.count_nonzero(np.isfinite(array))
    if broken:
        raise InputError(argument, f"{broken} of {array.size} not finite", "finite numbers")
    precision = np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps
    exact = array.dtype.kind != "f" and bool((array == array[0]).all())
    return array.astype(np.float64), 0.0 if exact else 2 * float(precision)


def _check_counts(name: str, successes: int, name_of_trials: str, trials: int) -> None:
    if trials < 1:
        raise InputError(name_of_trials, str(trials), "at least 1")
    if not 0 <= successes <= trials:
        raise InputError(name, str(successes), f"0 to {trials}, the number of trials")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError("level", str(level), "a number between 0 and 1, such as 0.95")
