"""Conditions under which a run fails: `test_accuracy < 0.9`, at the safe end of the interval."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate, format_interval
from whynet.core.outcome import Failed, NotApplicable

_FORM = re.compile(r"\s*([^\s<>=][^<>=]*?)\s*(<=|>=|<|>)\s*([^\s<>=]+)\s*")
_SHORT = ("train_", "test_")


@dataclass(frozen=True)
class Condition:
    """One condition under which a run fails.

    Attributes:
        key: a key of `summary.json`.
        sign: `<`, `<=`, `>` or `>=`.
        bound: what the number is held against.

    """

    key: str
    sign: str
    bound: float

    def fails(self, estimate: Estimate) -> bool:
        """Whether the condition cannot be excluded: the interval's unsafe end meets it.

        `accuracy < 0.9` fails a run unless the whole interval lies at or above 0.9.
        """
        if math.isnan(estimate.low) or math.isnan(estimate.high):
            return True
        return {
            "<": estimate.low < self.bound,
            "<=": estimate.low <= self.bound,
            ">": estimate.high > self.bound,
            ">=": estimate.high >= self.bound,
        }[self.sign]


def parse_condition(text: str, argument: str = "--fail-on") -> Condition:
    """Read a condition such as `test_accuracy < 0.9`.

    Raises:
        InputError: it has another form, or its bound is no finite number.

    """
    match = _FORM.fullmatch(text)
    try:
        bound = float(match[3]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise InputError(argument, repr(text), "a condition such as 'test_accuracy < 0.9'")
    return Condition(match[1], match[2], bound)


def check_keys(
    conditions: tuple[Condition, ...], instruments: Collection[str], argument: str = "--fail-on"
) -> None:
    """Refuse, before anything is computed, keys that no number of this run can have.

    What follows the instrument's name (`fit.`) or the split's (`test_`) is known only from the
    numbers themselves, see `judge`.

    Args:
        conditions: as they were read.
        instruments: ids of the instruments that will run.
        argument: name of the argument they came from.

    Raises:
        InputError: a key begins with neither.

    """
    for condition in conditions:
        instrument, dot, _ = condition.key.partition(".")
        if instrument in instruments if dot else condition.key.startswith(_SHORT):
            continue
        wanted = f"test_…, train_…, or one of {', '.join(f'{name}.…' for name in instruments)}"
        near = difflib.get_close_matches(instrument, instruments, n=1) if dot else []
        hint = f" (did you mean {near[0]}.…?)" if near else ""
        raise InputError(argument, f"the number {condition.key!r} of nothing that runs",
                         wanted + hint)  # fmt: skip


def judge(
    conditions: tuple[Condition, ...],
    numbers: Mapping[str, Estimate],
    argument: str = "--fail-on",
    outcomes: Mapping[str, object] | None = None,
) -> list[str]:
    """Return a sentence for every condition that holds or cannot be excluded.

    A number that could not be measured excludes nothing.

    Args:
        conditions: as they were read.
        numbers: key to number, see `whynet.examination.summary.numbers`.
        argument: name of the argument the conditions came from.
        outcomes: what every instrument returned; None where it was not reached.

    Raises:
        InputError: every instrument measured, and a condition names none of their numbers.

    """
    sentences = []
    for condition in conditions:
        said = f"{condition.key} {condition.sign} {condition.bound:g} cannot be excluded."
        estimate = numbers.get(condition.key)
        if estimate is None:
            reason = _unmeasured(condition.key, outcomes or {})
            if not reason:
                raise _unknown(condition.key, numbers, argument)
            sentences.append(f"{condition.key} was not measured ({reason}): {said}")
        elif condition.fails(estimate):
            sentences.append(f"{condition.key} is {format_interval(estimate)}: {said}")
    return sentences


def _unknown(key: str, numbers: Mapping[str, Estimate], argument: str) -> InputError:
    near = difflib.get_close_matches(key, numbers, n=3)
    hint = f": nearest are {', '.join(near)}" if near else ""
    return InputError(argument, f"the unknown number {key!r}", f"a key of summary.json{hint}")


def _unmeasured(key: str, outcomes: Mapping[str, object]) -> str:
    """Say why a number may be missing; nothing where it should be there if it existed."""
    instrument, dot, rest = key.partition(".")
    if dot and _measured(outcomes.get(instrument)):
        return _gap(outcomes[instrument], rest)
    names = [instrument] if dot and instrument in outcomes else list(outcomes)
    reasons = [
        f"{name} {_state(outcomes[name])}" for name in names if not _measured(outcomes[name])
    ]
    return "; ".join(reasons[:3])


def _measured(outcome: object) -> bool:
    return hasattr(outcome, "dataset")  # without importing xarray for it


def _state(outcome: object) -> str:
    if isinstance(outcome, NotApplicable):
        return f"does not apply: {outcome.reason.rstrip('.')}"
    if isinstance(outcome, Failed):
        return f"failed: {outcome.error.rstrip('.')}"
    return "was not reached"


def _gap(measured: Any, key: str) -> str:
    """Say why an entry of a measurement is NaN; nothing where it is no entry, or a number."""
    quantity = next((n for n in measured.names if key == n or key.startswith(f"{n}.")), None)
    if quantity is None:
        return ""
    import numpy as np

    variable = measured.dataset[quantity]
    for index in np.argwhere(np.isnan(np.asarray(variable.values, dtype=float))):
        places = zip(variable.dims, index, strict=True)
        labels = [
            str(variable[dim].values[i]) if dim in variable.coords else str(i) for dim, i in places
        ]
        if ".".join([quantity, *labels]) == key:
            return str(variable.attrs.get("missing", "")).rstrip(".") or "no number"
    return ""
