"""The axis of a strip: its ends, its scale, and ticks at round values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from whynet.core.estimate import Estimate
from whynet.core.question import Reference

_HUGE = 1e300
_TINY = 1e-300
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DECADES_FOR_LOG = 2.0
_LEGIBLE = 0.05
"""Share of the axis that a number's own interval takes at least."""


@dataclass(frozen=True)
class Axis:
    """Where values stand on a line.

    Attributes:
        low: value at the left end.
        high: value at the right end.
        log: whether equal distances are equal ratios.
        ticks: round values between the ends, ascending.
        labels: their texts, all different.

    """

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def place(self, value: float) -> float:
        """Return where a value stands: 0 at the left end, 1 at the right, beyond them outside."""
        if self.log:
            if value <= 0:
                return -math.inf
            width = math.log10(self.high) - math.log10(self.low)
            return (math.log10(min(value, _HUGE)) - math.log10(self.low)) / width
        if not math.isfinite(value):
            return value
        return (value - self.low) / (self.high - self.low)


def in_view(estimate: Estimate, references: Sequence[Reference]) -> list[float]:
    """Return what the axis must show: the number, and references as far as it stays legible.

    A reference so far away that the number's own interval would shrink to a dot is left out; an
    arrow at the end of the axis stands for it. A logarithmic axis has room for all.
    """
    own = [estimate.value, estimate.low, estimate.high]
    every = [*own, *(end for ref in references for end in (ref.low, ref.high))]
    if estimate.unit != "fraction" and min(every) > 0:
        return every

    def away(reference: Reference) -> float:
        return max(reference.low - estimate.high, estimate.low - reference.high, 0.0)

    near = sorted(references, key=away)
    scale = max(estimate.width, away(near[0]) if near else 0.0)
    seen = own
    for reference in near:
        wider = [*seen, reference.low, reference.high]
        if scale < _LEGIBLE * (max(wider) - min(wider)):
            break
        seen = wider
    return seen


def choose_axis(
    values: Sequence[float], unit: str, ends: tuple[float, float] | None = None, ticks: int = 5
) -> Axis:
    """Choose an axis that shows all values, or the given ends.

    The scale is logarithmic where positive values span more than two decades, except for
    shares that come near the whole.

    Args:
        values: what must be seen; what is not finite is left out.
        unit: unit of the values; `fraction` is written in percent.
        ends: ends to keep as they are; ignored where they are no interval.
        ticks: how many ticks at most.

    """
    if ends is not None and math.isfinite(ends[1] - ends[0]) and ends[0] < ends[1]:
        low, high = ends
        given = True
    else:
        finite = [min(max(v, -_HUGE), _HUGE) for v in values if math.isfinite(v)] or [0.0]
        low, high = min(finite), max(finite)
        given = False
    if _wants_log(low, high, unit):
        if not given:
            low, high = max(low / 1.6, _TINY), min(high * 1.6, _HUGE)
        marks = _decades(low, high, ticks)
        return Axis(low, high, True, marks, tick_labels(marks, unit))
    if not given:
        low, high = _padded(low, high, unit)
    marks = _quarters(low, high, unit) if given else ()
    if not marks:
        low, high, marks = _round_marks(low, high, given, ticks, unit)
    return Axis(low, high, False, marks, tick_labels(marks, unit))


def tick_labels(ticks: Sequence[float], unit: str) -> tuple[str, ...]:
    """Write ticks as short as they stay different and true.

    >>> tick_labels([0.85, 0.9, 0.95, 1.0], "fraction")
    ('85 %', '90 %', '95 %', '100 %')
    >>> tick_labels([0.0, 2e6, 4e6], "")
    ('0', '2×10⁶', '4×10⁶')
    """
    scaled = [100 * tick for tick in ticks] if unit == "fraction" else list(ticks)
    suffix = " %" if unit == "fraction" else ""
    largest = max((abs(tick) for tick in scaled), default=0.0)
    smallest = min((abs(tick) for tick in scaled if tick), default=1.0)
    decimal = _written(scaled, _decimal)
    if largest < 1e6 and smallest >= 1e-4:
        return tuple(text + suffix for text in decimal)
    scientific = _written(scaled, _scientific)
    short = min((scientific, decimal), key=_length)
    return tuple(text + suffix for text in short)


def _written(ticks: Sequence[float], write: Callable[[float, int], str]) -> list[str]:
    """Write ticks with as few digits as they need to be different and true."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    texts: list[str] = []
    for digits in range(13):
        texts = [write(tick, digits) for tick in ticks]
        close = all(
            math.isclose(_read(text), tick, rel_tol=1e-6, abs_tol=largest * 1e-6)
            for text, tick in zip(texts, ticks, strict=True)
        )
        if close and len(set(texts)) == len(texts):
            break
    return [_dressed(text) for text in texts]


def _length(texts: Sequence[str]) -> tuple[int, int]:
    """Order ways of writing: first those without repeated texts, then the shorter ones."""
    return len(texts) - len(set(texts)), sum(map(len, texts))


def _wants_log(low: float, high: float, unit: str) -> bool:
    if low <= 0 or (unit == "fraction" and high > 0.3):
        return False
    return math.log10(high) - math.log10(low) > _DECADES_FOR_LOG


def _padded(low: float, high: float, unit: str) -> tuple[float, float]:
    """Widen a range a little; reach for zero where it is near; keep shares between 0 and 1."""
    shares = unit == "fraction" and low >= 0 and high <= 1
    if low == high == 0:
        return 0.0, 1.0
    if (0 <= low <= 0.35 * high) or low == high > 0:
        low = 0.0
    elif (0.35 * low <= high <= 0) or low == high:
        high = 0.0
    span = max(high - low, _TINY)
    low, high = (low - 0.06 * span if low else 0.0), (high + 0.06 * span if high else 0.0)
    return (max(low, 0.0), min(high, 1.0)) if shares else (low, high)


def _round_marks(
    low: float, high: float, given: bool, ticks: int, unit: str
) -> tuple[float, float, tuple[float, ...]]:
    step = _round_step((high - low) / max(ticks - 1, 1))
    first, last = low / step, high / step
    if given:
        numbers = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    else:
        numbers = range(math.floor(first + 1e-9), math.ceil(last - 1e-9) + 1)
    # one product rounds better than many sums: 3 * 0.1 -> 0.3 through the step's reciprocal
    marks = tuple(_times(number, step) for number in numbers)
    if len(set(marks)) < 2:
        marks = (low, high)
    if given:
        return low, high, marks
    if unit == "fraction" and high <= 1 < marks[-1]:
        return marks[0], 1.0, (*marks[:-1], 1.0)
    return marks[0], marks[-1], marks


def _times(number: int, step: float) -> float:
    inverse = 1 / step if step > 1e-290 else math.inf
    whole = round(inverse) if inverse < 1e15 else 0
    if whole > 1 and math.isclose(whole * step, 1, rel_tol=1e-12):
        return number / whole
    return number * step


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(least, 1e-306)))
    for factor in (1.0, 2.0, 2.5, 5.0):
        if factor * power >= least * (1 - 1e-9):
            return factor * power
    return 10 * power


def _quarters(low: float, high: float, unit: str) -> tuple[float, ...]:
    """Quarters of a power of two, the way widths of networks are thought of."""
    if unit == "fraction" or low != 0 or high < 8 or high > 2**20:
        return ()
    whole = int(high)
    if whole != high or whole & (whole - 1):
        return ()
    return tuple(high * part / 4 for part in range(5))


def _decades(low: float, high: float, ticks: int) -> tuple[float, ...]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first) / max(ticks - 1, 1)))
    return tuple(float(f"1e{power}") for power in range(first, last + 1, step))


def _decimal(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _scientific(value: float, digits: int) -> str:
    return f"{value:.{digits}e}" if value else "0"


def _read(text: str) -> float:
    return float(text.replace(",", ""))


def _dressed(text: str) -> str:
    """Write a power of ten as people do, and `5` for `5.0`."""
    if "e" in text:
        mantissa, power = text.split("e")
        raised = "10" + str(int(power)).translate(_SUPERSCRIPT)
        text = {"1": raised, "-1": f"-{raised}"}.get(mantissa, f"{mantissa}×{raised}")
    elif not text.rpartition(".")[2].strip("0") and "." in text:
        text = text.partition(".")[0]
    return "0" if text == "-0" else text.replace("-", "−")
