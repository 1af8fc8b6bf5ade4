"""The strip: a number with its interval and its references on one axis, as an SVG.

It is whynet's signature: a reader sees at once whether a number says anything. The drawing
carries classes and no colors; the page's style sheet colors it, in light, in dark and in print.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from markupsafe import Markup

from whynet.core.estimate import Estimate, format_interval, format_number
from whynet.core.question import Finding, Reference
from whynet.pages.axis import Axis, choose_axis, in_view
from whynet.pages.words import powers, visible

WIDTH = 360.0
"""Units of the drawing's width; at 340 px a text of 11 units is 10.4 px high."""

_LEFT, _RIGHT = 14.0, WIDTH - 14.0
_BAND = 20.0
_LANE = 8.0
_ROW = 15.0
_GAP = 9.0
_SWATCH = 11.0
_SIZE = {"rl": 11.0, "tick": 10.5, "me": 12.0}
_COLORS = 6
_NARROW = frozenset("iIjl.,:;'|![]() ftr-/\\")
_MIDDLE = frozenset("+−×=<>~^&#")
_WIDE = frozenset("mwMW@%—…")


@dataclass(frozen=True)
class Label:
    """A text and where it stands: `left` and `baseline` in units of the drawing.

    `light` is the rest of the text, in lighter type.
    """

    text: str
    left: float
    baseline: float
    width: float
    kind: str
    light: str = ""


def strip_svg(finding: Finding) -> Markup:
    """Draw the strip of a finding.

    Args:
        finding: its estimate, label, references and axis are drawn.

    Returns:
        one `<svg>` of fixed width `WIDTH` and the height it needs, with a text alternative.

    """
    estimate = finding.estimate
    references = [_ordered(ref) for ref in finding.references if _drawable(ref)]
    axis = choose_axis(in_view(estimate, references), estimate.unit, finding.axis)
    names = reference_labels(axis, references)
    top = max((name.baseline for name in names), default=0.0) + 6
    deep = max((count for _, count in lanes([_span(axis, ref) for ref in references])), default=1)
    # three bands in one heap leave no room for the number among them: it stands below
    band = _BAND if deep < 3 else _LANE * deep
    line = top + band + (0.0 if deep < 3 else 13.0)
    ticks = tick_row(axis, line + 15)
    mine = own_labels(axis, estimate, finding.label, line + 32)
    height = mine[-1].baseline + 5
    parts = [
        *_bands(axis, references, top, band),
        *_scale(axis, line),
        *_number(axis, estimate, top + band / 2 if deep < 3 else line - 7),
        *(_reference_name(name, place, len(names) > 1) for place, name in enumerate(names)),
        *(_text(label) for label in (*ticks, *mine)),
    ]
    return Markup(
        '<svg class="strip" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(_n(WIDTH), _n(height), spoken(finding), Markup("").join(parts))


def spoken(finding: Finding) -> str:
    """Say a strip in words, for those who cannot see it."""
    estimate = finding.estimate
    said = f"{visible(finding.label, 80)}: {_said(estimate.value, estimate.unit)}"
    if estimate.kind == "exact":
        said += ", exact"
    else:
        name = {"certified": "certified between", "indicative": "indicative interval"}.get(
            estimate.kind, f"{100 * estimate.level:.3g} percent interval"
        )
        said += f", {name} {_said(estimate.low, estimate.unit)}"
        said += " and " if estimate.kind == "certified" else " to "
        said += _said(estimate.high, estimate.unit)
        said += f", over {visible(estimate.over, 80)}" if estimate.over else ""
    for reference in finding.references:
        low, high = (_said(end, estimate.unit) for end in (reference.low, reference.high))
        said += f"; {visible(reference.name, 80)}: " + (low if low == high else f"{low} to {high}")
    return said + "."


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Estimate how wide a text is at most, in the widest of the usual plain faces."""
    total = 0.0
    for character in text:
        if character in _NARROW:
            total += 0.42
        elif character in _WIDE or ord(character) > 0x2E00:
            total += 1.02
        elif character.isupper() or character in _MIDDLE:
            total += 0.85
        else:
            total += 0.645
    return total * size * (1.09 if bold else 1.0)


def reference_labels(axis: Axis, references: Sequence[Reference]) -> list[Label]:
    """Place the names of the references above their bands, in as few rows as they need.

    Names in one row never overlap; they move sideways a little, and into a further row where
    they would have to move far.
    """
    if not references:
        return []
    swatch = _SWATCH if len(references) > 1 else 0.0
    size = _SIZE["rl"]
    order = sorted(range(len(references)), key=lambda i: sum(_span(axis, references[i])))
    texts = [_cut(visible(references[i].name, 80), size, WIDTH - swatch) for i in order]
    widths = [text_width(text, size) + swatch for text in texts]
    wanted = [sum(_span(axis, references[i])) / 2 for i in order]
    for count in range(1, len(order) + 1):
        rows = _rows(wanted, widths, count)
        lefts = [0.0] * len(order)
        fits = True
        for row in range(count):
            members = [m for m in range(len(order)) if rows[m] == row]
            room = [widths[m] for m in members]
            placed = spread([wanted[m] - widths[m] / 2 for m in members], room)
            fits = fits and placed is not None
            for member, left in zip(members, placed or [], strict=False):
                lefts[member] = left
                fits = fits and abs(left + widths[member] / 2 - wanted[member]) <= 75
        if fits:
            break
    labels = [
        Label(texts[m], lefts[m], _ROW * (rows[m] + 1) - 3, widths[m], "rl")
        for m in range(len(order))
    ]
    # back to the order in which the references were given, which is that of their colors
    return [label for _, label in sorted(zip(order, labels, strict=True), key=lambda pair: pair[0])]


def _rows(centers: Sequence[float], widths: Sequence[float], count: int) -> list[int]:
    """Give each name, from left to right, the row with most room left; the lowest of equals."""
    ends = [-math.inf] * count
    rows = []
    for center, width in zip(centers, widths, strict=True):
        row = min(reversed(range(count)), key=lambda r: ends[r])
        ends[row] = max(ends[row], center - width / 2) + width
        rows.append(row)
    return rows


def spread(lefts: Sequence[float], widths: Sequence[float]) -> list[float] | None:
    """Move boxes on the width of the strip as little as possible so that none overlap.

    The least-squares solution: isotonic regression by pooling neighbors, then clipping.

    Args:
        lefts: where the boxes want to stand, in their order from left to right.
        widths: how wide they are.

    Returns:
        where they stand; None where they do not fit side by side.

    """
    if not widths:
        return []
    offsets = [sum(widths[:i]) + _GAP * i for i in range(len(widths))]
    room = WIDTH - (offsets[-1] + widths[-1])
    if room < 0:
        return [0.0] if len(lefts) == 1 else None
    pools: list[tuple[float, int]] = []
    for left, offset in zip(lefts, offsets, strict=True):
        mean, count = left - offset, 1
        while pools and pools[-1][0] >= mean:
            before, members = pools.pop()
            mean = (mean * count + before * members) / (count + members)
            count += members
        pools.append((mean, count))
    bases = [min(max(mean, 0.0), room) for mean, count in pools for _ in range(count)]
    return [base + offset for base, offset in zip(bases, offsets, strict=True)]


def tick_row(axis: Axis, baseline: float) -> list[Label]:
    """Place the labels of the ticks; leave out, evenly, those that have no room."""
    size = _SIZE["tick"]
    for stride in range(1, len(axis.ticks) + 1):
        row = []
        for tick, text in list(zip(axis.ticks, axis.labels, strict=True))[::stride]:
            width = text_width(text, size)
            left = min(max(_x(axis, tick) - width / 2, 0.0), WIDTH - width)
            row.append(Label(text, left, baseline, width, "tick"))
        if all(a.left + a.width + 6 <= b.left for a, b in pairwise(row)):
            return row
    return row


def own_labels(axis: Axis, estimate: Estimate, name: str, baseline: float) -> list[Label]:
    """Place the number's own name and value under it, in one line or, where long, in two."""
    size = _SIZE["me"]
    value, _, rest = powers(visible(format_interval(estimate), 160)).partition(" [")
    rest = f" [{rest}" if rest else ""
    if estimate.kind in ("certified", "indicative"):
        rest += f" {estimate.kind}"
    name = visible(name, 80)
    lines = [(f"{name} {value}", rest)]
    if text_width(f"{name} {value}{rest}", size, bold=True) > WIDTH:
        lines = [(name, ""), (value, rest)]
    labels = []
    for place, (bold, light) in enumerate(lines):
        text = _cut(bold, size, WIDTH, bold=True)
        light = _cut(light, size, WIDTH - text_width(text, size, bold=True)) if light else ""
        width = text_width(text, size, bold=True) + text_width(light, size)
        left = min(max(_x(axis, estimate.value) - width / 2, 0.0), WIDTH - width)
        labels.append(Label(text, left, baseline + place * _ROW, width, "me", light))
    # Where an edge holds one of two lines, it holds both, so that they begin or end together.
    if any(label.left == 0 for label in labels):
        return [replace(label, left=0.0) for label in labels]
    if any(label.left + label.width >= WIDTH - 0.01 for label in labels):
        return [replace(label, left=WIDTH - label.width) for label in labels]
    return labels


def _x(axis: Axis, value: float) -> float:
    """Return where a value stands in the drawing, held between the ends of the axis."""
    place = axis.place(value)
    place = 0.5 if math.isnan(place) else min(max(place, 0.0), 1.0)
    return _LEFT + place * (_RIGHT - _LEFT)


def _outside(axis: Axis, value: float) -> int:
    place = axis.place(value)
    return -1 if place < -1e-9 else (1 if place > 1 + 1e-9 else 0)


def _span(axis: Axis, reference: Reference) -> tuple[float, float]:
    """Return the ends of a reference's band, at least three units apart."""
    left, right = _x(axis, reference.low), _x(axis, reference.high)
    if right - left < 3:
        middle = min(max((left + right) / 2, _LEFT + 1.5), _RIGHT - 1.5)
        left, right = middle - 1.5, middle + 1.5
    return left, right


def lanes(spans: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Give each band a lane of its own among those it overlaps.

    Returns:
        for each band its lane, and how many lanes its heap of overlapping bands has.

    """
    order = sorted(range(len(spans)), key=lambda place: spans[place])
    lane, heap, end, heaps = dict.fromkeys(order, 0), dict.fromkeys(order, 0), -math.inf, 0
    for rank, place in enumerate(order):
        left = spans[place][0]
        heaps += left > end + 1
        end = max(end, spans[place][1])
        heap[place] = heaps
        taken = {lane[other] for other in order[:rank] if spans[other][1] + 1 >= left}
        lane[place] = next(free for free in range(len(spans)) if free not in taken)
    most = {h: 1 + max(lane[p] for p in order if heap[p] == h) for h in set(heap.values())}
    return [(lane[place], most[heap[place]]) for place in range(len(spans))]


def _bands(
    axis: Axis, references: Sequence[Reference], top: float, band: float
) -> Iterable[Markup]:
    spans = [_span(axis, reference) for reference in references]
    for place, ((left, right), (lane, count)) in enumerate(zip(spans, lanes(spans), strict=True)):
        height = band / count
        y = top + lane * height
        color = place % _COLORS
        yield Markup('<rect class="ref r{}" x="{}" y="{}" width="{}" height="{}"/>').format(
            color, _n(left), _n(y), _n(right - left), _n(height - (1 if count > 1 else 0))
        )
        low, high = references[place].low, references[place].high
        for side in sorted({_outside(axis, low), _outside(axis, high)} - {0}):
            yield _arrow(side, y + height / 2, f"ref r{color}", min(height / 2, 5.0))


def _scale(axis: Axis, y: float) -> Iterable[Markup]:
    line = Markup('<path class="axis" d="M{} {}H{}"/>')
    yield line.format(_n(_LEFT), _n(y), _n(_RIGHT))
    tick = Markup('<path class="axis" d="M{} {}v4"/>')
    for value in axis.ticks:
        yield tick.format(_n(_x(axis, value)), _n(y))


def _number(axis: Axis, estimate: Estimate, y: float) -> Iterable[Markup]:
    if math.isnan(estimate.value):
        return
    left, right = _x(axis, estimate.low), _x(axis, estimate.high)
    if right - left > 0.05:
        style = " hint" if estimate.kind == "indicative" else ""
        yield Markup('<path class="bar{}" d="M{} {}H{}"/>').format(
            style, _n(left), _n(y), _n(right)
        )
    for end, x in ((estimate.low, left), (estimate.high, right)):
        if estimate.kind == "certified" and right > left and not _outside(axis, end):
            yield Markup('<path class="wall" d="M{} {}v9"/>').format(_n(x), _n(y - 4.5))
    sides = {_outside(axis, end) for end in (estimate.low, estimate.high, estimate.value)} - {0}
    for side in sorted(sides):
        yield _arrow(side, y, "dot", 5.5)
    if not _outside(axis, estimate.value):
        yield Markup('<circle class="dot" cx="{}" cy="{}" r="5"/>').format(
            _n(_x(axis, estimate.value)), _n(y)
        )


def _arrow(side: int, y: float, name: str, half: float) -> Markup:
    """Point out of the axis, to the left (-1) or to the right (1)."""
    foot = _RIGHT + 1 if side > 0 else _LEFT - 1
    return Markup('<path class="{}" d="M{} {}l{} {}l{} {}z"/>').format(
        name, _n(foot), _n(y - half), _n(9.0 * side), _n(half), _n(-9.0 * side), _n(half)
    )


def _reference_name(label: Label, place: int, swatch: bool) -> Markup:
    """Write a reference's name, with a square of its color where there are several."""
    if not swatch:
        return _text(label)
    return Markup(
        '<rect class="ref r{}" x="{}" y="{}" width="7" height="7"/><text class="rl" x="{}" y="{}">'
        "{}</text>"
    ).format(
        place % _COLORS,
        _n(label.left),
        _n(label.baseline - 7.5),
        _n(label.left + _SWATCH),
        _n(label.baseline),
        label.text,
    )


def _text(label: Label) -> Markup:
    """Write a label in the middle of its room, or at the edge where it was held there.

    Its width is an upper estimate: the room is kept whatever face the reader has.
    """
    light = Markup('<tspan class="iv">{}</tspan>').format(label.light) if label.light else ""
    side, x = " mid", label.left + label.width / 2
    if label.left <= 0.01:
        side, x = "", 0.0
    elif label.left + label.width >= WIDTH - 0.01:
        side, x = " end", WIDTH
    return Markup('<text class="{}{}" x="{}" y="{}">{}{}</text>').format(
        label.kind, side, _n(x), _n(label.baseline), label.text, light
    )


def _cut(text: str, size: float, room: float, bold: bool = False) -> str:
    if text_width(text, size, bold) <= room:
        return text
    while text and text_width(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _drawable(reference: Reference) -> bool:
    return not (math.isnan(reference.low) or math.isnan(reference.high))


def _ordered(reference: Reference) -> Reference:
    low, high = sorted((reference.low, reference.high))
    return Reference(reference.name, low, high)


def _said(value: float, unit: str) -> str:
    return visible(format_number(value, unit), 80).replace(" %", " percent").replace("−", "minus ")


def _n(number: float) -> str:
    """Write a coordinate, short."""
    return f"{number:.1f}".rstrip("0").rstrip(".")
