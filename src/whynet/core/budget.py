"""Budgets of time and memory, as a user writes them."""

from __future__ import annotations

import math
import re

from whynet.core.errors import InputError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_BYTES = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_seconds(text: str, argument: str = "--budget") -> float:
    """Read a duration such as `90`, `90s`, `2m` or `1.5h`; returns seconds.

    Raises:
        InputError: the text is no positive duration.

    >>> parse_seconds("2m")
    120.0

    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{0,9})?)\s*([smh]?)\s*", text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else math.nan
    if not seconds > 0:
        raise InputError(argument, repr(text), "a duration such as 90s, 2m or 1h, above zero")
    return seconds


def parse_bytes(text: str, argument: str = "--memory") -> int:
    """Read an amount of memory such as `500M`, `2G` or `4GiB`; returns bytes.

    Raises:
        InputError: the text is no positive amount.

    >>> parse_bytes("2G") == 2 * 2**30
    True

    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{0,9})?)\s*([kmgKMGbB]?)(?:i?[bB])?\s*", text)
    amount = int(float(match[1]) * _BYTES[match[2].lower()]) if match else 0
    if amount <= 0:
        raise InputError(argument, repr(text), "an amount of memory such as 500M or 2G")
    return amount
