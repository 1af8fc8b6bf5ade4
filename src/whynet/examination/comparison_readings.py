"""What was measured of a pair of networks, and which readings differ beyond their bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement
from whynet.core.recomputed import ROUND_OFF
from whynet.examination.comparison_functions import Flip
from whynet.examination.schedule import Outcome
from whynet.examination.summary import entries


@dataclass(frozen=True)
class Moved:
    """A reading whose interval on one network does not meet that on the other."""

    reading: str
    words: str
    first: Estimate
    second: Estimate


@dataclass(frozen=True)
class Pair:
    """What was measured of two networks, for the panels.

    Attributes:
        measured: the numbers of the comparison.
        split: the data they are on.
        names: how the two are called (foreign text).
        flips: changed answers.
        moved: readings that moved beyond their bars.
        compared: how many readings were compared.
        read: letter to instrument to outcome.
        unmatched: why neurons were not matched; empty where they were.
        losses: per-example losses of both.

    """

    measured: Measurement
    split: str
    names: tuple[str, str]
    flips: tuple[Flip, ...]
    moved: tuple[Moved, ...]
    compared: int
    read: dict[str, dict[str, Outcome]]
    unmatched: str
    losses: tuple[np.ndarray, ...]

    def has(self, name: str) -> bool:
        """Whether a number was measured."""
        return name in self.measured.names

    def __getitem__(self, name: str) -> Estimate:
        return self.measured.estimate(name)

    @property
    def examples(self) -> int:
        """Number of examples that were compared."""
        return len(self.losses[0])


def moved_readings(
    read: dict[str, dict[str, Outcome]], dtype: str
) -> tuple[tuple[Moved, ...], int]:
    """Return the readings whose intervals do not meet, and how many were compared.

    Intervals count as apart where more than the declared round-off lies between them. Exact
    numbers have no bar to move beyond and are left out, as are curves and matrices of more than
    64 entries.

    Args:
        read: letter to instrument to outcome.
        dtype: precision of the networks.

    """
    moved, compared = [], 0
    for reading, first in read["A"].items():
        second = read["B"].get(reading)
        if not isinstance(first, Measurement) or not isinstance(second, Measurement):
            continue
        others = {(n, tuple(lab.items())): e for n, lab, e in entries(second)}
        for name, labels, one in entries(first):
            two = others.get((name, tuple(labels.items())))
            if two is None or "exact" in (one.kind, two.kind):
                continue
            compared += 1
            slack = ROUND_OFF[dtype] * max(abs(one.value), abs(two.value)) + 1e-12
            if one.excludes(two.low - slack, two.high + slack):
                words = name.replace("_", " ")
                words += f" ({', '.join(map(str, labels.values()))})" if labels else ""
                moved.append(Moved(reading, words, one, two))
    return tuple(moved), compared
