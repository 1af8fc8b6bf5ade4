"""Foreign text made fit to print: no control character reaches a terminal or a page."""

from __future__ import annotations

MOST_CHARACTERS = 2000


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""Return text on one line: white space is one space, what cannot be seen an escape.

    Control, direction, surrogate and unassigned characters become escapes, so that no foreign
    name colors, moves or forges a line of the terminal; what is too long is cut.

    Args:
        text: anything, foreign.
        most: characters kept.

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb c'
    """
    # No more is looked at than can be kept: foreign text may be of any length.
    line = " ".join(text[: 4 * most].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= most and len(text) <= 4 * most else shown[: most - 1] + "…"
