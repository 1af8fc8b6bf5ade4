"""Options of `whynet measure weight-change TARGET`: which widths, and which starts."""

from __future__ import annotations

import argparse
import math
from typing import Any

from whynet.core.errors import InputError
from whynet.core.plain_text import printable

NAME = "weight-change"
OPTIONS = ("widths", "scales", "condense")


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
    group.add_argument(
        "--condense",
        metavar="X",
        help="how many units `whynet condense` leaves of every copy at this tolerance (0.05, say)",
    )


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was asked for, for the instrument's `start`.

    Raises:
        InputError: no factors above 0, separated by commas, or no tolerance.

    """
    found: dict[str, Any] = {
        name: _factors(f"--{name}", getattr(arguments, name))
        for name in ("widths", "scales")
        if getattr(arguments, name) is not None
    }
    if arguments.condense is not None:
        found["condense"] = _tolerance(arguments.condense)
    return found


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        wanted = "a tolerance between 0 and 1, such as 0.05"
        raise InputError("--condense", printable(repr(text), 80), wanted)
    return value


def _factors(option: str, text: str) -> tuple[float, ...]:
    wanted = "factors above 0, separated by commas"
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(option, printable(repr(text), 80), wanted) from None
    if not all(0 < factor < math.inf for factor in found):
        raise InputError(option, printable(repr(text), 80), wanted)
    return found
