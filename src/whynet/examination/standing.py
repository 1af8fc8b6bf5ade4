"""How findings and numbers stand beside those of the reference networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from whynet.concepts.registry import load_question
from whynet.core.estimate import Estimate, format_interval, format_number
from whynet.core.measurement import Measurement
from whynet.core.question import (
    SEEDS,
    SHUFFLED,
    UNTRAINED,
    Cell,
    Finding,
    Panel,
    Question,
    Reference,
    Results,
    Table,
)

MOST_ENTRIES = 4
"""Entries up to which a quantity stands in the table of references, one row each."""

MOST_ROWS = 16

CONTROLS = {UNTRAINED: "the network before training", SHUFFLED: "one trained on shuffled labels"}
"""References that learned nothing: what they show as well is no finding."""


@dataclass(frozen=True)
class _Others:
    """One finding's number on the reference networks.

    Attributes:
        controls: control to the number there.
        seeds: the numbers of the other seeds.
        showing: how many of them give the same finding.
        asked: of how many.

    """

    controls: Mapping[str, Estimate]
    seeds: tuple[Estimate, ...]
    showing: int
    asked: int


def beside_references(
    question: str, panel: Panel, results: Results
) -> tuple[Panel, tuple[str, ...]]:
    """Put every finding of a panel beside the reference networks, and set aside what says nothing.

    A finding stands only where its interval leaves the bands of the controls: the network before
    training, and one trained on shuffled labels. Other seeds of the same recipe are no control:
    they say whether a finding is about this network or about the recipe.

    Args:
        question: id of the question.
        panel: its answer on the examined network.
        results: measurements of the network and of its references.

    Returns:
        The panel with the findings that stand, references on their strips; and a sentence for
        each that was set aside.

    """
    if not panel.findings:
        return panel, ()
    findings, aside = [], []
    asked = {name: _ask(question, results, view) for name, view in _views(results)}
    for finding in panel.findings:
        others = _others(finding, results, asked)
        same = _not_left(finding, others)
        if same is not None and not finding.regardless:
            aside.append(
                f"Not a finding: “{finding.headline}” ({finding.label} "
                f"{format_interval(finding.estimate)}), since {CONTROLS[same]} shows the same "
                f"({format_interval(others.controls[same])})."
            )
        else:
            findings.append(_with_bands(finding, others))
    return replace(panel, findings=tuple(findings)), tuple(aside)


def _views(results: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over the reference networks: control's name or number of the seed."""
    for name, view in ((UNTRAINED, results.initial), (SHUFFLED, results.shuffled)):
        if view:
            yield name, view
    for number, view in enumerate(results.seeds):
        yield f"{SEEDS} {number}", view


def _ask(question: str, results: Results, view: dict[str, Any]) -> dict[str, Finding] | None:
    """Ask the same question of a reference network; None where it lacks the measurements.

    What enriches the answer here and would there must be there, or its absence would look like
    another answer.
    """
    module = load_question(question)
    about: Question = module.QUESTION
    enriching = set(about.may_use) & set(about.references) & set(results.measured)
    if any(name not in view for name in {*about.uses, *enriching}):
        return None
    try:
        panel: Panel = module.ask(Results(results.facts, view))
    except Exception:  # noqa: BLE001 - a reference that cannot be asked is none
        return None
    return {finding.key: finding for finding in panel.findings}


def _others(
    finding: Finding, results: Results, asked: Mapping[str, dict[str, Finding] | None]
) -> _Others:
    controls: dict[str, Estimate] = {}
    seeds: list[Estimate] = []
    for name, view in _views(results):
        found = _number(finding, view, asked[name])
        if found is not None and name in CONTROLS:
            controls[name] = found
        elif found is not None:
            seeds.append(found)
    answered = [a for name, a in asked.items() if name not in CONTROLS and a is not None]
    showing = sum(
        finding.key in a and a[finding.key].headline == finding.headline for a in answered
    )
    return _Others(controls, tuple(seeds), showing, len(answered))


def _number(
    finding: Finding, view: dict[str, Any], asked: dict[str, Finding] | None
) -> Estimate | None:
    """Read a finding's number on a reference network, directly or from the same finding there."""
    measured: Measurement | None = view.get(finding.instrument)
    estimate: Estimate | None = None
    if measured is not None and finding.read is not None:
        try:
            estimate = finding.read(measured)
        except (KeyError, ValueError, IndexError):
            return None
    elif asked and finding.key in asked and asked[finding.key].label == finding.label:
        estimate = asked[finding.key].estimate
    if estimate is None or math.isnan(estimate.value):
        return None
    return estimate


def _not_left(finding: Finding, others: _Others) -> str | None:
    """Return the control whose band the finding's interval does not leave, if there is one."""
    own = finding.estimate
    for name, other in others.controls.items():
        if other.kind != "indicative" and own.low <= other.high and other.low <= own.high:
            return name
    return None


def _with_bands(finding: Finding, others: _Others) -> Finding:
    """Add the bands of the references to a finding's strip, and what other seeds say to it."""
    taken = {reference.name for reference in finding.references}
    bands = [
        Reference(name, other.low, other.high)
        for name, other in others.controls.items()
        if name not in taken
    ]
    numbers = finding.numbers
    if others.seeds:
        values = [other.value for other in others.seeds]
        bands.append(Reference(SEEDS, min(values), max(values)))
    if others.asked:
        numbers += f" {_agreement(others)}"
    return replace(finding, references=(*finding.references, *bands), numbers=numbers)


def _agreement(others: _Others) -> str:
    count, total = others.showing, others.asked
    if total == 1:
        return f"Another seed {'shows' if count else 'does not show'} the same."
    if count == total:
        return f"All {total} other seeds show the same."
    who = "None" if count == 0 else str(count)
    return f"{who} of {total} other seeds show{'' if count > 1 else 's'} the same."


def reference_table(question: Question, results: Results) -> Table | None:
    """Put the small numbers of a question's instruments beside those of the reference networks."""
    columns = [
        (name, view)
        for name, view in ((UNTRAINED, results.initial), (SHUFFLED, results.shuffled))
        if any(instrument in view for instrument in question.references)
    ]
    seeds = [v for v in results.seeds if any(i in v for i in question.references)]
    if not columns and not seeds:
        return None
    rows: list[tuple[Cell, ...]] = []
    for instrument in question.references:
        measured: Measurement | None = results.measured.get(instrument)
        if measured is None:
            continue
        for quantity, labels, own in _entries(measured):
            row: list[Cell] = [_words(quantity, labels), own]
            for _, view in columns:
                row.append(_read(view.get(instrument), quantity, labels) or "–")
            if seeds:
                found = [_read(view.get(instrument), quantity, labels) for view in seeds]
                row.append(_range([one for one in found if one is not None]))
            rows.append(tuple(row))
    if not rows:
        return None
    names = ("number", "this network", *(name for name, _ in columns))
    if seeds:
        names = (*names, f"{SEEDS} (least to largest)")
    return Table(names, tuple(rows[:MOST_ROWS]), "The same numbers on the reference networks.")


def _entries(measured: Measurement) -> Iterator[tuple[str, dict[str, Any], Estimate]]:
    from whynet.examination.summary import entries

    sizes = {name: measured.dataset[name].size for name in measured.names}
    for quantity, labels, estimate in entries(measured):
        if sizes[quantity] <= MOST_ENTRIES:
            yield quantity, labels, estimate


def _words(quantity: str, labels: Mapping[str, Any]) -> str:
    text = quantity.replace("_", " ")
    return f"{text}, {', '.join(str(label) for label in labels.values())}" if labels else text


def _read(
    measured: Measurement | None, quantity: str, labels: Mapping[str, Any]
) -> Estimate | None:
    if measured is None or quantity not in measured.names:
        return None
    try:
        found = measured.estimate(quantity, **labels)
    except (KeyError, IndexError):
        return None
    return None if math.isnan(found.value) else found


def _range(found: list[Estimate]) -> str:
    if not found:
        return "–"
    values = [one.value for one in found]
    percent = found[0].unit == "fraction"
    low, high = (
        f"{100 * value:.1f}".replace("-", "−") if percent else format_number(value)
        for value in (min(values), max(values))
    )
    text = low if low == high else f"{low} to {high}"
    return f"{text} %" if percent else text
