"""What a verification says of recorded numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ROUND_OFF: Final = {"float32": 1e-3, "float64": 1e-7}
"""Declared relative round-off of a recomputed number, by precision; half of iterated float32
arithmetic is lost on ill-conditioned sums, and another machine sums in another order."""


@dataclass(frozen=True)
class Recomputed:
    """The numbers of one part of a folder, recomputed and compared.

    Attributes:
        name: what was recomputed: an instrument, or a claim and its variant.
        entries: how many numbers were compared.
        moved: names of the quantities of which an entry moved beyond what is allowed.
        largest: largest move, relative to the size of the number.
        reason: why it could not be recomputed; empty where it could.

    """

    name: str
    entries: int
    moved: tuple[str, ...]
    largest: float
    reason: str = ""

    @property
    def stands(self) -> bool:
        """Whether everything was recomputed and nothing moved."""
        return not self.moved and not self.reason
