"""`whynet atlas run ID --on TARGET`: claims tried on a user's network."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from whynet.cli.parser import Parser, add_subject_options
from whynet.core.errors import InputError

if TYPE_CHECKING:
    from whynet.atlas.field_run import FieldRecord
    from whynet.atlas.registry import ClaimEntry
    from whynet.examination.manifest import Request

OUT = "out/theories"
"""Where the page goes, where nothing else is said."""

SEEDS = 3
"""Other seeds that are trained for reference, where nothing else is said."""

_STORES = {
    "scale": "small",
    "budget": None,
    "workers": 1,
    "scheduler": None,
    "insecure_cluster": False,
    "cell_timeout": None,
    "retry_failed": False,
    "expect": None,
    "yes": False,
    "first_seed": 0,
}
"""Options of a run into a store, with the values they have where they were not given."""


_PREFIX = "subject_"
"""Before the names of options that say which network is meant, among those of a run."""


def subject_parser() -> Parser:
    """Return the parser of what follows `--on`: a target and the options of `whynet examine`."""
    parser = Parser(prog="whynet atlas run ID --on TARGET", add_help=False)
    add_subject_options(parser)
    return parser


def add_on_options(parser: argparse.ArgumentParser) -> None:
    """Add `--on` and, as plain text, the options of `whynet examine` that say which network.

    A claim may have parameters of the same names: without `--on` these options are parameters.
    """
    group = parser.add_argument_group("the network, beside --on")
    group.add_argument(
        "--on",
        metavar="TARGET",
        help="try the claim on a network of your own (`list` says which claims can)",
    )
    for action in subject_parser()._actions:
        if action.option_strings:
            group.add_argument(
                *action.option_strings,
                dest=_PREFIX + action.dest,
                metavar="…",
                default=argparse.SUPPRESS,
                help=action.help,
            )


def subject_words(arguments: argparse.Namespace) -> list[str]:
    """Return the options of `add_on_options` as they were given."""
    given = vars(arguments)
    return [
        f"{action.option_strings[0]}={given[_PREFIX + action.dest]}"
        for action in subject_parser()._actions
        if action.option_strings and _PREFIX + action.dest in given
    ]


def run_on(arguments: argparse.Namespace) -> int:
    """Try one claim or all on a network, write page and numbers; returns the exit code."""
    from whynet.cli import main
    from whynet.cli.output import print_json, print_line, say, show_traceback
    from whynet.cli.progress import bars
    from whynet.cli.request import named_as_options

    entries = _entries(arguments)
    request = _request(arguments)
    seeds = _seeds(arguments.seeds)
    from whynet.atlas.field_run import RESULTS, WRITTEN, content_of, try_claims, write_records
    from whynet.examination.folder import check_out, write_whole
    from whynet.examination.manifest import field_command
    from whynet.examination.source import load_subject

    out = arguments.out or OUT
    folder = check_out(
        out, written=WRITTEN, always=frozenset({RESULTS}), writer="`whynet atlas run --on`"
    )
    with bars(arguments.quiet or arguments.json) as shown, named_as_options():
        loaded = load_subject(request, announce=shown.announce, progress=shown.trained)
        with loaded.computing():
            records = try_claims(
                entries,
                loaded.subject,
                seeds=seeds,
                seed=request.seed,
                command=lambda name, count: field_command(loaded.request, name, count),
                announce=shown.announce,
                progress=lambda done, total, name: shown.ran(name, done, total),
            )
        write_whole(folder, lambda fresh: write_records(records, loaded.subject, fresh))
    if arguments.json:
        print_json([content_of(record) for record in records])
    elif not arguments.quiet:
        for record in records:
            print_line(f"{record.entry.id}: {record.state}. {record.sentence}")
        print_line(f"report: {out.rstrip('/')}/report.html")
    if arguments.debug:
        for record in records:
            show_traceback(getattr(record.found, "traceback", ""))
    failed = [record for record in records if record.state == "failed"]
    if failed:
        say(f"failed: {'; '.join(_failure(record) for record in failed)}")
    return main.PARTLY if failed else main.DONE


def _failure(record: FieldRecord) -> str:
    return f"{record.entry.id} ({record.sentence.rstrip('.')})"


def _entries(arguments: argparse.Namespace) -> list[ClaimEntry]:
    """Return the claims to try; those that cannot be tried are refused."""
    from whynet.atlas.registry import field_test_of, find_claim, with_field_tests

    for name, absent in _STORES.items():
        if getattr(arguments, name) != absent:
            option = f"--{name.replace('_', '-')}"
            raise InputError(option, "this option beside --on", "none: no grid is run there")
    if arguments.all:
        return list(with_field_tests().values())
    entry = find_claim(arguments.claim)
    if field_test_of(entry) is None:
        raise InputError(
            "--on",
            f"{entry.id!r}, which cannot be tried on a network",
            f"one of {', '.join(with_field_tests())}",
        )
    return [entry]


def _request(arguments: argparse.Namespace) -> Request:
    from whynet.cli.request import request_from

    words = [arguments.on, *subject_words(arguments), *getattr(arguments, "rest", ())]
    return request_from(subject_parser().parse_args(words))


def _seeds(asked: int | None) -> int:
    count = SEEDS if asked is None else asked
    if not 0 <= count <= 20:
        raise InputError("--seeds", repr(asked), "a whole number from 0 to 20 beside --on")
    return count
