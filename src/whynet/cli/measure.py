"""`whynet measure INSTRUMENT TARGET`: one instrument alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whynet.cli import curvature, linear_regions, loss_slice, weight_change
from whynet.cli.parser import add_output_options, add_subject_options
from whynet.core.errors import InputError

SPECIAL = (linear_regions, curvature, loss_slice)
"""What has options and output of its own; each is a file with the same names."""

OPTIONED = (weight_change,)
"""Instruments with options of their own."""

if TYPE_CHECKING:
    from whynet.core.measurement import Measurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--list", action=_List, nargs=0, help="list all instruments and leave")
    parser.add_argument("instrument", metavar="INSTRUMENT", help="see --list")
    add_subject_options(parser)
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=int,
        default=argparse.SUPPRESS,
        help="more rounds, shorter bars (default: 1)",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder that linear-regions and loss-slice write"
    )
    for special in (*SPECIAL, *OPTIONED):
        special.add_arguments(parser)
    add_output_options(parser)


def _refuse_options(arguments: argparse.Namespace) -> None:
    """Refuse the options that belong to another measurement than the one that is asked for.

    Raises:
        InputError: one of them is given.

    """
    every = (*SPECIAL, *OPTIONED)
    known: tuple[str, ...] = next((s.OPTIONS for s in every if arguments.instrument == s.NAME), ())
    for special in every:
        for name in special.OPTIONS:
            if name not in known and getattr(arguments, name) is not None:
                found = f"it beside {arguments.instrument}"
                option = "--" + name.replace("_", "-")
                raise InputError(option, found, f"it beside {special.NAME} alone")
    if "rounds" in arguments and any(arguments.instrument == s.NAME for s in SPECIAL):
        wanted = f"no rounds: {arguments.instrument} takes none"
        raise InputError("--rounds", f"it beside {arguments.instrument}", wanted)


class _List(argparse.Action):
    """Prints the instruments from their files' metadata; imports none of them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        from whynet.cli.output import print_table
        from whynet.concepts.registry import instruments

        print_table(
            ("instrument", "measures", "concept", "unit", "a round costs"),
            [
                *(
                    (entry.id, about.title, entry.concept, about.unit, about.cost)
                    for entry in instruments().values()
                    for about in (entry.metadata,)
                ),
                *((s.NAME, s.TITLE, s.CONCEPT, s.UNIT, s.COST) for s in SPECIAL),
            ],
        )
        parser.exit(0)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    _refuse_options(arguments)
    for special in SPECIAL:
        if arguments.instrument == special.NAME:
            code: int = special.run(arguments)
            return code
    from whynet.cli import main
    from whynet.cli.output import print_json, print_line
    from whynet.cli.progress import bars
    from whynet.cli.request import named_as_options, request_from
    from whynet.concepts.measuring import check_rounds, measure
    from whynet.concepts.registry import load_instrument
    from whynet.core.outcome import NotApplicable
    from whynet.examination.source import load_subject

    module = load_instrument(arguments.instrument, "INSTRUMENT")
    optioned = next((one for one in OPTIONED if arguments.instrument == one.NAME), None)
    options = {} if optioned is None else optioned.settings(arguments)
    request = request_from(arguments)
    rounds = request.rounds.get(arguments.instrument, 1)
    with named_as_options():
        check_rounds(module, rounds)
    with bars(arguments.quiet or arguments.json) as shown:
        loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
        with loaded.computing():
            outcome = measure(
                arguments.instrument,
                loaded.subject,
                rounds=rounds,
                seed=request.seed,
                options=options,
            )
    if isinstance(outcome, NotApplicable):
        if arguments.json:
            print_json({"not applicable": outcome.reason})
        else:
            print_line(outcome.reason)
    elif arguments.json or not arguments.quiet:
        _print(outcome, arguments.json)
    return main.DONE


def _print(outcome: Measurement, as_data: bool) -> None:
    from whynet.cli.output import print_json, print_line, print_table
    from whynet.core.estimate import format_interval
    from whynet.examination.summary import as_json, entries

    rows = list(entries(outcome))
    if as_data:
        print_json(
            {
                ".".join([name, *map(str, labels.values())]): as_json(estimate)
                for name, labels, estimate in rows
            }
        )
        return
    print_table(
        ("quantity", "at", "value [interval]", "unit", "kind", "over"),
        (
            (
                name,
                ", ".join(f"{axis} {label}" for axis, label in labels.items()),
                format_interval(estimate, unit=False),
                estimate.unit,
                estimate.kind,
                estimate.over,
            )
            for name, labels, estimate in rows
        ),
    )
    left = [name for name in outcome.names if name not in {row[0] for row in rows}]
    if left:
        print_line(f"curves and matrices, in `whynet examine`'s results: {', '.join(left)}")
    for note in outcome.notes:
        print_line(note)
