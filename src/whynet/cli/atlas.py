"""`whynet atlas`: list, show, run and report the claims."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whynet.cli.atlas_on import add_on_options, subject_words
from whynet.cli.parser import add_output_options
from whynet.core.errors import InputError

if TYPE_CHECKING:
    from whynet.atlas.registry import ClaimEntry
    from whynet.core.claim import Claim, Value

TAKES_REST = True
"""Options that the parser does not know are parameters of the claim."""

MOST_VALUES = 10_000
"""Of one axis given on the command line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their options."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_output_options(commands.add_parser("list", help="all claims, by concept"))
    show = commands.add_parser("show", help="statement, assumptions, source and grid of a claim")
    show.add_argument("claim", metavar="ID", help="a claim of `list`, or my_claim.py:CLAIM")
    add_output_options(show)
    run = commands.add_parser(
        "run",
        help="run a claim with its controls, and judge",
        epilog="parameters of the claim are options: --width 50,100 --gamma 0.5:2:0.25",
    )
    run.add_argument("claim", metavar="ID", nargs="?", help="as for show")
    run.add_argument("--all", action="store_true", help="every claim of the catalogue")
    run.add_argument("--scale", default="small", metavar="…", help="smoke, small or full")
    run.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="repetitions (default: the preset's); with --on other seeds to train (default: 3)",
    )
    run.add_argument(
        "--first-seed",
        type=int,
        default=0,
        metavar="N",
        help="number of the first repetition, to judge on seeds that no band was chosen on",
    )
    run.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the stores (default: out/atlas; with --on out/theories)",
    )
    run.add_argument(
        "--budget",
        metavar="TIME",
        help="such as 10m: after it no further group of cells starts, and the same command goes on",
    )
    run.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    run.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    run.add_argument(
        "--insecure-cluster",
        action="store_true",
        help="allow an unencrypted address that is not of this machine",
    )
    run.add_argument("--cell-timeout", metavar="TIME", help="of a group")
    run.add_argument("--retry-failed", action="store_true", help="run failed cells again")
    run.add_argument(
        "--expect",
        choices=("supported", "refuted", "inconclusive"),
        help="exit 1 where a verdict is another",
    )
    run.add_argument("--yes", action="store_true", help="run a grid of more than 100,000 cells")
    add_on_options(run)
    add_output_options(run)
    report = commands.add_parser("report", help="write the pages of stores that were run")
    report.add_argument("folder", metavar="DIR", help="folder of the stores")
    add_output_options(report)


def run(arguments: argparse.Namespace) -> int:
    """Run the action; returns the exit code."""
    rest = list(getattr(arguments, "rest", ()))
    if rest and arguments.action != "run":
        raise InputError(rest[0], "an unknown option", f"what `whynet atlas {arguments.action}` "
                         "--help lists")  # fmt: skip
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "show": _show,
        "run": _run,
        "report": _report,
    }
    return actions[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from whynet.atlas.registry import claims, field_test_of
    from whynet.cli.output import print_json, print_table

    found = claims().values()
    if arguments.json:
        print_json([_about(entry) for entry in found])
        return 0
    print_table(
        ("claim", "what it says", "concept", "answers", "small scale", "on a network"),
        (
            (
                entry.id,
                entry.metadata.title,
                entry.concept,
                ", ".join(entry.metadata.answers),
                entry.metadata.cost,
                "--on TARGET" if field_test_of(entry) else "",
            )
            for entry in found
        ),
    )
    return 0


def _about(entry: ClaimEntry) -> dict[str, object]:
    from whynet.atlas.registry import field_test_of

    about = entry.metadata
    return {
        "id": entry.id,
        "concept": entry.concept,
        "title": about.title,
        "kind": about.kind,
        "answers": list(about.answers),
        "cost": about.cost,
        "on_a_network": field_test_of(entry) is not None,
    }


def _show(arguments: argparse.Namespace) -> int:
    from whynet.atlas.registry import find_claim
    from whynet.cli.output import print_json, print_line, print_table
    from whynet.core.citations import bibliography

    entry = find_claim(arguments.claim)
    about = entry.metadata
    if arguments.json:
        print_json({**_about(entry), "statement": about.statement})
        return 0
    print_line(f"{entry.id} ({about.kind}, {entry.concept}): {about.title}")
    print()
    for line in about.statement.strip().splitlines():
        print_line(line)
    print()
    for key, sentence in about.assumptions.items():
        print_line(f"assumes {key}: {sentence}")
    for control in about.controls:
        setting = f"{control.parameter} = {control.value}"
        print_line(f"control {control.name} (breaks {control.breaks}, {setting}): "
                   f"{control.meaning}")  # fmt: skip
    if about.tolerance:
        print_line(f"verdict: {about.tolerance}")
    _show_field_test(entry)
    known = bibliography()
    for key in about.cites:
        print_line(f"source: {known[key].short}. {known[key].title}. {known[key].where}")
    print()
    print_table(
        ("parameter", "what it is", *about.presets),
        [
            (p.name, p.meaning, *(_values(preset.get(p.name) or p.choices[:1])
                                  for preset in about.presets.values()))
            for p in about.parameters
        ] + [("seeds", "repetitions", *(_values(p["seeds"]) for p in about.presets.values()))],
    )  # fmt: skip
    return 0


def _show_field_test(entry: ClaimEntry) -> None:
    """Say how a claim is tried on a network, where it can be."""
    from whynet.atlas.registry import field_test_of
    from whynet.cli.output import print_line

    test = field_test_of(entry)
    if test is None:
        return
    print_line(f"on a network (--on TARGET): {test.asks}")
    for key, sentence in test.assumptions.items():
        print_line(f"  assumes there {key}: {sentence}")
    print_line(f"  control there {test.control.name} (breaks {test.control.breaks}): "
               f"{test.control.meaning}")  # fmt: skip


def _values(values: Sequence[Value]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _run(arguments: argparse.Namespace) -> int:
    from whynet.cli.atlas_on import run_on
    from whynet.cli.atlas_run import check_choice, run_claims

    check_choice(arguments)
    if arguments.on is not None:
        return run_on(arguments)
    arguments.rest = [*subject_words(arguments), *getattr(arguments, "rest", ())]
    return run_claims(arguments)


def _report(arguments: argparse.Namespace) -> int:
    from whynet.atlas.pages import write_pages
    from whynet.cli.output import print_line

    written = write_pages(Path(arguments.folder))
    if not arguments.quiet:
        print_line(f"report: {written}")
    return 0


def parse_axes(words: Sequence[str], claim: Claim) -> dict[str, tuple[Value, ...]]:
    """Read the parameters of a claim from the options that nothing else took.

    `--width 50,100` lists values, `--gamma 0.5:2:0.25` counts from the first to the second.

    Raises:
        InputError: an option that is no parameter, or no value of its kind.

    """
    found: dict[str, tuple[Value, ...]] = {}
    known = {parameter.name: parameter for parameter in claim.parameters}
    rest = [part for word in words for part in (word.split("=", 1) if word[:2] == "--" else [word])]
    while rest:
        option = rest.pop(0)
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in known:
            options = ", ".join(f"--{one.replace('_', '-')}" for one in known)
            raise InputError(option, "an unknown option", f"a parameter of this claim: {options}")
        if not rest:
            raise InputError(option, "no value", "values such as 50,100 or 0.5:2:0.25")
        text = rest.pop(0)
        kind = known[name].kind
        found[name] = tuple(text.split(",")) if kind == "choice" else _numbers(option, text, kind)
    return found


def _numbers(option: str, text: str, kind: str) -> tuple[Value, ...]:
    values: list[Value] = []
    for part in text.split(","):
        ends = part.split(":")
        try:
            numbers = [float(end) for end in ends]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
            raise InputError(option, repr(text), "values such as 50,100 or 0.5:2:0.25")
        if len(numbers) == 1:
            values.append(int(ends[0]) if ends[0].lstrip("+-").isdecimal() else numbers[0])
            continue
        first, last, step = numbers
        count = math.floor((last - first) / step + 1e-9) + 1 if step else 0
        if not 1 <= count <= MOST_VALUES:
            raise InputError(option, repr(part), f"first:last:step with 1 to {MOST_VALUES} values")
        between = [float(f"{first + place * step:.12g}") for place in range(count)]
        whole = kind == "int" and all(value == int(value) for value in between)
        values += [int(value) if whole else value for value in between]
    return tuple(values)
