"""Foreign text made fit for one sentence: printable, short, on one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from whynet.core import plain_text


def printable(text: str, limit: int = 200) -> str:
    r"""Return `text` fit for the middle of a sentence: one printable line without a final stop.

    >>> printable("a" + chr(10) + "b" + chr(27) + "[31m.")
    'a b\\x1b[31m'
    """
    return plain_text.printable(text, limit).rstrip(". ")


def quoted(name: object, limit: int = 80) -> str:
    """Return a foreign name in quotation marks, escaped and cut.

    >>> quoted("fc.weight")
    "'fc.weight'"
    """
    text = str(name)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def listing(names: Iterable[object], limit: int = 5) -> str:
    """Return the first names, quoted, and how many more there are.

    >>> listing(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    every = list(names)
    text = ", ".join(quoted(name) for name in every[:limit])
    more = len(every) - limit
    return f"{text} and {more} more" if more > 0 else text


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)`, or nothing where no name comes close."""
    every = list(names)[:10_000]
    close = difflib.get_close_matches(name, every, n=1)
    folded = [other for other in every if other.lower() == name.lower()]
    best = (folded or close)[:1]
    return f" (did you mean {quoted(best[0])}?)" if best else ""
