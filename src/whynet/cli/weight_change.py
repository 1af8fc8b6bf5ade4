"""Options of `whynet measure weight-change TARGET`: which widths, and which starts."""

from __future__ import annotations

import argparse
import math

from whynet.core.errors import InputError
from whynet.core.plain_text import printable

NAME = "weight-change"
OPTIONS = ("widths", "scales")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this measurement; None stands for a default."""
    group = parser.add_argument_group(f"of {NAME}")
    group.add_argument(
        "--widths", metavar="W,W,W", help="factors on the width, 1 among them (default: 0.5,1,2)"
    )
    group.add_argument(
        "--scales",
        metavar="S,S",
        help="factors on all weights before training, 1 among them (default: 0.25,1,4)",
    )


def settings(arguments: argparse.Namespace) -> dict[str, tuple[float, ...]]:
    """Return what was asked for, for the instrument's `start`.

    Raises:
        InputError: no factors above 0, separated by commas.

    """
    return {
        name: _factors(f"--{name}", getattr(arguments, name))
        for name in OPTIONS
        if getattr(arguments, name) is not None
    }


def _factors(option: str, text: str) -> tuple[float, ...]:
    wanted = "factors above 0, separated by commas"
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(option, printable(repr(text), 80), wanted) from None
    if not all(0 < factor < math.inf for factor in found):
        raise InputError(option, printable(repr(text), 80), wanted)
    return found
