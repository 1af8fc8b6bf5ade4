"""`whynet`: one entry, one file a command, exit codes that mean one thing each."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType
from typing import TextIO

from whynet import __version__
from whynet.cli.output import say
from whynet.cli.parser import Parser
from whynet.core.errors import InputError, StoreError

COMMANDS = {
    "examine": "ask every question of a trained network, and answer in a report",
    "measure": "run one instrument, or --list them",
    "compare": "put two checkpoints or seeds of one network side by side",
    "condense": "find the small network inside a large one, and certify it",
    "verify": "recompute every number of a report from its receipts",
    "atlas": "list, show, run and report claims: theorems with experiments and controls",
    "cite": "print the references of a report, or of an instrument, as BibTeX",
}

DONE, CONDITION, BAD_INPUT, PARTLY, DAMAGED, DISK, OUR_BUG = 0, 1, 2, 3, 4, 5, 70
INTERRUPTED, TERMINATED, CLOSED_PIPE = 130, 143, 141

_EPILOG = """\
exit codes: 0 done; 1 a condition asked for was not met; 2 bad input; 3 finished with failed
parts; 4 damaged or incompatible folder; 5 disk or permission; 70 a bug of ours; 130, 143
interrupted.

start here:  whynet examine digits-mlp --out out/digits
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit code.

    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    received: list[int] = []
    try:
        with _terminable(received):
            _make_safe(sys.stdout)
            code = _run(words)
            sys.stdout.flush()  # while a reader that left can still be told from a success
            return TERMINATED if received and code == INTERRUPTED else code
    except InputError as error:
        if debug:
            raise
        say(error)
        return DAMAGED if isinstance(error, StoreError) else BAD_INPUT
    except KeyboardInterrupt:
        say("interrupted; nothing was finished since, and what was written before is as it was.")
        return TERMINATED if received else INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left; what we still buffer has nowhere to go.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if debug:
            raise
        say(f"disk or permission: {error.strerror or error} ({error.filename or 'no file'}).")
        return DISK
    except Exception as error:
        if debug:
            raise
        say(
            f"a bug of whynet: {type(error).__name__}: {error}. Please report it with the "
            "output of the same command and --debug."
        )
        return OUR_BUG


def _run(words: list[str]) -> int:
    parser = Parser(
        prog="whynet",
        description="An executable laboratory for the mathematics of deep learning.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"whynet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    modules = {name: importlib.import_module(f"whynet.cli.{name}") for name in COMMANDS}
    for name, words_for in COMMANDS.items():
        module = modules[name]
        module.add_arguments(commands.add_parser(name, help=words_for, description=words_for))
    try:
        arguments, rest = parser.parse_known_args(words)
    except SystemExit as leave:  # --help and --version print and leave
        return int(leave.code or 0)
    if arguments.command is None and rest:
        parser.error(f"unrecognized arguments: {rest[0]}")
    if arguments.command is None:
        parser.print_help()
        return DONE
    module = modules[arguments.command]
    if rest and not getattr(module, "TAKES_REST", False):
        commands.choices[arguments.command].error(f"unrecognized arguments: {rest[0]}")
    arguments.rest = rest
    return int(module.run(arguments))


def _make_safe(stream: TextIO) -> None:
    """Let a stream of a narrow encoding write escapes where it has no character."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


@contextmanager
def _terminable(received: list[int]) -> Iterator[None]:
    """Turn a termination signal into a keyboard interrupt, so that both lose nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    try:
        old = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: signals are its affair
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


if __name__ == "__main__":
    sys.exit(main())
