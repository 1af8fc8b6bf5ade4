"""How many rows and products a curvature matrix is measured with: fewer where a pass is dear."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from whynet.models.subject import Subject
from whynet.models.threads import forward_work

TOP, PROBES = 8, 30
"""Largest eigenvalues that are looked for, and probes of a round."""

MOST_WORK: Final = 1.2e13
"""Floating-point operations that a round may take: minutes on a core of a CPU."""

PASSES: Final = 6
"""Forward passes that a Hessian product costs: two gradients, each as dear as three."""

ENOUGH_ROWS, LEAST_ROWS = 256, 32
"""Rows down to which they alone are made fewer, and fewest rows."""


@dataclass(frozen=True)
class Effort:
    """What a round of an instrument on a curvature matrix spends.

    Attributes:
        rows: training rows that the loss is averaged over; all where there are no more.
        lanczos_steps: for the ends of the spectrum.
        quadrature_steps: of Lanczos from each probe.

    """

    rows: int = 2000
    lanczos_steps: int = 40
    quadrature_steps: int = 20

    @property
    def products(self) -> int:
        """Products of the first round."""
        return self.lanczos_steps + TOP + PROBES * self.quadrature_steps

    @property
    def note(self) -> str:
        """What a reader must know; empty where nothing was spared."""
        if self == Effort():
            return ""
        said = f"The network is large: the loss is averaged over {self.rows} rows"
        if self.quadrature_steps == Effort().quadrature_steps:
            return f"{said}."
        return (
            f"{said}, the ends are from {self.lanczos_steps} Lanczos steps, and the density, from "
            f"{self.quadrature_steps} a probe, is coarse."
        )


FULL: Final = Effort()
FEW: Final = Effort(LEAST_ROWS, 20, 3)
"""As little as intervals of kind `interval` need."""


def effort_for(subject: Subject) -> Effort:
    """Choose the effort from the operations of a forward pass, never from time or values.

    First rows are left out down to 256, then Lanczos steps, then rows again down to 32; 30 probes,
    which the intervals rest on, stay.

    Cost: one forward pass over at most 4 rows.
    """
    work = forward_work(subject)
    rows = min(FULL.rows, subject.examples("train").count)
    if work is None or work * PASSES * FULL.products * rows <= MOST_WORK:
        return FULL
    affordable = int(MOST_WORK / (work * PASSES * FULL.products))
    if affordable >= ENOUGH_ROWS:
        return replace(FULL, rows=affordable)
    affordable = int(MOST_WORK / (work * PASSES * FEW.products))
    return replace(FEW, rows=min(rows, max(LEAST_ROWS, affordable)))
