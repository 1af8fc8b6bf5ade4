"""`whynet measure curvature TARGET`: spectra of one curvature matrix, with options of their own."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whynet.core.estimate import Estimate
    from whynet.models.subject import Subject

NAME = "curvature"
TITLE = "eigenvalues, traces, log determinant, saddle index, noise of a curvature matrix of choice"
CONCEPT, UNIT = "curvature", "loss per squared weight"
COST = "about 100 products on all rows; with --saddle 40 a probe more"

OPTIONS = (
    "matrix",
    "parameters",
    "top",
    "tolerance",
    "probes",
    "ridge",
    "saddle",
    "curvature_rows",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this measurement; None stands for a default."""
    group = parser.add_argument_group(f"of {NAME}")
    group.add_argument(
        "--matrix",
        choices=("hessian", "gauss-newton", "fisher"),
        help="which matrix (default: hessian)",
    )
    group.add_argument(
        "--parameters",
        metavar="PATTERN",
        help="those of these names alone: '*.weight', 'encoder.0'",
    )
    group.add_argument("--top", metavar="K", type=int, help="eigenvalues from the top (default: 5)")
    group.add_argument(
        "--tolerance", metavar="R", type=_number, help="their relative error (default: 0.001)"
    )
    group.add_argument(
        "--probes", metavar="N", type=int, help="of traces and log determinant (default: 30)"
    )
    group.add_argument(
        "--ridge", metavar="A", type=_number, help="log det(G + A I), G Gauss-Newton's"
    )
    group.add_argument(
        "--saddle",
        metavar="S",
        type=_number,
        help="count eigenvalues of the Hessian below -S times the largest (0.001, say)",
    )
    group.add_argument(
        "--curvature-rows",
        metavar="N",
        type=int,
        help="training rows, evenly spread (default: all)",
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def run(arguments: argparse.Namespace) -> int:
    """Compute and print; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.output import print_json, print_line, print_table
    from whynet.cli.progress import bars
    from whynet.cli.request import request_from
    from whynet.core.estimate import format_interval
    from whynet.examination.source import load_subject
    from whynet.examination.summary import as_json
    from whynet.models.preservation import preserved

    request = request_from(arguments)
    with bars(arguments.quiet or arguments.json) as shown:
        loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
        with loaded.computing(), preserved():
            found, notes = _measured(arguments, loaded.subject, request.seed)
    if arguments.json:
        print_json({name: as_json(estimate) for name, estimate in found.items()})
        return main.DONE
    if arguments.quiet:
        return main.DONE
    rows = (
        (name, format_interval(e, unit=False), e.unit, e.kind, e.over or "")
        for name, e in found.items()
    )
    print_table(("quantity", "value [interval]", "unit", "kind", "over"), rows)
    for note in notes:
        print_line(note)
    return main.DONE


def _measured(
    arguments: argparse.Namespace, subject: Subject, seed: int
) -> tuple[dict[str, Estimate], list[str]]:
    """Return all that is asked for, by name, and what a reader must know."""
    from whynet.concepts.curvature import saddle, spectra, traces
    from whynet.core.errors import InputError

    matrix: spectra.Matrix = arguments.matrix or "hessian"
    chosen: dict[str, Any] = {
        "parameters": arguments.parameters or "*",
        "rows": arguments.curvature_rows,
        "seed": seed,
    }
    probes = 30 if arguments.probes is None else arguments.probes
    if arguments.ridge is not None and not arguments.ridge > 0:
        raise InputError("--ridge", str(arguments.ridge), "a number above 0")
    if probes < 2:
        raise InputError("--probes", str(probes), "at least 2")
    ends = spectra.spectrum(
        subject,
        5 if arguments.top is None else arguments.top,
        matrix=matrix,
        tolerance=1e-3 if arguments.tolerance is None else arguments.tolerance,
        **chosen,
    )
    found = {f"largest.{rank}": e for rank, e in enumerate(ends.largest, 1)}
    found |= {f"smallest.{rank}": e for rank, e in enumerate(ends.smallest, 1)}
    if matrix == "hessian":
        found["negative_ratio"] = ends.negative_ratio
        found["adaptive_sharpness"] = spectra.adaptive_sharpness(subject, **chosen)
    found["gradient_share"] = ends.gradient_share
    moments = traces.moments(subject, probes=probes, matrix=matrix, **chosen)
    found |= {"trace": moments.trace, "frobenius_norm": moments.frobenius_norm}
    found |= {f"trace.{name}": e for name, e in moments.layers.items()}
    if arguments.ridge is not None:
        found[f"log_determinant.{arguments.ridge:g}"] = traces.log_determinant(
            subject, arguments.ridge, probes=probes, **chosen
        )
    if arguments.saddle is not None:
        index = saddle.saddle_index(subject, share=arguments.saddle, probes=probes, **chosen)
        found["saddle_index"] = index.count
    groups = min(32, subject.examples("train").count)
    if groups >= 4:
        found["noise_scale"] = traces.noise_scale(subject, groups=groups, seed=seed)
    notes = [
        "The objective is the mean training loss in evaluation mode, without weight decay.",
        f"A random direction has a share of {ends.random_share:.2g} in the span of the largest.",
        "Rescaling layers changes all of it but adaptive_sharpness and leaves the function alone.",
        *ends.notes,
    ]
    return found, notes
