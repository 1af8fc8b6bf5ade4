"""The strip: labels that never overlap or leave the drawing, whatever the numbers are."""

from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.ft2font import FT2Font

from whynet.core.estimate import Estimate
from whynet.core.question import Finding, Reference
from whynet.pages.axis import choose_axis, in_view, tick_labels
from whynet.pages.strip import WIDTH, lanes, spread, strip_svg, text_width

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SIZES = {"rl": (11.0, False), "tick": (10.5, False), "me": (12.0, True)}
INF = math.inf


def finding(
    estimate: Estimate,
    references: tuple[tuple[str, float, float], ...] = (),
    axis: tuple[float, float] | None = None,
    label: str = "this network",
) -> Finding:
    made = tuple(Reference(*reference) for reference in references)
    return Finding("k", "h", "n", "a", estimate, label, 0.5, "i", made, axis)


def measured(text: str, size: float, bold: bool) -> float:
    """Measure a text in DejaVu Sans, the widest face a reader is likely to have."""
    font = FT2Font(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")))
    font.set_size(1000, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64 * size / 1000


def boxes(svg: str) -> list[tuple[str, float, float, float, str]]:
    """Return kind, left, right, baseline and text of all labels as they will be drawn."""
    found = []
    pattern = r'<text class="(\w+)( mid| end)?" x="([\d.-]+)" y="([\d.]+)">(.*?)</text>'
    for kind, side, x, y, inner in re.findall(pattern, svg):
        bold, _, light = inner.partition('<tspan class="iv">')
        texts = [re.sub(r"&[#\w]+;", "&", t) for t in (bold, light.removesuffix("</tspan>"))]
        size, heavy = SIZES[kind]
        width = measured(texts[0], size, heavy) + measured(texts[1], size, False)
        left = float(x) - {"": 0.0, " mid": width / 2, " end": width}[side]
        found.append((kind, left, left + width, float(y), "".join(texts)))
    return found


def check_geometry(svg: str) -> None:
    height = float(re.search(rf'viewBox="0 0 {WIDTH:g} ([\d.]+)"', svg)[1])  # type: ignore[index]
    labels = boxes(svg)
    assert len(labels) == svg.count("<text")
    for _, left, right, baseline, text in labels:
        assert left >= -0.6 and right <= WIDTH + 0.6, text
        assert 8 <= baseline <= height - 3, text
    for one, other in combinations(labels, 2):
        apart = abs(one[3] - other[3]) >= 11
        assert apart or one[2] + 1 <= other[1] or other[2] + 1 <= one[1], (one, other)
    swatches = re.findall(r'x="([\d.]+)" y="([\d.]+)" width="7" height="7"', svg)
    for x, y in swatches:
        for kind, left, right, baseline, text in labels:
            if kind == "rl" and abs(baseline - float(y) - 7.5) < 2:
                assert float(x) + 7 <= left or float(x) >= right, text


HARD = {
    "three bands on one spot": finding(
        Estimate(0.97, 0.96, 0.98, "interval", unit="fraction"),
        (("nearest neighbor", 0.955, 0.975), ("linear model", 0.95, 0.972),
         ("other seeds", 0.962, 0.981)),
    ),
    "five references, four of no width in one place": finding(
        Estimate(0.97, 0.96, 0.98, "interval", unit="fraction"),
        (("nearest neighbor", 0.97, 0.97), ("linear model", 0.97, 0.97),
         ("other seeds", 0.97, 0.971),
         ("at initialization", 0.97, 0.97), ("shuffled labels", 0.1, 0.12)),
    ),
    "tiny": finding(Estimate(3e-7, 1e-7, 9e-7, "interval"), (("linear", 1e-3, 2e-3),)),
    "huge": finding(Estimate(1e300, 1e299, 1.5e300, "indicative"), (("x", 0, 0),)),
    "all floats": finding(Estimate(0.0, -1.7e308, 1.7e308, "interval"), (("x", 5e-324, 5e-324),)),
    "no bounds": finding(Estimate(5, -INF, INF, "certified", unit="px"), (("r", 4, INF),), (0, 10)),
    "outside": finding(
        Estimate(50, 40, 60, "interval", unit="bits"),
        (("below", -5, -3), ("above", 20, 22)), (0, 10),
    ),
    "zero": finding(Estimate(0, 0, 0, "exact")),
    "negative": finding(Estimate(-3.2, -4, -2.5, "interval", unit="nats"), (("start", -9, -8),)),
    "close together": finding(Estimate(1000000.2, 1000000.1, 1000000.3, "interval")),
    "long names": finding(
        Estimate(123456, 120000, 130000, "interval", unit="a unit of an unusual length"),
        (("W" * 200, 1e5, 1.1e5), ("another very long name, too long", 1.05e5, 1.15e5)),
        label="M" * 200,
    ),
    "not a number": finding(Estimate(math.nan, math.nan, math.nan, "exact"), (("x", math.nan, 1),)),
    "axis upside down": finding(Estimate(1, 1, 1, "exact"), axis=(5, 1)),
    "small share": finding(
        Estimate(0.002, 0.001, 0.004, "interval", unit="fraction"), (("r", 0.1, 0.25),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_labels_keep_apart_and_inside(name: str) -> None:
    check_geometry(strip_svg(HARD[name]))


NAMES = st.text("abcdefghiMWil Ø-", min_size=1, max_size=24)
NUMBERS = st.one_of(
    st.floats(-1e3, 1e3),
    st.floats(0, 1),
    st.floats(allow_nan=False, allow_infinity=True),
    st.integers(-5, 5).map(float),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted),
    st.lists(st.tuples(NAMES, NUMBERS, NUMBERS), max_size=5),
    st.sampled_from(["", "fraction", "count", "px"]),
    st.sampled_from(["interval", "certified", "indicative"]),
    st.one_of(st.none(), st.tuples(NUMBERS, NUMBERS)),
)
def test_labels_keep_apart_for_any_numbers(
    numbers: list[float],
    references: list[tuple[str, float, float]],
    unit: str,
    kind: str,
    axis: tuple[float, float] | None,
) -> None:
    low, value, high = numbers
    estimate = Estimate(value, low, high, kind, unit=unit)  # type: ignore[arg-type]
    svg = strip_svg(finding(estimate, tuple(references), axis))
    drawn = re.sub(r'aria-label="[^"]*"|>[^<]*<', "", svg)
    assert "nan" not in drawn and "inf" not in drawn
    check_geometry(svg)


@given(st.text("abcXYZ 0123456789.,%[]−×MWil@&", max_size=40), st.booleans())
def test_widths_of_texts_are_never_underestimated(text: str, bold: bool) -> None:
    assert measured(text, 12, bold) <= text_width(text, 12, bold) + 0.5


def test_text_stays_readable_on_a_phone() -> None:
    assert min(size for size, _ in SIZES.values()) * 340 / WIDTH >= 9


def _number(pattern: str, svg: str) -> float:
    found = re.search(pattern, svg)
    assert found is not None, pattern
    return float(found[1])


def test_dot_bar_and_band_stand_where_the_numbers_are() -> None:
    svg = strip_svg(
        finding(Estimate(0.5, 0.25, 0.75, "interval", unit="fraction"), (("r", 0.0, 0.1),), (0, 1))
    )
    assert _number(r'<circle class="dot" cx="([\d.]+)"', svg) == 180
    assert re.search(r'class="bar" d="M97 [\d.]+H263"', svg)
    assert re.search(r'class="ref r0" x="14" y="[\d.]+" width="33.2"', svg)
    assert [b[4] for b in boxes(svg) if b[0] == "tick"] == ["0 %", "25 %", "50 %", "75 %", "100 %"]


def test_a_band_without_width_is_still_seen() -> None:
    svg = strip_svg(finding(Estimate(0.5, 0.4, 0.6, "interval"), (("r", 0.2, 0.2),), (0, 1)))
    assert _number(r'class="ref r0" x="[\d.]+" y="[\d.]+" width="([\d.]+)"', svg) >= 3


def test_an_exact_number_has_a_dot_and_no_bar() -> None:
    svg = strip_svg(finding(Estimate(31.4, 31.4, 31.4, "exact"), (("r", 20, 40),)))
    assert "bar" not in svg and svg.count("<circle") == 1
    assert "exact" in svg


def test_the_kind_is_seen_and_said() -> None:
    drawn = {
        kind: strip_svg(finding(Estimate(5, 4, 6, kind)))  # type: ignore[arg-type]
        for kind in ("interval", "certified", "indicative")
    }
    assert drawn["certified"].count('class="wall"') == 2 and "wall" not in drawn["interval"]
    assert 'class="bar hint"' in drawn["indicative"] and "hint" not in drawn["interval"]
    assert " certified</tspan>" in drawn["certified"]
    assert " indicative</tspan>" in drawn["indicative"]


def test_what_lies_outside_is_held_at_the_end_with_an_arrow() -> None:
    svg = strip_svg(HARD["outside"])
    assert "<circle" not in svg
    assert svg.count('<path class="dot"') == 1
    assert svg.count('<path class="ref r0"') == 1 and svg.count('<path class="ref r1"') == 1
    assert "50 bits" in svg
    coordinates = [float(x) for x in re.findall(r' (?:x|cx|d)="M?([\d.-]+)', svg)]
    assert all(-1 <= x <= WIDTH for x in coordinates)


def test_bands_that_overlap_get_lanes_of_their_own() -> None:
    assert lanes([(0, 10), (5, 15), (20, 30)]) == [(0, 2), (1, 2), (0, 1)]
    assert lanes([(20, 30), (0, 10), (8, 12), (12, 15)]) == [(0, 1), (0, 2), (1, 2), (0, 2)]
    assert lanes([]) == []


def test_boxes_are_spread_as_little_as_possible() -> None:
    assert spread([10.0, 200.0], [50.0, 50.0]) == [10.0, 200.0]
    left, right = spread([100.0, 100.0], [50.0, 50.0]) or (0, 0)
    assert (left + right) / 2 == pytest.approx(100) and right - left == pytest.approx(59)
    assert spread([-30.0], [50.0]) == [0.0]
    assert spread([340.0], [50.0]) == [WIDTH - 50]
    assert spread([0.0, 0.0], [200.0, 200.0]) is None


def test_axes_have_round_ends_and_go_logarithmic_where_ratios_count() -> None:
    accuracy = choose_axis([0.889, 0.989, 0.952], "fraction")
    assert (accuracy.low, accuracy.high, accuracy.log) == (0.85, 1.0, False)
    assert accuracy.labels == ("85 %", "90 %", "95 %", "100 %")
    widths = choose_axis([48], "count", (0, 128))
    assert widths.labels == ("0", "32", "64", "96", "128")
    ratios = choose_axis([0.4, 2, 31.4, 200], "")
    assert ratios.log and ratios.labels == ("1", "10", "100")
    assert ratios.place(ratios.low) == pytest.approx(0)
    assert ratios.place(ratios.high) == pytest.approx(1)
    assert ratios.place(-1) == -INF
    assert not choose_axis([0.004, 0.97], "fraction").log
    assert choose_axis([3.0], "").low == 0
    assert choose_axis([1e-12], "").high >= 1e-12
    assert choose_axis([-5e-324, 5e-324], "").low < 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=True), max_size=6), st.sampled_from(["", "fraction"]))
def test_every_axis_shows_its_values_and_has_different_ticks(
    values: list[float], unit: str
) -> None:
    axis = choose_axis(values, unit)
    assert axis.low < axis.high
    assert 1 <= len(axis.ticks) <= 8
    assert len(set(axis.labels)) == len(axis.labels)
    assert list(axis.ticks) == sorted(axis.ticks)
    for value in values:
        if value == 0 or 1e-299 < abs(value) < 1e299:
            assert -1e-6 <= axis.place(value) <= 1 + 1e-6


def test_ticks_are_written_short_and_true() -> None:
    assert tick_labels([0.0, 0.25, 0.5], "") == ("0", "0.25", "0.50")
    assert tick_labels([0.001, 0.1, 1, 10], "fraction") == ("0.1 %", "10 %", "100 %", "1,000 %")
    assert tick_labels([-2e-5, 0, 1e-5], "") == ("−2×10⁻⁵", "0", "10⁻⁵")
    assert tick_labels([2.5, 5, 7.5], "") == ("2.5", "5", "7.5")


def test_a_strip_is_said_in_words() -> None:
    svg = strip_svg(
        finding(
            Estimate(-0.02, -0.03, 0.01, "interval", unit="fraction", over="examples"),
            (("seeds", 0.01, 0.02), ("start", 0.5, 0.5)),
        )
    )
    words = re.search(r'aria-label="([^"]*)"', svg)
    assert words is not None
    assert words[1] == (
        "this network: minus 2.0 percent, 95 percent interval minus 3.0 percent to 1.0 percent, "
        "over examples; seeds: 1.0 percent to 2.0 percent; start: 50.0 percent."
    )


def test_names_on_a_strip_are_escaped() -> None:
    payload = '"><script>alert(1)</script></svg>\u202e\x00'
    svg = strip_svg(
        finding(Estimate(5, 4, 6, "interval", unit=payload), ((payload, 1, 2),), label=payload)
    )
    assert "<script" not in svg and svg.count("</svg>") == 1
    assert not re.search("[\x00\u202e]", svg)


def test_a_reference_given_backwards_is_drawn_forwards() -> None:
    turned = finding(Estimate(0.5, 0.4, 0.6, "interval"), (("seeds", 0.9, 0.8),))
    straight = finding(Estimate(0.5, 0.4, 0.6, "interval"), (("seeds", 0.8, 0.9),))
    assert strip_svg(turned).split("<rect")[1] == strip_svg(straight).split("<rect")[1]


def test_a_reference_far_away_does_not_squeeze_the_number() -> None:
    own = Estimate(0.02, 0.008, 0.042, "certified", unit="fraction")
    near, far = Reference("near", 0.017, 0.018), Reference("far", 0.48, 1.0)
    seen = in_view(own, [far, near])
    assert (min(seen), max(seen)) == (0.008, 0.042)
    # One that alone is there is always shown, and so is what leaves the number legible.
    assert max(in_view(own, [far])) == 1.0
    wide = Reference("wide", 0.2, 0.4)
    assert max(in_view(own, [near, wide])) == 0.4
    # A logarithmic axis has room for all.
    sharp = Estimate(2.0, 1.9, 2.1, "interval")
    assert max(in_view(sharp, [Reference("a", 1.0, 1.1), Reference("b", 4e5, 5e5)])) == 5e5
