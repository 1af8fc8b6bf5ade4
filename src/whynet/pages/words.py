"""Words on a page or in a terminal: foreign text made visible and harmless, then marked."""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

LIMIT = 2000
"""Characters of one foreign text that a page shows before it cuts."""

_UNUSUAL = re.compile(r"[^\n\x20-\x7e]")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_COMBINING = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED = re.compile(f"({_COMBINING}{{3}}){_COMBINING}+")
_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x1b\\|\x07|$)"
    r"|\x1b[ -/]*[0-~]?|\x9b[0-?]*[ -/]*[@-~]",
    flags=re.DOTALL,
)
_POWER = re.compile(r"(?<=\d)e\+?([-−]?)0*(\d+)")
_RAISED = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNIT = re.compile(r"(?<=\d) (?=%)")
_MARK = re.compile(r"(`[^`\n]+`|\*\*[^*\n]+\*\*)")


def visible(text: object, limit: int = LIMIT) -> str:
    r"""Show what cannot be seen: control, bidirectional and other hidden characters as escapes.

    Line feeds stay, tabs become spaces, long text is cut with a note that says so. The result
    is plain text, not HTML.

    >>> visible("safe\u202egnp.exe")
    'safe\\u202egnp.exe'
    """
    whole = str(text)
    shown = whole[:limit].replace("\r\n", "\n").replace("\t", " ")
    shown = _UNUSUAL.sub(lambda found: _shown(found[0]), shown)
    shown = _STACKED.sub(lambda found: found[1] + "…", shown)
    if len(whole) > limit:
        shown += f"… [cut here, {len(whole):,} characters in all]"
    return shown


def marked(text: object, limit: int = LIMIT) -> Markup:
    """Turn plain text into HTML: everything escaped, then `**bold**` and backquoted code marked.

    >>> marked("**48** of <i>128</i>, see `whynet condense`")
    Markup('<strong>48</strong> of &lt;i&gt;128&lt;/i&gt;, see <code>whynet condense</code>')
    """
    return _mark(_UNIT.sub("\u00a0", visible(text, limit)))


def unbroken(command: object, limit: int = LIMIT) -> Markup:
    """Write a command so that lines break between its words and not at the hyphens in them."""
    words = visible(command, limit).split(" ")
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in words)


def plain(text: object, limit: int = LIMIT) -> str:
    r"""Return text fit for a terminal: one line, no marks, no escape sequence, nothing hidden.

    >>> plain("\x1b[31mred\x1b[0m, **bold**, `code`")
    'red, bold, code'
    """
    whole = str(text)
    kept = _ANSI.sub("", whole[:limit])
    kept = _MARK.sub(lambda found: found[0].strip("`*"), " ".join(kept.split()))
    kept = _UNUSUAL.sub(lambda found: "" if _is_hidden(found[0]) else found[0], kept)
    kept = _STACKED.sub(lambda found: found[1] + "…", kept)
    return kept + "…" if len(whole) > limit else kept


def powers(number: str) -> str:
    """Write the powers of ten of a number as people do.

    >>> powers("3.00e−07 [1.00e−07, 9.00e+12]")
    '3.00×10⁻⁷ [1.00×10⁻⁷, 9.00×10¹²]'
    """
    return _POWER.sub(lambda found: "×10" + (found[1] + found[2]).translate(_RAISED), number)


def slug(text: str) -> str:
    """Return letters, digits and hyphens of a text, fit for an id of the page.

    >>> slug("Size: how small?")
    'size-how-small'
    """
    return re.sub(r"[^a-z0-9]+", "-", text[:200].lower()).strip("-") or "x"


def duration(seconds: float) -> str:
    """Write a time for a reader.

    >>> duration(0.04), duration(58.2), duration(133), duration(3860)
    ('under 0.1 s', '58 s', '2 min 13 s', '1 h 4 min')
    """
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(number: int, one: str, many: str) -> str:
    """Write a number with its noun.

    >>> counted(1, "example", "examples"), counted(1437, "example", "examples")
    ('1 example', '1,437 examples')
    """
    return f"{number:,} {one if number == 1 else many}"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _shown(character: str) -> str:
    if not _is_hidden(character):
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _mark(shown: str) -> Markup:
    parts: list[Markup] = []
    for place, piece in enumerate(_MARK.split(shown)):
        if place % 2 == 0:
            parts.append(escape(piece))
        elif piece.startswith("`"):
            parts.append(Markup("<code>{}</code>").format(piece[1:-1]))
        else:
            parts.append(Markup("<strong>{}</strong>").format(_mark(piece[2:-2])))
    return Markup("").join(parts)
