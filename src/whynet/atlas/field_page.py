"""The page of claims that were tried on a user's network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from whynet.concepts import field_figures
from whynet.concepts.field_testing import CONTROL, SEED, THEORY
from whynet.core.citations import bibliography
from whynet.core.estimate import Estimate, format_interval
from whynet.core.measurement import Measurement
from whynet.core.question import Figure, SubjectFacts
from whynet.pages.drawing import draw_figure
from whynet.pages.frame import LONGEST, environment, style
from whynet.pages.words import counted, duration, marked, powers, slug, unbroken, visible

if TYPE_CHECKING:
    from whynet.atlas.field_run import FieldRecord

LOOKS = {
    "explains": "met",
    "does not explain": "unmet",
    "no better than another seed": "unmet",
}
"""State to how it looks; all others are open."""


@cache
def _environment() -> Environment:
    return environment("whynet.atlas", {"unbroken": unbroken})


def render_field(records: Sequence[FieldRecord], facts: SubjectFacts) -> str:
    """Write the page: self-contained, without scripts.

    Args:
        records: the claims that were tried.
        facts: the network and its data.

    """
    sheet, sheet_hash = style()
    known = bibliography()
    cited = dict.fromkeys(key for record in records for key in record.about.cites)
    return (
        _environment()
        .get_template("field.html.j2")
        .render(
            style=sheet,
            style_hash=sheet_hash,
            name=visible(facts.name, 160),
            facts=_facts(facts),
            notes=[marked(note, 600) for note in facts.notes],
            claims=[_claim(record) for record in records],
            works=[known[key] for key in cited if key in known],
        )
    )


def _facts(facts: SubjectFacts) -> str:
    rows = f"{counted(facts.train_examples, 'training row', 'training rows')}, " + counted(
        facts.test_examples, "unseen one", "unseen ones"
    )
    return f"{visible(facts.architecture, 200)}; {rows}; loss: {visible(facts.loss, 80)}."


def _claim(record: FieldRecord) -> dict[str, Any]:
    about = record.about
    return {
        "id": slug(record.entry.id),
        "name": record.entry.id,
        "title": record.entry.metadata.title,
        "asks": about.asks,
        "state": record.state,
        "look": LOOKS.get(record.state, "open"),
        "sentence": marked(record.sentence, 1200),
        "figure": _figure(record) if record.distances else None,
        "rows": _rows(record),
        "over": about.items,
        "assumptions": [
            (c.key, about.assumptions.get(c.key, ""), _look(c.status), c.status, c.found)
            for c in record.checks
        ],
        "control": about.control,
        "control_state": record.control or "not run",
        "notes": _notes(record),
        "command": visible(record.command, LONGEST),
        "seconds": duration(record.seconds),
    }


def _look(status: str) -> str:
    return {"met": "met", "not met": "unmet"}.get(status, "open")


def _notes(record: FieldRecord) -> list[str]:
    if not isinstance(record.found, Measurement):
        return []
    return [note for note in record.found.notes if not note.startswith("Assumption ")]


def _named(record: FieldRecord, name: str) -> str:
    names = {THEORY: "the theory", CONTROL: f"control: {record.about.control.name}"}
    return names.get(name, name.replace(SEED, "another seed, ") if name.startswith(SEED) else name)


def _rows(record: FieldRecord) -> list[tuple[str, str, str]]:
    """Return name, distance, and by how much it is farther than the theory, paired."""
    if not isinstance(record.found, Measurement):
        return []
    rows = []
    for name, own in record.distances.items():
        behind = ""
        if name == CONTROL:
            behind = _written(record.found.estimate("control_behind"))
        elif name != THEORY:
            behind = _written(record.found.estimate("lead", of=THEORY, reference=name))
        rows.append((_named(record, name), _written(own), behind))
    return rows


def _written(estimate: Estimate) -> str:
    return powers(format_interval(estimate))


def _figure(record: FieldRecord) -> dict[str, Any]:
    """Draw the distances; a figure that fails costs no page."""
    colors = {THEORY: "C0", CONTROL: "C1"}
    rows = [
        (_named(record, name), own, colors.get(name, "0.45"))
        for name, own in record.distances.items()
    ]
    percent = rows[0][1].unit == "fraction"
    label = "share of other answers" if percent else "distance, over the spread"
    figure = Figure(
        slug(record.entry.id),
        partial(field_figures.distances, rows=rows, label=label),
        caption=f"Distance from what the network does. Bars: 95 % over {record.about.items}; a "
        "triangle is nearer than the axis goes.",
        alt="; ".join(f"{name} {_written(own)}" for name, own, _ in rows),
        height=0.75 + 0.31 * len(rows),
    )
    try:
        return {"svg": draw_figure(figure), "fault": "", "caption": figure.caption}
    except Exception as error:  # noqa: BLE001 - a page without a picture is still a page
        fault = f"{type(error).__name__}: {visible(error, 300)}"
        return {"svg": "", "fault": fault, "caption": figure.caption}
