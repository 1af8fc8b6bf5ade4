"""`whynet cite`: the references a result rests on."""

from __future__ import annotations

import argparse

from whynet.core.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "what",
        metavar="WHAT",
        nargs="?",
        help="a folder of an examination or an instrument; everything by default",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def run(arguments: argparse.Namespace) -> int:
    """Print BibTeX; returns the exit code."""
    from whynet.core.citations import bibliography

    for key in sorted(_keys(arguments.what)):
        print(bibliography()[key].bibtex)
    return 0


def _keys(what: str | None) -> set[str]:
    from whynet.concepts.registry import instruments
    from whynet.core.citations import bibliography

    if what is None:
        return set(bibliography())
    if what in instruments():
        return set(instruments()[what].metadata.cites)
    from pathlib import Path

    if not Path(what).is_dir():
        known = ", ".join(instruments())
        raise InputError("WHAT", repr(what), f"an examination's folder, or one of {known}")
    from whynet.examination.folder import read_cites

    return read_cites(Path(what)) & set(bibliography())
