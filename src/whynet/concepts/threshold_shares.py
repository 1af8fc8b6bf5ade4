"""Verdicts on a threshold: most succeed on one side of it, and few on the other."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr

from whynet.core.claim import Judgement
from whynet.core.estimate import Estimate
from whynet.numerics.intervals import proportion

HALF = 0.5


def judge_shares(
    hits: xr.DataArray, threshold: xr.DataArray, along: str, side: Callable[[float, float], int]
) -> Judgement:
    """Judge shares of successes on both sides of a threshold, by Clopper and Pearson (95 %).

    Supported where every share above it is more than one half and every one below it less, by
    intervals; refuted where one lies on the wrong side. Sizes next to the threshold decide nothing.

    Args:
        hits: 1 where a run succeeded and 0 where not, over the grid's parameters and `seed`.
        threshold: predicted, over the same.
        along: parameter whose size is held against the threshold.
        side: size and threshold to 1 (above), −1 (below) or 0 (too near to decide).

    """
    names = [str(name) for name in hits.dims if name != "seed"]
    both = xr.merge(
        [hits.rename("hits").to_dataset(), threshold.rename("threshold").to_dataset()],
        join="exact",
        compat="no_conflicts",
    ).stack(point=names)
    sides: dict[int, list[tuple[float, Estimate]]] = {1: [], 0: [], -1: []}
    for place in range(both.sizes["point"]):
        point = both.isel(point=place)
        size, found = float(point.coords[along]), point["hits"].values
        share = proportion(int(found.sum()), found.size, over="training seeds")
        sides[side(size, float(point["threshold"].values[0]))].append((size, share))
    return _judged(sides[1], sides[-1], along)


def _judged(
    above: list[tuple[float, Estimate]], below: list[tuple[float, Estimate]], along: str
) -> Judgement:
    if not above or not below:
        sentence = f"There is no number of {along} on each side of the threshold, away from it."
        return Judgement("inconclusive", sentence)
    size_above, low = min(above, key=lambda pair: pair[1].value)
    size_below, high = max(below, key=lambda pair: pair[1].value)
    sentence = (
        f"Above the threshold at least {low.value:.0%} of the runs succeed [{low.low:.0%}, "
        f"{low.high:.0%}] ({size_above:.0f} {along}), below it at most {high.value:.0%} "
        f"[{high.low:.0%}, {high.high:.0%}] ({size_below:.0f} {along})."
    )
    numbers = {"recovered above": low, "recovered below": high}
    if min(s.low for _, s in above) > HALF > max(s.high for _, s in below):
        return Judgement("supported", sentence, numbers)
    if any(s.high < HALF for _, s in above) or any(s.low > HALF for _, s in below):
        return Judgement("refuted", sentence, numbers)
    return Judgement("inconclusive", sentence, numbers)
