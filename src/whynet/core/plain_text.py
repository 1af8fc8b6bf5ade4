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


def layer_name(path: str, most: int = 26) -> str:
    """Cut the dotted name of a layer between its parts, and take markup from it.

    Numbers, which tell the blocks of a network apart, and the last part stay; of the others those
    nearest to the end, as many as there is room for.

    Args:
        path: as in `named_modules`, foreign.
        most: characters kept.

    >>> layer_name("bert.encoder.layer.0.attention.output.dense")
    '…0.attention.output.dense'
    >>> layer_name("model.layers.10.block_sparse_moe.experts.3.w1")
    '…10.…experts.3.w1'
    """
    plain = path.replace("*", "").replace("`", "")
    if len(plain) <= most:
        return plain
    parts = plain.split(".")
    kept = {place for place, part in enumerate(parts) if part.isdecimal()} | {len(parts) - 1}
    for place in reversed(range(len(parts))):
        if len(_joined(parts, kept | {place})) > most:
            break
        kept.add(place)
    shown = _joined(parts, kept)
    return shown if len(shown) <= most else f"…{plain[1 - most :]}"


def _joined(parts: list[str], kept: set[int]) -> str:
    """Join parts by dots; an ellipsis stands for those between that are left out."""
    text = ""
    for place in sorted(kept):
        left_out = place > 0 and place - 1 not in kept
        text += ("." if text else "") + ("…" if left_out else "") + parts[place]
    return text
