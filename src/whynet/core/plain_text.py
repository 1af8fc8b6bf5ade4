"""Foreign text made fit to print: no control character reaches a terminal or a page."""

from __future__ import annotations

import unicodedata

MOST_CHARACTERS = 2000


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""Show control, direction and unassigned characters as escapes; cut what is too long.

    Args:
        text: anything, foreign.
        most: characters kept.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'

    """
    cut = text if len(text) <= most else text[:most] + f"… ({len(text):,} characters)"
    return "".join(
        character
        if character == "\n" or unicodedata.category(character) not in _UNPRINTABLE
        else character.encode("unicode_escape").decode("ascii")
        for character in cut
    )


_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
