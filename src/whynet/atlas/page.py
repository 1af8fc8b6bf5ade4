"""The page of a claim, and the index of all verdicts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment

from whynet.atlas.judging import CLAIM
from whynet.atlas.registry import load_claim
from whynet.atlas.tables import STATE
from whynet.core.citations import bibliography
from whynet.core.claim import QUESTION_GROUPS, QUESTIONS, Value
from whynet.core.estimate import format_interval
from whynet.core.question import Figure
from whynet.pages.drawing import figure_files, placed
from whynet.pages.frame import environment, style
from whynet.pages.words import slug, visible

if TYPE_CHECKING:
    from whynet.atlas.run import Record

MOST_REASONS = 5
"""Failed cells whose reason stands on the page."""


@dataclass(frozen=True)
class Row:
    """One verdict of the index.

    Attributes:
        id: of the claim.
        title: of the claim.
        concept: its folder.
        answers: keys of the questions it answers.
        state: verdict.
        sentence: why.
        link: of its page, relative to the index.

    """

    id: str
    title: str
    concept: str
    answers: tuple[str, ...]
    state: str
    sentence: str
    link: str


@cache
def _environment() -> Environment:
    return environment("whynet.atlas", {})


@dataclass(frozen=True)
class Drawn:
    """A figure of a claim that was drawn, or why it cannot be.

    Attributes:
        figure: what was to be drawn.
        files: format (`svg`, `pdf`) to what its file holds; empty where it cannot be drawn.
        fault: why it cannot be drawn.

    """

    figure: Figure
    files: Mapping[str, bytes]
    fault: str = ""


def render_claim(record: Record, drawn: Sequence[Drawn] | None = None) -> str:
    """Write the page of a claim that was run: self-contained, without scripts.

    Args:
        record: what was run.
        drawn: its figures; drawn here where not given.

    """
    about, verdict = record.entry.metadata, record.verdict
    sheet, sheet_hash = style()
    states = record.dataset[STATE].values
    known = bibliography()
    return (
        _environment()
        .get_template("claim.html.j2")
        .render(
            style=sheet,
            style_hash=sheet_hash,
            title=about.title,
            id=record.entry.id,
            kind=about.kind,
            concept=record.entry.concept.replace("_", " "),
            state=verdict.state,
            sentence=verdict.sentence,
            figures=[
                {
                    "svg": placed(one.figure, one.files["svg"]) if one.files else "",
                    "fault": one.fault,
                    "caption": one.figure.caption,
                }
                for one in (drawn_figures(record) if drawn is None else drawn)
            ],
            controls=_controls(record),
            numbers=[(n, format_interval(e)) for n, e in verdict.judgement.numbers.items()],
            tolerance=about.tolerance,
            assumptions=list(about.assumptions.items()),
            answers=[QUESTIONS.get(key, key) for key in about.answers],
            statement=about.statement.strip("\n"),
            works=[known[key] for key in about.cites if key in known],
            done=f"{int((states == 'done').sum()):,}",
            cells=f"{states.size:,}",
            failed=len(record.failed),
            grid=_grid(record),
            reasons=[visible(r, 400) for r in list(record.failed.values())[:MOST_REASONS]],
            command=run_command(record),
        )
    )


def figures_of(record: Record) -> list[Figure]:
    """Return the figures of a claim and of its controls, of those that ran, by variant."""
    module = load_claim(record.entry.reference, record.entry.source)
    found = []
    for variant, pair in record.tables.items():
        if not (pair[0][STATE].values == "done").any():
            continue
        named = "the claim" if variant == CLAIM else f"control {variant}"
        found.append(
            Figure(
                slug(variant or "claim"),
                lambda canvas, pair=pair: module.draw(canvas, *pair),  # type: ignore[misc]
                caption=f"{named[0].upper()}{named[1:]}: what was measured, and what predicted.",
                alt=record.verdict.sentence if variant == CLAIM else named,
            )
        )
    return found


def drawn_figures(record: Record) -> list[Drawn]:
    """Draw the claim and its controls, once for page and print; a fault costs no page."""
    drawn = []
    for figure in figures_of(record):
        try:
            drawn.append(Drawn(figure, figure_files(figure)))
        except Exception as error:  # noqa: BLE001 - a user's claim may draw anything
            fault = f"{type(error).__name__}: {visible(error, 300)}"
            drawn.append(Drawn(figure, {}, fault))
    return drawn


def _controls(record: Record) -> list[dict[str, str]]:
    rows = []
    for control in record.entry.metadata.controls:
        found = record.verdict.controls.get(control.name)
        rows.append(
            {
                "name": control.name,
                "breaks": control.breaks,
                "setting": f"{control.parameter} = {control.value}",
                "state": "not run" if found is None else found.state,
                "sentence": control.meaning if found is None else found.sentence,
            }
        )
    return rows


def _grid(record: Record) -> list[tuple[str, str, str]]:
    grid = record.grids[CLAIM]
    meanings = {p.name: p.meaning for p in record.entry.metadata.parameters}
    rows = [(n, meanings.get(n, ""), written(values)) for n, values in grid.axes.items()]
    numbers = grid.seed_numbers
    which = f"{grid.seeds}, from number {numbers[0]} on" if grid.first_seed else str(grid.seeds)
    return [*rows, ("seeds", "repetitions", which)]


def written(values: Iterable[Value]) -> str:
    """Write the values of an axis as the command line reads them."""
    return ",".join(repr(value) if isinstance(value, float) else str(value) for value in values)


def run_command(record: Record) -> str:
    """Write the command that runs exactly this grid again."""
    grid = record.grids[CLAIM]
    name = record.entry.id if record.entry.source is None else record.entry.reference
    words = ["whynet", "atlas", "run", name]
    for parameter, values in grid.axes.items():
        words += [f"--{parameter.replace('_', '-')}={written(values)}"]
    words += ["--seeds", str(grid.seeds)]
    if grid.first_seed:
        words += ["--first-seed", str(grid.first_seed)]
    return shlex.join(words)


def render_index(rows: Sequence[Row]) -> str:
    """Write the index: verdicts by question and by concept."""
    sheet, sheet_hash = style()
    states = dict.fromkeys(row.state for row in rows)
    by_question = [
        {
            "title": title,
            "groups": [
                {"title": text, "rows": chosen}
                for key, text in group.items()
                if (chosen := [row for row in rows if key in row.answers])
            ],
        }
        for title, group in QUESTION_GROUPS.items()
    ]
    by_concept = [
        {"title": name.replace("_", " "), "rows": [row for row in rows if row.concept == name]}
        for name in sorted({row.concept for row in rows})
    ]
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            style=sheet,
            style_hash=sheet_hash,
            count=len(rows),
            tally=[(state, sum(row.state == state for row in rows)) for state in states],
            parts_of_index=[
                *(part for part in by_question if part["groups"]),
                {"title": "By concept", "groups": by_concept},
            ],
        )
    )
