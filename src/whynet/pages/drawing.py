"""From a question's figure to an SVG fit for a page: one style, clean, deterministic."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.resources import as_file, files
from typing import Any

import matplotlib.style
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.collections import Collection, PathCollection, QuadMesh
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.text import Text

from whynet.core.question import Figure
from whynet.pages.words import slug, visible

WIDTH = 5.4
"""Inches; every figure of a report has this width."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_POINTS = 5000
_DPI = 160
_LABEL = 300
_UNDATED = {
    "svg": ("Date", "Creator", "Format", "Type"),
    "pdf": ("CreationDate", "Creator", "Producer"),
}
"""Format to the entries of a file that would differ between runs."""
_KEPT = _words(
    "svg g path defs use clipPath rect circle ellipse line polyline polygon image text tspan "
    "linearGradient radialGradient stop pattern"
)
_ATTRIBUTES = _words(
    "d x y x1 x2 y1 y2 cx cy r rx ry width height points transform viewBox preserveAspectRatio "
    "clip-path clip-rule clipPathUnits fill fill-opacity fill-rule stroke stroke-width "
    "stroke-opacity stroke-linecap stroke-linejoin stroke-miterlimit stroke-dasharray "
    "stroke-dashoffset opacity image-rendering offset stop-color stop-opacity gradientUnits "
    "gradientTransform patternUnits patternTransform text-anchor font-size font-family "
    "font-weight font-style"
)
_DATA_IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]*")
_LOCAL = re.compile(r"url\(\s*['\"]?#([^)'\"\s]+)['\"]?\s*\)")


def draw_figure(figure: Figure) -> Markup:
    """Draw one figure on a white card of fixed width.

    Clouds of more than 5000 points become a picture inside the drawing. Text becomes paths, so
    that it reads the same on every machine and in print; the text alternative carries the words.

    Args:
        figure: what to draw.

    """
    return placed(figure, _drawn(figure, ("svg",))["svg"])


def figure_files(figure: Figure) -> dict[str, bytes]:
    """Draw a figure for print: format (`svg`, `pdf`) to what its file holds.

    Equal figures give equal files: no date stands in them.

    Args:
        figure: what to draw.

    """
    return _drawn(figure, tuple(_UNDATED))


def placed(figure: Figure, svg: bytes) -> Markup:
    """Return the file of a figure as it stands in a page."""
    return clean_svg(svg.decode(), slug(figure.name), figure.alt)


@contextmanager
def styled(*, mathematics: bool = True) -> Iterator[None]:
    """Draw inside in the one style of all figures.

    Args:
        mathematics: whether dollar signs begin and end formulas.

    """
    source = files("whynet.pages").joinpath("whynet.mplstyle")
    with as_file(source) as path, warnings.catch_warnings():
        # foreign labels may hold characters the face lacks; a box is drawn for them
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        style: list[str | dict[str, Any]] = ["default", str(path)]
        with matplotlib.style.context([*style, {"text.parse_math": mathematics}]):
            yield


def new_figure(draw: Callable[[Canvas], None], height: float = 2.7) -> Canvas:
    """Return a figure of the width of a page, drawn in the one style.

    Args:
        draw: draws on the empty figure it is given.
        height: in inches.

    """
    with styled():
        canvas = Canvas(figsize=(WIDTH, height))
        draw(canvas)
    return canvas


def _drawn(figure: Figure, kinds: Sequence[str]) -> dict[str, bytes]:
    try:
        return _saved(figure, kinds, mathematics=True)
    except ValueError:
        # a foreign label held dollar signs that are no mathematics: draw them as they stand
        return _saved(figure, kinds, mathematics=False)


def _saved(figure: Figure, kinds: Sequence[str], mathematics: bool) -> dict[str, bytes]:
    saved = {}
    with styled(mathematics=mathematics):
        canvas = Canvas(figsize=(WIDTH, figure.height))
        figure.draw(canvas)
        _tidy(canvas)
        for kind in kinds:
            stream = io.BytesIO()
            metadata = dict.fromkeys(_UNDATED[kind])
            canvas.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)
            saved[kind] = stream.getvalue()
    return saved


def _tidy(canvas: Canvas) -> None:
    """Make hidden characters visible, clouds pictures, and take the grid off images."""
    for artist in canvas.findobj():
        if isinstance(artist, Text):
            artist.set_text(visible(artist.get_text(), _LABEL))
        elif _is_cloud(artist):
            artist.set_rasterized(True)
    for axes in canvas.axes:
        if axes.images:
            axes.grid(False)
        for axis in (axes.xaxis, axes.yaxis):
            # texts of ticks are made while drawing: the formatter is where to catch them
            formatter = axis.get_major_formatter()
            shown = partial(_visible_ticks, formatter.format_ticks)
            formatter.format_ticks = shown  # type: ignore[method-assign]


def _visible_ticks(write: Callable[[Any], list[str]], values: Any) -> list[str]:
    return [visible(text, _LABEL) for text in write(values)]


def clean_svg(source: str, prefix: str, alt: str) -> Markup:
    """Make an SVG fit for standing inside a page beside others.

    What is not on a short list of shapes and attributes falls away: scripts, links, style
    sheets (they would reach beyond the drawing), comments, remote addresses. Inline styles
    become attributes. Ids that nothing refers to fall away, the others get a prefix.

    Args:
        source: the SVG.
        prefix: stands before every id.
        alt: what a reader who cannot see the drawing should know.

    """
    bare = re.sub(r"<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^>\[]*>", "", source, flags=re.DOTALL)
    root = ElementTree.fromstring(bare)
    used = {link[1:] for node in root.iter() if (link := _link(node)).startswith("#")}
    used |= {
        name
        for node in root.iter()
        for text in node.attrib.values()
        for name in _LOCAL.findall(text)
    }
    body = _written(root, f"{prefix}-", used)
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{}"').format(
        visible(alt)
    )
    joins = Markup(' stroke-linejoin="round" stroke-linecap="butt"')
    return Markup("{}{}{}").format(head, joins, body.removeprefix("<svg"))


def _written(node: ElementTree.Element, prefix: str, used: set[str]) -> Markup:
    name = _local(node.tag)
    inner = Markup("").join(_written(child, prefix, used) for child in node)
    if name in ("text", "tspan") and node.text:
        inner = escape(visible(node.text)) + inner
    if name == "a":
        return inner
    if name not in _KEPT:
        return Markup("")
    attributes = Markup("").join(
        Markup(' {}="{}"').format(Markup(key), value)
        for key, value in _attributes(node, prefix, used).items()
    )
    tag = Markup(name)
    if not inner:
        return Markup("<{}{}/>").format(tag, attributes)
    return Markup("<{}{}>{}</{}>").format(tag, attributes, inner, tag)


def _attributes(node: ElementTree.Element, prefix: str, used: set[str]) -> dict[str, str]:
    found = {_local(key): value for key, value in node.attrib.items()}
    for rule in found.pop("style", "").split(";"):
        key, _, value = rule.partition(":")
        found[key.strip()] = value.strip()
    kept: dict[str, str] = {}
    if found.get("id") in used:
        kept["id"] = prefix + found["id"]
    link = _link(node)
    if link.startswith("#"):
        kept["href"] = f"#{prefix}{link[1:]}"
    elif _local(node.tag) == "image" and _DATA_IMAGE.fullmatch(link):
        kept["href"] = link
    for key, value in found.items():
        if key in _ATTRIBUTES and value:
            value = _LOCAL.sub(lambda match: f"url(#{prefix}{match[1]})", value)
            if "url(" not in value or value.startswith(f"url(#{prefix}"):
                kept[key] = " ".join(value.split())
    return kept


def _link(node: ElementTree.Element) -> str:
    found = {_local(key): value for key, value in node.attrib.items()}
    return found.get("href", "").strip()


def _local(name: object) -> str:
    return str(name).rpartition("}")[2]


def _is_cloud(artist: Artist) -> bool:
    if isinstance(artist, PathCollection):
        return len(artist.get_offsets()) > _POINTS  # type: ignore[arg-type]
    if isinstance(artist, Line2D):
        return artist.get_marker() not in ("None", "none", "", " ", None) and (
            len(artist.get_xdata()) > _POINTS  # type: ignore[arg-type]
        )
    if isinstance(artist, QuadMesh):
        cells = artist.get_array()
        return cells is not None and cells.size > _POINTS
    return isinstance(artist, Collection) and len(artist.get_paths()) > _POINTS
