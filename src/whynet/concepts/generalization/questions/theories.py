"""Which theories of training explain this network better than another seed of it does?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from whynet.concepts.field_testing import CONTROL, SEED, THEORY, about, checks_in
from whynet.concepts.field_verdicts import FieldVerdict, judged_field
from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement
from whynet.core.question import Assumption, Cell, Panel, Question, Results, Table

QUESTION = Question(
    title="Which theories explain what training did?",
    short="Theories",
    uses=(),
    may_use=(
        "dln-balanced",
        "initial-condensation",
        "max-margin-logistic",
        "min-norm-interpolation",
        "ntk-linearized",
    ),
    order=95,
)


@dataclass(frozen=True)
class _Tried:
    """A theory that was tried: its id, its numbers and what they say."""

    name: str
    found: Measurement
    verdict: FieldVerdict


def ask(results: Results) -> Panel:
    """Put what theories predict beside what another seed and a broken theory say."""
    tried = [
        _Tried(name, found, judged_field(found, about(name)))
        for name in QUESTION.may_use
        if (found := cast("Measurement | None", results.measured.get(name))) is not None
    ]
    return Panel(
        lead=_lead(tried),
        method="A theory explains where it is nearer to what the network does than another seed, "
        "a constant and simpler explanations are, and where the same theory with one ingredient "
        "broken is not. `whynet atlas run ID --on TARGET` gives each a page of its own.",
        tables=_tables(tried, results.inapplicable),
        assumptions=tuple(
            Assumption(f"{one.name}: {about(one.name).assumptions[check.key]}", check.status)
            for one in tried
            for check in checks_in(one.found)
        ),
    )


def _lead(tried: list[_Tried]) -> str:
    groups: dict[str, list[str]] = {}
    for one in tried:
        groups.setdefault(one.verdict.state, []).append(one.name)
    explains = groups.pop("explains", [])
    parts = [f"{state}: {', '.join(names)}" for state, names in groups.items()]
    rest = "".join(f" {part[0].upper()}{part[1:]}." for part in parts)
    if explains:
        return f"Better than another seed it is explained by {' and '.join(explains)}.{rest}"
    return f"No theory that was tried is known to explain it better than another seed does.{rest}"


def _tables(tried: list[_Tried], inapplicable: dict[str, str]) -> tuple[Table, ...]:
    rows: list[tuple[Cell, ...]] = []
    for one in tried:
        names = [str(name) for name in one.found.dataset["prediction"].values]
        seeds = [one.found.estimate("distance", prediction=n) for n in names if n.startswith(SEED)]
        nearest: Cell = min(seeds, key=_value) if seeds else "none known"
        rows.append(
            (
                one.name,
                one.verdict.state,
                one.found.estimate("distance", prediction=THEORY),
                nearest,
                one.found.estimate("distance", prediction=CONTROL),
            )
        )
    columns = ("theory", "outcome", "its distance", "nearest other seed", "its control")
    caption = "Distance of each prediction from what the network does."
    why = {one.name: one.verdict.sentence for one in tried} | inapplicable
    reasons = tuple(
        (f"{name}: {about(name).asks}", why[name]) for name in QUESTION.may_use if name in why
    )
    return (
        Table(columns, tuple(rows), caption),
        Table(("what is asked", "why the outcome is this"), reasons, "Each in words."),
    )


def _value(estimate: Estimate) -> float:
    return estimate.value
