"""The report as one page: no script, no network, everything foreign escaped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from whynet.core.citations import bibliography
from whynet.core.estimate import Estimate, format_interval
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed
from whynet.core.question import Finding, Reference, SubjectFacts, Table
from whynet.examination.figures import draw_figures
from whynet.examination.report import Answer, Receipt, Report
from whynet.pages.drawing import clean_svg
from whynet.pages.frame import LONGEST, environment, style
from whynet.pages.strip import strip_svg
from whynet.pages.words import counted, duration, marked, powers, slug, unbroken, visible

FIRST_SCREEN = 8
"""Findings on the first screen; further ones stand in their panels."""

_BRACKET = re.compile(r"\[[^\[\]<>]{1,60}\]")
_DOTTED = re.compile(r"[\w…]+(\.[\w…]+){2,}")
"""A name of a layer, which may break after its dots."""
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})")


@dataclass(frozen=True)
class PageWords:
    """What the frame of a page says; pages of other kinds bring their own.

    Attributes:
        after_name: what follows the name in the title.
        again: how all numbers are computed again, plain text with backquoted commands.

    """

    after_name: str = ", examined"
    again: str = (
        "`whynet verify PATH`, with the path of the folder that holds this page, computes all of "
        "them again without reading these results, and says which moved beyond their intervals."
    )


def render_page(
    report: Report,
    *,
    figures: Mapping[str, str | Failed] | None = None,
    words: PageWords | None = None,
) -> str:
    """Write the report as one self-contained HTML page.

    The same report gives the same bytes.

    Args:
        report: what the examination ended with.
        figures: name to SVG as `draw_figures` returns them; drawn here where not given.
        words: what the frame says; that of an examination by default.

    Returns:
        the page; it runs no script and fetches nothing, which its content policy enforces.

    """
    sheet, sheet_hash = style()
    words = words or PageWords()
    drawn = draw_figures(report) if figures is None else figures
    works = _works(report)
    findings = _findings(report, works)
    panels = _panels(report, drawn, works, findings[FIRST_SCREEN:])
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            style=sheet,
            style_hash=sheet_hash,
            name=visible(report.facts.name, 160),
            after_name=words.after_name,
            again=marked(words.again, 600),
            facts=_facts(report.facts),
            notes=[marked(note, 600) for note in report.facts.notes],
            seconds=duration(report.seconds),
            interrupted=report.interrupted,
            findings=findings[:FIRST_SCREEN],
            panels=panels,
            plan=[(what, powers(how)) for what, how in report.plan],
            reference_notes=report.reference_notes,
            inapplicable=_reasons(report, "not applicable"),
            unreached=_reasons(report, "not reached"),
            failures=_failures(report),
            receipts=_receipts(report),
            provenance=[(what, visible(value, 600)) for what, value in report.provenance],
            references=list(works.values()),
            example=strip_svg(_EXAMPLE),
        )
    )


@dataclass(frozen=True)
class _Work:
    """A cited work as the page shows it."""

    id: str
    short: str
    authors: str
    year: str
    title: str
    where: str
    link: str


@dataclass(frozen=True)
class _Finding:
    """A finding as the page shows it."""

    id: str
    panel: str
    short: str
    headline: Markup
    numbers: Markup
    advice: Markup
    strip: Markup
    over: str
    works: tuple[_Work, ...]
    command: str


@cache
def _environment() -> Environment:
    filters: dict[str, Callable[..., Any]] = {
        "marked": marked,
        "cell": _cell,
        "tab_note": _interval_note,
        "time": duration,
        "powers": powers,
        "unbroken": unbroken,
    }
    return environment("whynet.examination", filters)


def _facts(facts: SubjectFacts) -> Markup:
    """Say network and data in one line."""
    parts = [
        Markup("<b>{}</b>").format(visible(facts.architecture, 200)),
        counted(facts.parameters, "parameter", "parameters"),
    ]
    if facts.trainable != facts.parameters:
        parts[-1] += f" ({facts.trainable:,} of them trainable)"
    if facts.train_examples:
        trained = counted(facts.train_examples, "example", "examples")
        parts.append(Markup("trained on <b>{}</b>").format(trained))
    line = Markup(", ").join(parts)
    if facts.test_examples:
        line += f"; judged on {counted(facts.test_examples, 'unseen one', 'unseen ones')}"
    task = visible(facts.task, 60)
    task = task[:1].upper() + task[1:]
    if facts.classes:
        task += f" into {counted(facts.classes, 'class', 'classes')}"
    return line + f". {task}; loss: {visible(facts.loss, 80)}."


def _findings(report: Report, works: Mapping[str, _Work]) -> list[_Finding]:
    pairs = [
        (finding, answer)
        for answer in report.answers
        if answer.panel is not None
        for finding in answer.panel.findings
    ]
    pairs.sort(key=lambda pair: -pair[0].importance)
    return [
        _finding(number, finding, answer, report, works)
        for number, (finding, answer) in enumerate(pairs, start=1)
    ]


def _finding(
    number: int, finding: Finding, answer: Answer, report: Report, works: Mapping[str, _Work]
) -> _Finding:
    own = [receipt for receipt in answer.receipts if receipt.instrument == finding.instrument]
    every = own or [r for a in report.answers for r in a.receipts]
    command = next((r.command for r in every if r.instrument == finding.instrument), "")
    return _Finding(
        id=f"finding-{number}",
        panel=_panel_id(report, answer),
        short=answer.question.short,
        headline=marked(finding.headline, 300),
        numbers=marked(finding.numbers, 1200),
        advice=marked(finding.advice, 1200),
        strip=strip_svg(finding),
        over=_sureness(finding.estimate),
        works=tuple(works[key] for key in dict.fromkeys(finding.cites)),
        command=visible(command, LONGEST),
    )


def _sureness(estimate: Estimate) -> str:
    """Say how a number knows its uncertainty: `95 % interval over examples (Clopper-Pearson)`."""
    said = {
        "exact": "exact",
        "certified": "certified bound",
        "interval": f"{100 * estimate.level:.3g} % interval",
        "indicative": "indicative",
    }[estimate.kind]
    said += f" over {visible(estimate.over, 80)}" if estimate.over else ""
    return f"{said} ({visible(estimate.how, 240)})" if estimate.how else said


def _panel_id(report: Report, answer: Answer) -> str:
    """Return the id of a panel; the place keeps it unique where two slugs agree."""
    slugs = [slug(other.id) for other in report.answers]
    place = next(i for i, other in enumerate(report.answers) if other is answer)
    taken = slugs[place] in slugs[:place]
    return f"q-{slugs[place]}-{place}" if taken else f"q-{slugs[place]}"


def _panels(
    report: Report,
    drawn: Mapping[str, str | Failed],
    works: Mapping[str, _Work],
    further: Iterable[_Finding],
) -> list[dict[str, Any]]:
    later = list(further)
    panels = []
    for answer in report.answers:
        if answer.panel is None:
            continue
        panel, name = answer.panel, _panel_id(report, answer)
        needed = answer.question.uses or answer.question.may_use
        results = [report.outcomes.get(i) for i in dict.fromkeys(needed)]
        measured = [result for result in results if isinstance(result, Measurement)]
        notes = dict.fromkeys(note for result in measured for note in result.notes)
        cited = (report.outcomes.get(i) for i in needed)
        cites = dict.fromkeys(
            key for result in cited if isinstance(result, Measurement) for key in result.cites
        )
        panels.append(
            {
                "id": name,
                "title": answer.question.title,
                "short": answer.question.short,
                "lead": marked(panel.lead),
                "method": marked(panel.method),
                "figures": [_figure(f.name, f.alt, f.caption, drawn) for f in panel.figures],
                "tables": [_table(table) for table in panel.tables],
                "aside": [marked(sentence, 600) for sentence in answer.aside],
                "beside": None if answer.beside is None else _table(answer.beside),
                "assumptions": panel.assumptions,
                "further": [finding for finding in later if finding.panel == name],
                "notes": [marked(note, 600) for note in notes],
                "works": [works[key] for key in cites],
                "receipts": answer.receipts,
                "seconds": duration(sum(receipt.seconds for receipt in answer.receipts)),
            }
        )
    return panels


def _figure(name: str, alt: str, caption: str, drawn: Mapping[str, str | Failed]) -> dict[str, Any]:
    svg = drawn.get(name, Failed("it was not drawn"))
    fault = svg.error if isinstance(svg, Failed) else ""
    picture = Markup("")
    if isinstance(svg, Markup):
        picture = svg
    elif isinstance(svg, str):
        picture = clean_svg(svg, slug(name), alt)
    return {"svg": picture, "fault": fault, "alt": alt, "caption": marked(caption)}


def _table(table: Table) -> dict[str, Any]:
    """Prepare a table: a column with an estimate in it is one of numbers."""
    numeric = [
        any(len(row) > place and isinstance(row[place], Estimate) for row in table.rows)
        for place in range(len(table.columns))
    ]
    return {"table": table, "numeric": numeric, "caption": marked(table.caption)}


def _cell(cell: str | Estimate) -> Markup:
    """Write a cell; where its column is narrow, the bracket goes to a line of its own, whole."""
    if not isinstance(cell, Estimate):
        text = str(marked(cell, 300))
        if _DOTTED.match(text):
            text = text.replace(".", ".<wbr>")
        return _unbroken_brackets(Markup(text))
    word = cell.kind if cell.kind in ("certified", "indicative") else ""
    text = powers(visible(format_interval(cell), 120))
    if not word:
        return _unbroken_brackets(Markup("{}").format(text))
    kind = Markup(' <span class="kind">{}</span>').format(word)
    return _unbroken_brackets(Markup("{}").format(text)) + kind


def _unbroken_brackets(text: Markup) -> Markup:
    # A plain string: the pieces of a Markup would be escaped once more.
    return Markup(_BRACKET.sub(r'<span class="bracket">\g<0></span>', str(text)))


def _interval_note(table: Table) -> str:
    """Say over what the intervals of a table are."""
    cells = [cell for row in table.rows for cell in row if isinstance(cell, Estimate)]
    bars = [cell for cell in cells if cell.kind != "exact"]
    if not bars:
        return ""
    over: dict[str, dict[str, None]] = {}
    for cell in bars:
        over.setdefault(_bracket(cell), {})[visible(cell.over, 80)] = None
    kinds = ", ".join(
        kind + (f" over {_listed(names)}" if kind != "certified bounds" and any(names) else "")
        for kind, names in over.items()
    )
    said = f"In brackets: {kinds}." + (" No bracket: exact." if len(bars) < len(cells) else "")
    return said.replace(" %", "\u00a0%")


def _listed(names: Iterable[str]) -> str:
    """Write names one after the other; names hold commas and semicolons themselves."""
    kept = [name for name in names if name]
    return " or ".join(kept)


def _bracket(cell: Estimate) -> str:
    if cell.kind == "certified":
        return "certified bounds"
    hint = " (a hint)" if cell.kind == "indicative" else ""
    return f"{100 * cell.level:.3g} % intervals{hint}"


def _reasons(report: Report, state: str) -> list[tuple[str, str]]:
    return [(a.question.title, a.why) for a in report.answers if a.state == state]


def _failures(report: Report) -> list[tuple[str, str]]:
    """Return what failed with its one line of error, in the order of `report.failed`."""
    reasons = {a.id: a.reason for a in report.answers if a.state == "failed"}
    rows = []
    for name in report.failed:
        outcome = report.outcomes.get(name)
        error = outcome.error if isinstance(outcome, Failed) else reasons.get(name, "")
        rows.append((visible(name, 160), visible(error, 600)))
    return rows


def _receipts(report: Report) -> list[Receipt]:
    every = [receipt for answer in report.answers for receipt in answer.receipts]
    return list({(r.instrument, r.command): r for r in every}.values())


def _works(report: Report) -> dict[str, _Work]:
    """Collect the works that findings and measurements cite, in alphabetical order."""
    keys = {key for finding in report.findings for key in finding.cites}
    others = [result for view in report.others.values() for result in view.values()]
    results = [*report.outcomes.values(), *others]
    keys |= {key for result in results if isinstance(result, Measurement) for key in result.cites}
    known = bibliography()
    names = {key: known[key].authors if key in known else key for key in keys}
    return {key: _work(key) for key in sorted(keys, key=lambda key: (names[key].lower(), key))}


def _work(key: str) -> _Work:
    found = bibliography().get(key)
    if found is None:
        shown = visible(key, 80)
        name = hashlib.sha256(key.encode(errors="replace")).hexdigest()[:12]
        return _Work(f"ref-{name}", shown, shown, "", "not in the bibliography", "", "")
    people = [" ".join(reversed(p.split(", ", 1))) for p in found.authors.split(" and ")]
    authors = people[0] if len(people) == 1 else f"{', '.join(people[:-1])} and {people[-1]}"
    match = _ARXIV.fullmatch(found.where)
    link = f"https://arxiv.org/abs/{match[1]}" if match else ""
    return _Work(
        f"ref-{slug(key)}", found.short, authors, found.year, found.title, found.where, link
    )


_EXAMPLE = Finding(
    key="example",
    headline="",
    numbers="",
    advice="",
    estimate=Estimate(0.942, 0.918, 0.961, "interval", unit="fraction", over="examples"),
    label="this network",
    references=(
        Reference("other seeds", 0.931, 0.949),
        Reference("a linear model", 0.872, 0.893),
    ),
    importance=0.0,
    instrument="",
)
