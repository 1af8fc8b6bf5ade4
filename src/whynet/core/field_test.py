"""The shape of a field test: how a claim is tried on a user's own network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from whynet.core.outcome import NotApplicable

Status = Literal["met", "not met", "cannot be checked"]

Foretold = Literal["explains", "does not explain", "no better than another seed", "inconclusive",
                   "cannot be judged against another seed", "not applicable"]  # fmt: skip
"""What a field test ends with."""


@dataclass(frozen=True)
class Broken:
    """The same prediction with one ingredient broken; it must not explain the network.

    Attributes:
        name: `kebab-case`.
        breaks: key of the assumption or ingredient that is broken.
        meaning: what is done and why it must fail, a sentence.

    """

    name: str
    breaks: str
    meaning: str


@dataclass(frozen=True)
class FieldTest:
    """What the registry knows of a field test without importing its file (all literals).

    Attributes:
        asks: what is asked of the network, a question.
        predicts: what is predicted and measured, a phrase that follows "predicted".
        items: what the distance is a mean over: `test examples`, `hidden units`…
        needs: tags (`whynet.core.tags`) that a subject must carry.
        assumptions: key to sentence, in the order in which they are checked.
        control: the prediction with one ingredient broken.
        cites: keys of `references.bib`.
        cost: what it costs beside training other seeds.

    """

    asks: str
    predicts: str
    items: str
    needs: tuple[str, ...]
    assumptions: Mapping[str, str]
    control: Broken
    cites: tuple[str, ...]
    cost: str


@dataclass(frozen=True)
class Check:
    """One assumption on one network.

    Attributes:
        key: of `FieldTest.assumptions`.
        status: whether it holds here.
        found: what was measured, or why it cannot be checked; a full sentence.

    """

    key: str
    status: Status
    found: str


@dataclass(frozen=True)
class AssumptionFails(NotApplicable):
    """Stands where an assumption of the theory fails on this network.

    Attributes:
        checks: all assumptions that were checked, the one that fails last.

    """

    checks: tuple[Check, ...] = ()


class FieldModule(Protocol):
    """The functions of a field test's file beside `FIELD_TEST`.

    Arrays are `[items]` of whole numbers (labels, of which the distance is whether two differ) or
    `[items, values]` in float64 (of which it is the length of the difference over the spread).
    """

    FIELD_TEST: FieldTest

    def check_on(self, subject: Any, seed: int) -> tuple[Check, ...] | NotApplicable:
        """Check the assumptions; cheap ones first, and none after one that is not met."""

    def predict_on(self, subject: Any, seed: int, *, broken: bool = False) -> Any:
        """Return what the theory says, computed without what it predicts."""

    def measure_on(self, subject: Any, seed: int) -> Any:
        """Return what the network does."""

    def another_on(self, subject: Any, other: Any, seed: int) -> Any:
        """Return what a network of another seed would predict in place of the theory."""

    def rivals_on(self, subject: Any, seed: int) -> Mapping[str, Any]:
        """Return what simpler explanations predict, by name; empty where there are none."""
