"""Verdicts on exact statements: one exception refutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whynet.core.claim import Judgement
from whynet.numerics.intervals import proportion

ENOUGH_CASES = 17
"""Least cases that support an exact statement."""


def judge_cases(agrees: Mapping[str, NDArray[np.bool_]], numbers: str = "") -> Judgement:
    """Judge statements that are to hold without exception in independent random cases.

    One exception in one of them refutes. Supported where each holds in all of at least 17 cases:
    if one of them truly failed in a share q of all cases, none of n would show it with probability
    (1 − q)ⁿ, which at n = 17 is below 5 % for every q of at least 16.2 %. A statement that is
    wrong for generic weights, as under a control, has q near 1. Fewer cases are inconclusive. The
    numbers are shares of agreeing cases with Clopper-Pearson intervals.

    Args:
        agrees: statement, a phrase, to bool `[cases]`.
        numbers: a further sentence, for example how far a bound was from being reached.

    """
    estimates, failed, few = {}, [], []
    for statement, cases in agrees.items():
        count, total = int(np.sum(cases)), int(np.size(cases))
        estimates[statement] = proportion(count, total, over="random cases")
        if count < total:
            failed.append(f"{statement} in {count:,} of {total:,} cases")
        elif total < ENOUGH_CASES:
            few.append(f"{statement} in all of only {total} cases")
    tail = f" {numbers}" if numbers else ""
    if failed:
        return Judgement("refuted", f"There are exceptions: {'; '.join(failed)}.{tail}", estimates)
    if few:
        wanted = f"at least {ENOUGH_CASES} are needed"
        return Judgement("inconclusive", f"{'; '.join(few)}; {wanted}.{tail}", estimates)
    total = min(int(np.size(cases)) for cases in agrees.values())
    said = "; ".join(agrees)
    return Judgement("supported", f"Without exception in {total:,} cases: {said}.{tail}", estimates)


def flat(values: Any) -> NDArray[Any]:
    """Return the numbers of all cells in a row, `[cells]`."""
    return np.asarray(values.values).ravel()
