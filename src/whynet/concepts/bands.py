"""Verdicts from intervals over seeds and frozen bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from whynet.core.claim import Judgement, State
from whynet.core.estimate import Estimate, format_number
from whynet.numerics.intervals import mean_t

LEVEL = 0.95
SHOWN = 3
"""Most numbers in a sentence."""


@dataclass(frozen=True)
class Band:
    """A number of which a claim says where it lies.

    Attributes:
        name: what is measured, a phrase.
        values: one a seed.
        low: least value that the claim allows.
        high: largest.
        unit: for the reader.

    """

    name: str
    values: NDArray[Any] = field(repr=False)
    low: float = -np.inf
    high: float = np.inf
    unit: str = ""

    def estimate(self, level: float = LEVEL) -> Estimate:
        """Return the mean over seeds with Student's t interval."""
        return mean_t(self.values, unit=self.unit, over="training seeds", level=level)

    @property
    def words(self) -> str:
        """The number, its interval and its band."""
        found = self.estimate()
        parts = [format_number(v, self.unit) for v in (found.value, found.low, found.high)]
        return f"{self.name} {parts[0]} [{parts[1]}, {parts[2]}], {self._band}"

    @property
    def _band(self) -> str:
        low, high = (format_number(v, self.unit) for v in (self.low, self.high))
        if np.isinf(self.low):
            return f"at most {high} claimed"
        if np.isinf(self.high):
            return f"at least {low} claimed"
        return f"{low} to {high} claimed"


def judge_bands(bands: Sequence[Band]) -> Judgement:
    """Judge a claim that says of several numbers in which band each lies.

    Supported where every interval (95 %, over seeds) lies inside its band: false with at most
    2.5 % if any number truly lies outside. Refuted where an interval lies outside its band, at a
    level that allows for their number (Bonferroni). Inconclusive otherwise.
    """
    if not all(np.isfinite(band.values).all() for band in bands):
        return Judgement("inconclusive", "Some runs ended in numbers that are not finite.")
    numbers = {band.name: band.estimate() for band in bands}
    strict = 1 - (1 - LEVEL) / len(bands)
    outside = [b for b in bands if b.estimate(strict).excludes(b.low, b.high)]
    if outside:
        return Judgement("refuted", _sentence("Outside the claim", outside), numbers)
    open_ = [b for b in bands if numbers[b.name].low < b.low or numbers[b.name].high > b.high]
    if open_:
        return Judgement("inconclusive", _sentence("More seeds would tell", open_), numbers)
    return Judgement("supported", _sentence("As claimed", bands), numbers)


def _sentence(start: str, bands: Sequence[Band]) -> str:
    more = f"; and {len(bands) - SHOWN} more" if len(bands) > SHOWN else ""
    return f"{start}: {'; '.join(band.words for band in bands[:SHOWN])}{more}."


def combined(*judgements: Judgement) -> Judgement:
    """Return one judgement of several: refuted by any, supported by all."""
    states = {judgement.state for judgement in judgements}
    state: State = "supported" if states == {"supported"} else "inconclusive"
    if "refuted" in states:
        state = "refuted"
    numbers = {name: e for judgement in judgements for name, e in judgement.numbers.items()}
    return Judgement(state, " ".join(judgement.sentence for judgement in judgements), numbers)


def slopes(sizes: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return exponents: least-squares slopes of `log values` over `log sizes`.

    Args:
        sizes: `[sizes]`, positive.
        values: `[sizes, seeds]`, positive.

    Returns:
        One exponent a seed.

    """
    x = np.log(np.asarray(sizes, dtype=np.float64))
    x = x - x.mean()
    with np.errstate(divide="ignore"):
        return np.asarray(x @ np.log(values) / (x @ x))


def family_bands(
    ratio: xr.DataArray, families: Sequence[str], label: str, low: float, high: float
) -> list[Band]:
    """Return a band for the ratios of every family, at the largest width.

    Args:
        ratio: over `width`, the families' axes and others, which are values of one band.
        families: axes whose values are judged one by one.
        label: what the ratio is.
        low: lower end of the bands.
        high: upper end.

    """
    ratio = ratio.sel(width=ratio["width"].values.max())
    varying = [name for name in families if ratio.sizes[name] > 1]
    bands = []
    for values in product(*(ratio[name].values.tolist() for name in families)):
        place = dict(zip(families, values, strict=True))
        words = ", ".join(f"{name.replace('_', ' ')} {place[name]:g}" for name in varying)
        named = label + (f" ({words})" if words else "")
        bands.append(Band(named, ratio.sel(place).values.ravel(), low, high))
    return bands
