"""`whynet measure loss-slice TARGET`: the loss around the weights, a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "loss-slice"
TITLE = "the loss on a line or plane through the weights: a picture, not a measure"
CONCEPT, UNIT = "landscape", "loss"
COST = "a forward pass on at most 2,000 rows a point"

OPTIONS = ("dimensions", "points", "span", "directions", "out")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this measurement; None stands for a default."""
    group = parser.add_argument_group(f"of {NAME}")
    group.add_argument(
        "--dimensions", metavar="N", type=int, choices=(1, 2), help="a line or a plane (default: 1)"
    )
    group.add_argument(
        "--points", metavar="N", type=int, help="along each direction, odd (default: 21)"
    )
    group.add_argument(
        "--span",
        metavar="R",
        type=float,
        help="how far, in units of the directions (default: 1; along eigenvectors as far as "
        "curvature alone raises the loss by 1)",
    )
    group.add_argument(
        "--directions",
        choices=("random", "eigenvectors"),
        help="random with scaled filters (default), or eigenvectors of the Hessian",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compute, write the folder and print; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.output import print_json, print_line, print_table
    from whynet.cli.progress import bars
    from whynet.cli.request import request_from
    from whynet.concepts.landscape.slices import loss_slice
    from whynet.examination.slice_folder import check_slice, save_slice
    from whynet.examination.source import load_subject
    from whynet.models.preservation import preserved

    out = arguments.out or f"out/{NAME}"
    place = check_slice(out)
    given = {
        name: value
        for name in ("dimensions", "points", "span", "directions")
        if (value := getattr(arguments, name)) is not None
    }
    request = request_from(arguments)
    with bars(arguments.quiet or arguments.json) as shown:
        loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
        with loaded.computing(), preserved():
            found = loss_slice(loaded.subject, seed=request.seed, **given)
            summary = save_slice(found, place, about={"target": request.target})
    if arguments.json:
        print_json(summary)
    elif not arguments.quiet:
        shown_rows = [
            (name.replace("_", " "), f"{summary[name]:.6g}")
            for name in ("loss_here", "least_loss", "largest_loss", "rows")
        ]
        print_table(("of the slice", "value"), shown_rows)
        for note in summary["notes"]:
            print_line(note)
        print_line(f"figure: {Path(out) / 'figure.svg'}")
    return main.DONE
