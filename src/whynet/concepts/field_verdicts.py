"""What a field test's distances say: explains, does not explain, or cannot tell.

A theory explains a network where it is nearer to what the network does than another seed of the
same recipe is, nearer than a constant and than every simpler explanation, and where the same
theory with one ingredient broken is not. Every "nearer" is a 95 % interval of paired differences
over items that lies above zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from whynet.concepts.field_testing import CONTROL, SEED, THEORY
from whynet.core.estimate import Estimate, format_interval
from whynet.core.field_test import FieldTest, Foretold
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable

FEWEST: Final = 30
"""Items below which nothing is decided."""


@dataclass(frozen=True)
class FieldVerdict:
    """What a theory is worth on one network.

    Attributes:
        state: what it ends with.
        sentence: why, with the numbers it rests on.

    """

    state: Foretold
    sentence: str


def judged_field(found: Measurement | NotApplicable, about: FieldTest) -> FieldVerdict:
    """Judge a field test's measurement.

    Args:
        found: what `run_field_test` returned.
        about: the field test's metadata.

    """
    if isinstance(found, NotApplicable):
        return FieldVerdict("not applicable", found.reason)
    items = round(found.estimate("items").value)
    own = format_interval(found.estimate("distance", prediction=THEORY))
    lead = f"Between the theory's {about.predicts} and this network's lies a distance of {own}"
    if items < FEWEST:
        why = f"{lead}; it is known for {items} {about.items}, and {FEWEST} are needed to judge."
        return FieldVerdict("inconclusive", why)
    references = [str(name) for name in found.dataset["reference"].values]
    seeds = [name for name in references if name.startswith(SEED)]
    nearest = _nearest(found, seeds) if seeds else ""
    beside = f"{_which(seeds)} is at {_distance(found, nearest)}" if seeds else ""
    for name in [n for n in references if n not in seeds] + ([nearest] if seeds else []):
        if _lead(found, THEORY, name).high < 0:
            who = f"{beside}, which is nearer"
            if name != nearest:
                who = f"{name} comes nearer ({_distance(found, name)})"
            return FieldVerdict("does not explain", f"{lead}; {who}.")
    for name in references:
        if name not in seeds and _lead(found, THEORY, name).low <= 0:
            alike = f"{name} ({_distance(found, name)}) cannot be told from it"
            return FieldVerdict("inconclusive", f"{lead}; {alike}.")
    if not seeds:
        return FieldVerdict(
            "cannot be judged against another seed",
            f"{lead}; no other seed is known to hold it against (give --train-with file.py:train).",
        )
    if _lead(found, THEORY, nearest).low <= 0:
        return FieldVerdict(
            "no better than another seed", f"{lead}; {beside}, which cannot be told from it."
        )
    control = about.control
    broken = f"with {control.name} ({control.breaks} broken) it is at {_distance(found, CONTROL)}"
    if _explains(found, references, CONTROL) or found.estimate("control_behind").low <= 0:
        return FieldVerdict(
            "inconclusive",
            f"{lead}, and {beside}; but {broken}, so that this network "
            "cannot tell the theory from its control.",
        )
    return FieldVerdict("explains", f"{lead}; {beside}, and {broken}.")


def _explains(found: Measurement, references: list[str], of: str) -> bool:
    return all(_lead(found, of, name).low > 0 for name in references)


def control_state(found: Measurement) -> Foretold:
    """Return what the control ends with, judged by the same rule."""
    references = [str(name) for name in found.dataset["reference"].values]
    seeds = [name for name in references if name.startswith(SEED)]
    if _explains(found, references, CONTROL):
        return "explains" if seeds else "cannot be judged against another seed"
    if all(_lead(found, CONTROL, name).low > 0 for name in references if name not in seeds):
        nearest = _nearest(found, seeds, CONTROL)
        if _lead(found, CONTROL, nearest).high >= 0:
            return "no better than another seed"
    return "does not explain"


def _lead(found: Measurement, of: str, reference: str) -> Estimate:
    return found.estimate("lead", of=of, reference=reference)


def _distance(found: Measurement, name: str) -> str:
    return format_interval(found.estimate("distance", prediction=name))


def _nearest(found: Measurement, seeds: list[str], of: str = THEORY) -> str:
    """Return the seed that is hardest to be nearer than: one that is surely nearer, if any is."""

    def place(name: str) -> tuple[bool, float]:
        lead = _lead(found, of, name)
        return lead.high >= 0, lead.low

    return min(seeds, key=place)


def _which(seeds: list[str]) -> str:
    return "another seed" if len(seeds) == 1 else f"the nearest of {len(seeds)} other seeds"
