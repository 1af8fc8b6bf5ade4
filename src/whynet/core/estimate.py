"""One number that says how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["exact", "certified", "interval", "indicative"]
"""How a number knows its uncertainty.

exact       up to round-off; its interval has no width.
certified   the interval cannot miss (or misses with a proven probability below 1 - level).
interval    a confidence interval whose coverage is tested to lie at its level.
indicative  too few draws for a tested interval; the bar is a hint.
"""

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Estimate:
    """One number with its interval: the view of one entry of a measurement.

    Attributes:
        value: the estimate.
        low: lower end of the interval; equals `value` where the kind is `exact`.
        high: upper end of the interval.
        kind: `exact`, `certified`, `interval` or `indicative` (see `Kind`).
        level: nominal coverage of the interval, 0 to 1.
        unit: unit of all three, `""` for a pure number, `"fraction"` for shares of one.
        how: how value and interval were computed, one phrase.
        over: what the interval is over: `probes`, `examples`, `training seeds`, `segments`…

    """

    value: float
    low: float
    high: float
    kind: Kind
    level: float = 0.95
    unit: str = ""
    how: str = ""
    over: str = ""

    @property
    def width(self) -> float:
        """Length of the interval."""
        return self.high - self.low

    def excludes(self, low: float, high: float) -> bool:
        """Whether the interval lies wholly outside the band from `low` to `high`."""
        return self.low > high or self.high < low


def format_number(value: float, unit: str = "", digits: int = 3) -> str:
    """Write a number for a reader: percent for fractions, significant digits, true minus sign.

    >>> format_number(0.9781, "fraction")
    '97.8 %'
    >>> format_number(-0.00123456)
    '−0.00123'
    >>> format_number(123456.0)
    '123,456'
    """
    if not math.isfinite(value):
        return "not finite" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if unit == "fraction":
        return f"{_plain(100 * value, digits, decimals=1)} %"
    text = _plain(value, digits)
    return f"{text} {unit}" if unit and unit not in ("count", "nats", "ratio", "share") else text


def _plain(value: float, digits: int, decimals: int | None = None) -> str:
    if decimals is not None:
        text = f"{value:.{decimals}f}"
    elif value == 0 or (value == int(value) and abs(value) < 10**7):
        text = f"{int(value):,}"
    elif 10 ** (digits - 1) <= abs(value) < 10**7:
        text = f"{value:,.0f}"
    elif 1e-4 <= abs(value) < 10**7:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def format_interval(estimate: Estimate, digits: int = 3, *, unit: bool = True) -> str:
    """Write an estimate with its interval: `97.8 % [96.0, 98.9]`; no bar where it is exact.

    Narrow intervals get as many digits as it takes to tell their ends apart; where that would be
    more than five, the ends are as good as equal and written so.

    >>> format_interval(Estimate(0.978, 0.960, 0.989, "interval", unit="fraction"))
    '97.8 % [96.0, 98.9]'
    >>> format_interval(Estimate(0.31601, 0.31598, 0.31604, "certified"))
    '0.31601 [0.31598, 0.31604]'
    """
    # A share is written in percent wherever its unit stands.
    named = estimate.unit if unit or estimate.unit == "fraction" else ""
    if estimate.kind == "exact":
        return format_number(estimate.value, named, digits)
    if estimate.unit == "fraction":
        value = format_number(estimate.value, estimate.unit)
        low, high = (
            format_number(bound, "fraction").removesuffix(" %")
            for bound in (estimate.low, estimate.high)
        )
        return f"{value} [{low}, {high}]"
    largest = max(abs(estimate.low), abs(estimate.high))
    if 0 < estimate.width < largest < math.inf:
        # One digit of the width: as many more as the number is larger than it.
        needed = 1 + math.ceil(math.log10(largest / estimate.width))
        digits = max(digits, needed) if needed <= 5 else digits
    value = format_number(estimate.value, named, digits)
    low, high = format_number(estimate.low, "", digits), format_number(estimate.high, "", digits)
    return f"{value} [{low}, {high}]"
