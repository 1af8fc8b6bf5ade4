"""What all pages share: the style sheet, its hash, and templates that escape everything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from whynet.pages.words import visible

LONGEST = 4000
"""Characters of a text that passes into a page at most."""


@cache
def style() -> tuple[Markup, str]:
    """Return the style sheet, and the hash that the content policy of a page names."""
    text = files("whynet.pages").joinpath("page.css").read_text(encoding="utf-8")
    return Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def environment(package: str, filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """Return the templates of a package; whatever they show is escaped, and nothing is hidden.

    Args:
        package: dotted name of the package that holds a folder `templates`.
        filters: by name.

    """
    made = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(filters)
    return made


def _shown(value: object) -> object:
    """Let nothing hidden pass: the last gate of every text on the way into the page."""
    return value if isinstance(value, Markup) else visible(value, LONGEST)
