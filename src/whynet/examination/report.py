"""What an examination ends with: findings, panels and receipts, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.core.question import Finding, Panel, Question, SubjectFacts, Table

State = Literal["answered", "not applicable", "failed", "not reached"]

_AGAIN = "This does not apply: "


@dataclass(frozen=True)
class Receipt:
    """What recomputes the numbers of one instrument.

    Attributes:
        instrument: id of the instrument.
        command: the command that recomputes exactly these numbers.
        rounds: rounds that were run.
        seconds: what they took here.
        check: what the differentiation check said, a phrase; empty where none applies.

    """

    instrument: str
    command: str
    rounds: int
    seconds: float
    check: str = ""


@dataclass(frozen=True)
class Answer:
    """One question of the examination and what became of it.

    Attributes:
        id: id of the question (`kebab-case`), unique in the report.
        question: its metadata.
        state: whether it was answered, does not apply, failed, or was not reached in time.
        reason: for all but answered ones, the sentence that says why (may hold foreign text).
        panel: the answer, where there is one.
        receipts: those of the instruments it used.
        aside: sentences on findings that are none, since a reference network shows the same.
        beside: its numbers beside those of the reference networks, where there are any.

    """

    id: str
    question: Question
    state: State
    reason: str = ""
    panel: Panel | None = None
    receipts: tuple[Receipt, ...] = ()
    aside: tuple[str, ...] = ()
    beside: Table | None = None

    @property
    def why(self) -> str:
        """The reason without the words that the state says already."""
        first = self.reason.startswith(_AGAIN)
        words = self.reason.replace(_AGAIN, "")
        return words[:1].upper() + words[1:] if first else words


@dataclass(frozen=True)
class Report:
    """The whole examination.

    Attributes:
        facts: the network and its data.
        answers: all questions in the order of their panels.
        outcomes: instrument id to what it returned.
        others: reference network to instrument id to what it returned there: `initial`,
            `shuffled`, `seed-1`, …
        reference_notes: sentences on references that could not be had or were not reached.
        plan: rows (what, how) that tell how this network is differentiated, and its check.
        provenance: rows (what, value): versions, device, dtype, threads, seed, hashes.
        seconds: wall time of the examination.
        interrupted: whether it was stopped before its end; the finished part stands.

    """

    facts: SubjectFacts
    answers: tuple[Answer, ...]
    outcomes: Mapping[str, Measurement | NotApplicable | Failed]
    others: Mapping[str, Mapping[str, Measurement]] = field(default_factory=dict)
    reference_notes: tuple[str, ...] = ()
    plan: tuple[tuple[str, str], ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, the most important first; ties in the order of their panels."""
        found = [
            finding
            for answer in self.answers
            if answer.panel is not None
            for finding in answer.panel.findings
        ]
        return tuple(sorted(found, key=lambda finding: -finding.importance))

    @property
    def failed(self) -> tuple[str, ...]:
        """Ids of what failed: instruments, and questions that raised themselves."""
        instruments = [name for name, out in self.outcomes.items() if isinstance(out, Failed)]
        questions = [answer.id for answer in self.answers if answer.state == "failed"]
        return tuple(dict.fromkeys(instruments + questions))
