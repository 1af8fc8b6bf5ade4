"""The page of a subdivided plane: cells, their numbers, and the same plane over a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment

from whynet.core.question import Figure, Table
from whynet.pages.frame import environment, style
from whynet.pages.words import marked, unbroken, visible

_WORDS = {
    "cells": "cells: every unit keeps its side",
    "linear_regions": "linear regions of the output",
    "walls": "walls",
    "wall_length": "length of all walls",
    "area": "area of the polygon",
    "lipschitz_constant": "largest slope in the plane",
    "mean_slope": "mean slope",
}
"""Numbers of a summary in the order in which they are shown."""

_OVER_TRAINING = {
    "cells": "cells",
    "linear_regions": "linear regions",
    "wall_length": "length of walls",
    "lipschitz_constant": "largest slope",
    "decision_boundary_length": "decision boundary",
}

_METHOD = (
    "Cells are cut unit by unit in float64; on each of them the network is one affine function, so "
    "that all numbers are exact up to round-off: nothing is sampled."
)
_LIMITS = (
    "A plane shows the walls that cross it, never all of the network's. Lengths, areas and slopes "
    "are those of the input space, for moves inside the plane."
)


@cache
def _environment() -> Environment:
    filters: dict[str, Any] = {"unbroken": unbroken, "marked": marked, "cell": visible}
    unused: dict[str, Any] = {"tab_note": lambda _: "", "time": str, "powers": str}
    return environment("whynet.examination", {**filters, **unused})


def render_plane(summary: Mapping[str, Any], figures: Sequence[tuple[Figure, str]]) -> str:
    """Write the page of a subdivided plane; it runs no script and fetches nothing.

    Args:
        summary: the numbers that `save_plane` returns.
        figures: each with its SVG.

    """
    sheet, sheet_hash = style()
    least = "" if summary["complete"] else "at least "
    lead = f"The polygon holds **{least}{summary['cells']:,}** cells"
    checkpoints = summary.get("checkpoints", [])
    if checkpoints:
        first, last = checkpoints[0], checkpoints[-1]
        lead += f"; {first['cells']:,} at {first['name']} and {last['cells']:,} at {last['name']}"
    if not summary["complete"]:
        lead += ". The search stopped before its end: every count and length is a lower bound"
    return (
        _environment()
        .get_template("regions.html.j2")
        .render(
            style=sheet,
            style_hash=sheet_hash,
            name=visible(summary.get("target", "a network"), 160),
            facts="Exact cells of a piecewise-linear network in a plane of its input space.",
            title="How many straight pieces, and where?",
            lead=marked(f"{lead}."),
            figures=[
                {"svg": svg, "fault": "", "alt": figure.alt, "caption": figure.caption}
                for figure, svg in figures
            ],
            tables=[_entry(table) for table in _tables(summary)],
            method=_METHOD,
            limits=_LIMITS,
        )
    )


def _entry(table: Table) -> dict[str, Any]:
    numeric = [False, *(True for _ in table.columns[1:])]
    return {"table": table, "numeric": numeric, "caption": table.caption}


def _tables(summary: Mapping[str, Any]) -> list[Table]:
    rows = [(words, _number(summary[key])) for key, words in _WORDS.items() if key in summary]
    if "decision_boundary" in summary:
        rows.append(
            ("length of the decision boundary", _number(summary["decision_boundary"]["length"]))
        )
    tables = [Table(("", "exact"), tuple(rows), "The polygon in numbers.")]
    checkpoints = summary.get("checkpoints", [])
    if checkpoints:
        known = {k: w for k, w in _OVER_TRAINING.items() if any(k in one for one in checkpoints)}
        tables.append(
            Table(
                ("checkpoint", *known.values()),
                tuple(
                    (visible(one["name"], 80), *(_counted(one, key) for key in known))
                    for one in checkpoints
                ),
                "The same polygon at checkpoints of a training.",
            )
        )
    return tables


def _counted(checkpoint: Mapping[str, Any], key: str) -> str:
    if key not in checkpoint:
        return "not known"
    return ("" if checkpoint["complete"] else "≥ ") + _number(checkpoint[key])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
