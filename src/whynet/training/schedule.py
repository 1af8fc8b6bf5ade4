"""When to look: logarithmic schedules of steps and of times."""

from __future__ import annotations

import math
from collections.abc import Sequence

from whynet.core.errors import InputError


def logarithmic_steps(steps: int, per_decade: int = 10) -> tuple[int, ...]:
    """Return steps from 0 to `steps`, evenly spaced on a logarithmic axis, without repetition.

    All whole numbers come until their spacing reaches that of the schedule, so that a run of
    10,000 steps is looked at 39 times at 10 a decade.

    Args:
        steps: the last one; 0 and it always belong to the schedule.
        per_decade: how many to a factor of ten.

    Raises:
        InputError: a negative number of steps, or fewer than one a decade.

    >>> logarithmic_steps(100, 4)
    (0, 1, 2, 3, 6, 10, 18, 32, 56, 100)
    """
    if steps < 0:
        raise InputError("steps", str(steps), "at least 0 steps")
    if per_decade < 1:
        raise InputError("per_decade", str(per_decade), "at least 1 a decade")
    if steps == 0:
        return (0,)
    last = math.floor(per_decade * math.log10(steps) + 1e-9)
    inner = {round(10 ** (index / per_decade)) for index in range(last + 1)}
    return tuple(sorted({0, steps} | {step for step in inner if step <= steps}))


def logarithmic_times(first: float, last: float, per_decade: int = 10) -> tuple[float, ...]:
    """Return 0 and times from `first` to `last`, evenly spaced on a logarithmic axis.

    Args:
        first: the first time after 0.
        last: the last one, up to 1e300.
        per_decade: at least how many to a factor of ten.

    Raises:
        InputError: times that are not positive and increasing, or fewer than one a decade.

    >>> logarithmic_times(1.0, 100.0, 1)
    (0.0, 1.0, 10.0, 100.0)
    """
    if not 0 < first < last <= 1e300:
        raise InputError("times", f"from {first:g} to {last:g}", "0 < first < last <= 1e300")
    if per_decade < 1:
        raise InputError("per_decade", str(per_decade), "at least 1 a decade")
    begin, decades = math.log10(first), math.log10(last) - math.log10(first)
    count = max(1, math.ceil(decades * per_decade - 1e-9))
    inner = (10 ** (begin + decades * index / count) for index in range(1, count))
    return (0.0, first, *inner, last)


def checked_steps(schedule: Sequence[int] | None, steps: int) -> tuple[int, ...]:
    """Return the steps at which to record; the logarithmic schedule by default.

    Raises:
        InputError: steps that are negative, beyond the last or not increasing.

    """
    if schedule is None:
        return logarithmic_steps(steps)
    found = tuple(schedule)
    if list(found) != sorted(set(found)) or (found and not 0 <= found[0] <= found[-1] <= steps):
        raise InputError("schedule", repr(found)[:80], f"increasing steps from 0 to {steps}")
    return found


def checked_times(times: Sequence[float]) -> tuple[float, ...]:
    """Return the times of a flow.

    Raises:
        InputError: no times, or times that are negative, infinite or not increasing.

    """
    found = tuple(float(time) for time in times)
    sound = bool(found) and all(0 <= time <= 1e300 for time in found)
    if not sound or list(found) != sorted(set(found)):
        raise InputError("times", repr(found)[:80], "increasing times from 0 to at most 1e300")
    return found
