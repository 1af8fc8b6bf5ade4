"""`whynet condense TARGET`: the small network inside a large one, with a certificate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from whynet.cli.parser import add_output_options, add_subject_options
from whynet.core.errors import InputError

if TYPE_CHECKING:
    from whynet.examination.condensing import Done


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_subject_options(parser)
    what = parser.add_argument_group("how small")
    what.add_argument(
        "--tolerance",
        metavar="X",
        default="1e-3",
        help="largest change of an output on the training data, of the largest output "
        "(default: 1e-3)",
    )
    what.add_argument(
        "--exact-only",
        dest="exact_only",
        action="store_true",
        help="only what leaves the function as it is for all inputs",
    )
    what.add_argument(
        "--units",
        metavar="N",
        type=int,
        help="at most so many units in all layers; refused where that breaks the tolerance",
    )
    what.add_argument(
        "--finetune",
        metavar="STEPS",
        type=int,
        default=0,
        help="train the smaller network on for so many steps towards the large one's outputs, in "
        "three orders of the examples, and say what that adds (default: 0)",
    )
    how = parser.add_argument_group("what is certified")
    how.add_argument("--norm", default="linf", metavar="…", help="linf (default) or l2")
    how.add_argument(
        "--radius",
        metavar="X",
        help="of the balls around data in which a bound is proven (default: a hundredth of the "
        "spread of the inputs)",
    )
    how.add_argument(
        "--points", metavar="N", type=int, default=100, help="most balls (default: 100)"
    )
    parser.add_argument(
        "--checkpoints",
        metavar="WEIGHTS",
        nargs="+",
        default=[],
        help="weights along the training, in order: how many directions its layers had",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="small.safetensors",
        help="weights of the smaller network; its certificate (.json), page (.html) and, "
        "where its code fixes widths, exported program (.pt2) stand beside them "
        "(default: small.safetensors)",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Condense, write three files, print what changed; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.output import say
    from whynet.cli.progress import bars
    from whynet.cli.request import named_as_options, request_from
    from whynet.concepts.condensation.certificate import Balls
    from whynet.examination.condensing import (
        built_by,
        check_files,
        condense_request,
        number,
        save,
    )

    tolerance = number(arguments.tolerance, "--tolerance")
    radius = None if arguments.radius is None else number(arguments.radius, "--radius")
    if arguments.finetune < 0:
        raise InputError("--finetune", str(arguments.finetune), "a number of steps of at least 0")
    request = request_from(arguments)
    files = check_files(arguments.out)
    with bars(arguments.quiet or arguments.json) as shown, named_as_options():
        done = condense_request(
            request,
            tolerance=tolerance,
            exact_only=arguments.exact_only,
            units=arguments.units,
            finetune_steps=arguments.finetune,
            checkpoints=arguments.checkpoints,
            balls=Balls(arguments.norm, radius, arguments.points),
            announce=shown.announce,
            trained=shown.trained,
            progress=lambda words: shown.ran(words, 0, 1),
        )
    found = done.condensed
    if not arguments.quiet:
        _print(done, arguments.json)
    if not found.reduced:
        say(f"nothing was written: {found.reason}")
        return main.CONDITION
    if found.chosen.largest > tolerance:
        say(
            f"nothing was written: with {arguments.units} units an output changes by "
            f"{found.chosen.largest:.2g} of the largest, above the tolerance of {tolerance:g}."
        )
        return main.CONDITION
    save(done, files)
    if not (arguments.quiet or arguments.json):
        from whynet.cli.output import print_line

        for line in built_by(done):
            print_line(line)
        for path in (files.weights, files.program, files.certificate, files.page):
            if path != files.program or (found.traced and path.is_file()):
                print_line(f"wrote {path}")
    return main.DONE


def _print(done: Done, as_data: bool) -> None:
    from whynet.cli.output import print_json, print_line, print_table
    from whynet.examination.condensing import finetuned_of, summary_of

    found = done.condensed
    trained = None if done.finetuned is None else finetuned_of(done.finetuned)
    summary = {
        **summary_of(found),
        "directions": done.directions,
        "checkpoints": [list(checkpoint) for checkpoint in done.checkpoints],
        "finetuned": trained,
    }
    if as_data:
        print_json(summary)
        return
    print_table(
        ("layer", "units", "exactly", "now", "left alone, since"),
        (
            (
                layer.path,
                str(layer.before),
                str(layer.exactly),
                str(layer.after),
                layer.reason or "",
            )
            for layer in found.layers
        ),
    )
    print_table(
        ("parameters", "largest change", "root mean square", ""),
        (
            (
                f"{point.parameters:,}",
                f"{point.largest:.2e}",
                f"{point.root_mean_square:.2e}",
                "this one" if point == found.chosen and found.reduced else "",
            )
            for point in found.curve
        ),
    )
    for said in (found.caution, found.limited):
        if said:
            print_line(said)
    if done.finetuned is not None:
        print_line(done.finetuned.sentence())
    for name, layers in done.checkpoints:
        for layer in layers:
            print_line(f"{name}: {layer['sentence']}")
    for layer in done.directions:
        print_line(layer["sentence"])
    for move in found.moves:
        print_line(f"{move.path}: {move.removed} units went ({move.name}), exactly")
