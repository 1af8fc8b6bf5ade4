"""`whynet measure linear-regions TARGET`: the exact cells of a plane or box, pieces of a line."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whynet.core.errors import InputError

if TYPE_CHECKING:
    from whynet.concepts.regions.planes import Plane
    from whynet.core.outcome import NotApplicable
    from whynet.examination.manifest import Request
    from whynet.models.subject import Subject

NAME = "linear-regions"
TITLE = "the exact cells of a piecewise-linear network in a plane or box, with a figure"
CONCEPT, UNIT = "regions", "cells"
COST = "about a forward pass in float64 a vertex"

_MOST, _MOST_OF_BOX = 1_000_000, 50_000
"""Cells, or pieces of a segment, where it stops by default; and cells of more than two inputs."""

_PLACES = ("through", "plane", "box", "line")
OPTIONS = (*_PLACES, "color", "checkpoints", "max_cells", "seconds", "out")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of exact geometry."""
    group = parser.add_argument_group(f"of {NAME}: one of the first four says where")
    group.add_argument(
        "--through", metavar="I,J,K", help="the plane through three rows of the data"
    )
    group.add_argument("--plane", metavar="FILE.npz", help="points, or origin, axes and polygon")
    group.add_argument(
        "--box", metavar="LOW,HIGH", help="all of a few inputs from -1 to 1: --box=-1,1"
    )
    group.add_argument("--line", metavar="I,J", help="the segment between two rows")
    group.add_argument("--color", choices=("class", "slope", "depth"), help="(default: class)")
    group.add_argument(
        "--checkpoints",
        metavar="WEIGHTS",
        nargs="+",
        help="weights along a training, in order, or their folder: counts and a film strip beside",
    )
    group.add_argument(
        "--max-cells", metavar="N", type=int, help="where to stop (default: 1000000; boxes 50000)"
    )
    group.add_argument("--seconds", metavar="S", type=float, help="time after which it stops")


def run(arguments: argparse.Namespace) -> int:
    """Compute, write the folder and print; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.output import print_json, print_line
    from whynet.cli.progress import bars
    from whynet.cli.request import request_from
    from whynet.concepts.regions.planes import Plane
    from whynet.concepts.regions.subdivision import PlaneRegions
    from whynet.core.outcome import NotApplicable
    from whynet.examination.region_folder import check_place
    from whynet.examination.source import load_subject
    from whynet.models.preservation import preserved

    rows, given = _checked(arguments)
    out = arguments.out or f"out/{NAME}"
    began = time.monotonic()
    place = check_place(out)
    request = request_from(arguments)
    with bars(arguments.quiet or arguments.json) as shown:
        loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
        with loaded.computing(), preserved():
            found = _compute(arguments, loaded.subject, rows, given, _memory(request))
            if isinstance(found, NotApplicable):
                return _not_applicable(arguments, found)
            summary = _saved(arguments, loaded.subject, found, place, rows, request)
    if isinstance(summary, NotApplicable):
        return _not_applicable(arguments, summary)
    if arguments.json:
        print_json(summary)
    elif not arguments.quiet:
        _print(summary)
        print_line(f"figure: {Path(out) / 'figure.svg'}")
    if summary["complete"]:
        return main.DONE
    if isinstance(found, PlaneRegions | Plane):
        interrupted = summary["interrupted"] if isinstance(found, Plane) else found.interrupted
        return main.INTERRUPTED if interrupted else main.PARTLY
    # What was stopped at a bound is beyond it; else somebody interrupted.
    late = arguments.seconds is not None and time.monotonic() - began >= arguments.seconds
    most = arguments.max_cells or (_MOST_OF_BOX if summary["kind"] == "box" else _MOST)
    return main.PARTLY if late or summary.get("cells", 0) > most else main.INTERRUPTED


def _saved(
    arguments: argparse.Namespace,
    subject: Subject,
    found: Any,
    place: Path,
    rows: tuple[int, ...],
    request: Request,
) -> Any:
    """Write the folder; returns its summary."""
    from whynet.concepts.regions.boxes import BoxRegions
    from whynet.concepts.regions.planes import Plane
    from whynet.examination.box_folder import save_box
    from whynet.examination.region_folder import save_in_pieces, save_line, save_plane
    from whynet.examination.region_request import at_checkpoints, row_labels

    about = {"target": request.target, "kind": "plane"}
    if arguments.line is not None:
        return save_line(found, place, about={**about, "kind": "line"})
    if isinstance(found, BoxRegions):
        return save_box(found, place, about={**about, "kind": "box"})
    most, checkpoints = arguments.max_cells or _MOST, arguments.checkpoints or ()
    drawn: Any = {
        "color": arguments.color or "class",
        "labels": row_labels(subject, rows) if arguments.through else (),
        "about": about,
    }
    if isinstance(found, Plane):
        limits: Any = {"max_cells": most, "seconds": arguments.seconds, "memory": _memory(request)}
        return save_in_pieces(subject, found, place, **limits, **drawn)
    frames = at_checkpoints(subject, checkpoints, found.plane, most)
    return save_plane(found, place, frames=frames, **drawn)


def _checked(arguments: argparse.Namespace) -> tuple[tuple[int, ...], Plane | None]:
    """Refuse what can be refused before anything is loaded; returns rows, or a plane of a file."""
    from whynet.concepts.regions.planes import Plane
    from whynet.examination.region_request import called, parse_box, parse_rows

    places = [name for name in _PLACES if getattr(arguments, name) is not None]
    wanted = "one of --through i,j,k, --plane file.npz, --box=-1,1 and --line i,j"
    if len(places) != 1:
        named = " and ".join(map(_option, places)) or "nothing that says where"
        raise InputError(_option(places[0]) if places else NAME, named, wanted)
    if arguments.max_cells is not None and arguments.max_cells < 1:
        raise InputError("--max-cells", repr(arguments.max_cells), "a whole number of at least 1")
    if arguments.seconds is not None and not arguments.seconds > 0:
        raise InputError("--seconds", repr(arguments.seconds), "a number above 0")
    if arguments.through is not None:
        return parse_rows(arguments.through, 3, "--through"), None
    if arguments.line is not None:
        for name in ("color", "checkpoints", "seconds"):
            if getattr(arguments, name) is not None:
                raise InputError(_option(name), "it beside --line", "it beside a plane")
        return parse_rows(arguments.line, 2, "--line"), None
    with called(_option(places[0])):
        if arguments.plane is not None:
            return (), Plane.read(arguments.plane, "--plane")
        return (), Plane.box(*parse_box(arguments.box))


def _memory(request: Request) -> int:
    """Return the bytes to stay within: those that were asked for, or half of the machine's."""
    from whynet.core.budget import parse_bytes
    from whynet.models.data.limits import memory_limit

    return memory_limit() if request.memory is None else parse_bytes(request.memory)


def _compute(
    arguments: argparse.Namespace,
    subject: Subject,
    rows: tuple[int, ...],
    given: Plane | None,
    memory: int,
) -> Any:
    """Find what was asked for; of a plane whose cells may not fit into memory, the plane alone."""
    from whynet.concepts.regions.boxes import cells_in_box
    from whynet.concepts.regions.planes import Plane
    from whynet.concepts.regions.polylines import along
    from whynet.concepts.regions.subdivision import most_in_memory, subdivide
    from whynet.examination.region_request import box_of, called, parse_box, rows_of, workers

    most = arguments.max_cells or _MOST
    if arguments.line is not None:
        return along(subject, rows_of(subject, rows, "--line"), max_pieces=most)
    argument = next(_option(name) for name in _PLACES if getattr(arguments, name) is not None)
    with called(argument):
        if arguments.through is not None:
            given = Plane.through(*rows_of(subject, rows, "--through"))
        elif arguments.box is not None:
            found = box_of(subject, *parse_box(arguments.box))
            if not isinstance(found, Plane):
                for name in ("color", "checkpoints"):
                    if getattr(arguments, name) is not None:
                        wanted = "it beside a plane, or a box of two inputs"
                        raise InputError(_option(name), "it beside a box", wanted)
                most = arguments.max_cells or _MOST_OF_BOX
                limits = {"max_cells": most, "seconds": arguments.seconds}
                return cells_in_box(subject, *found, **limits, workers=workers())
            given = found
        assert given is not None
        graph = subject.graph
        outputs = math.prod(getattr(graph, "output_shape", ()))
        if most > most_in_memory(outputs, memory) and not arguments.checkpoints:
            return given
        limits = {"max_cells": most, "seconds": arguments.seconds, "memory": memory}
        return subdivide(subject, given, **limits)


def _not_applicable(arguments: argparse.Namespace, outcome: NotApplicable) -> int:
    from whynet.cli import main
    from whynet.cli.output import print_json, print_line

    if arguments.json:
        print_json({"not applicable": outcome.reason})
    else:
        print_line(outcome.reason)
    return main.DONE


def _print(summary: Mapping[str, Any]) -> None:
    from whynet.cli.output import print_line, print_table

    rows = []
    for name, value in summary.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            rows += [(f"{words}, {key}", _number(entry)) for key, entry in value.items()]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            rows.append((words, _number(value)))
        elif name == "checkpoints":
            rows += [(f"cells at {entry['name']}", _number(entry["cells"])) for entry in value]
        elif name == "class_changes":
            rows += [
                (f"class {entry['before']} to {entry['after']} at", _number(entry["at"]))
                for entry in value
            ]
    print_table(("exact", "value"), rows)
    if not summary["complete"]:
        print_line("stopped before the end: every count and length is a lower bound.")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
