"""Figures: one style, fixed width, clean and deterministic SVG, nothing of them leaks."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from tests.examination.sample import FIGURES, make_report

from whynet.core.outcome import Failed
from whynet.core.question import Figure
from whynet.examination.figures import draw_figures
from whynet.pages.drawing import clean_svg, draw_figure


def _points(count: int) -> Figure:
    def draw(figure: Any) -> None:
        figure.subplots().scatter(range(count), range(count))

    return Figure("points", draw, "", "points")


def _line(text: str) -> Figure:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([1, 10, 100], label=text)
        axes.set(title=text, yscale="log")
        axes.set_xticks([0, 1, 2], [text, "b", "c"])
        axes.legend()

    return Figure("line", draw, "", text)


def test_figures_have_the_width_of_the_style_on_white_with_a_text_alternative() -> None:
    root = ElementTree.fromstring(draw_figure(FIGURES[0]))
    assert root.get("viewBox") == "0 0 388.8 244.8"
    assert root.get("role") == "img" and root.get("aria-label") == FIGURES[0].alt
    first = next(node for node in root.iter() if node.tag.endswith("path"))
    assert first.get("fill") == "#ffffff" and "L 388.8 244.8" in first.get("d", "")


def test_the_same_figure_gives_the_same_bytes() -> None:
    for figure in (FIGURES[0], FIGURES[3], FIGURES[4]):
        assert draw_figure(figure) == draw_figure(figure)


def test_the_readers_own_settings_neither_matter_nor_change() -> None:
    plain = draw_figure(FIGURES[0])
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "x"}):
        before = dict(matplotlib.rcParams)
        assert draw_figure(FIGURES[0]) == plain
        assert dict(matplotlib.rcParams) == before


def test_ids_are_unique_over_all_figures_of_a_page() -> None:
    drawn = draw_figures(make_report())
    assert len(drawn) == len(FIGURES)
    ids = [i for svg in drawn.values() for i in re.findall(r'\bid="([^"]*)"', str(svg))]
    assert len(ids) > 50
    assert len(ids) == len(set(ids))
    for name, svg in drawn.items():
        used = re.findall(r'(?:href="#|url\(#)([^")]*)', str(svg))
        assert used and all(u.startswith(f"{name}-") for u in used)
        assert set(used) == set(re.findall(r'\bid="([^"]*)"', str(svg)))


def test_nothing_of_a_figure_reaches_the_rest_of_the_page() -> None:
    svg = draw_figure(FIGURES[2])
    assert "<style" not in svg and "style=" not in svg and "<!--" not in svg
    assert "<metadata" not in svg and "<?xml" not in svg and "DOCTYPE" not in svg


@pytest.mark.parametrize(("count", "pictures"), [(5000, 0), (5001, 1)])
def test_large_clouds_become_pictures(count: int, pictures: int) -> None:
    svg = draw_figure(_points(count))
    assert svg.count("<image ") == pictures
    assert ("data:image/png;base64," in svg) == bool(pictures)


def test_a_large_cloud_stays_small() -> None:
    assert len(draw_figure(_points(200_000))) < 300_000


@pytest.mark.parametrize(
    "text",
    ["</svg><script>x</script>", "-->", "$\\frac$ $", "a\x00b\x1b\ud800\u202e", "汉字", "$x^2$"],
)
def test_hostile_words_in_a_figure_are_only_drawn(text: str) -> None:
    svg = draw_figure(_line(text))
    root = ElementTree.fromstring(svg)
    assert {node.tag.rpartition("}")[2] for node in root.iter()} <= {
        "svg", "g", "path", "defs", "use", "clipPath", "rect", "text",
    }  # fmt: skip


def test_a_figure_that_raises_is_reported_and_the_others_are_drawn() -> None:
    def draw(figure: Any) -> None:
        raise KeyError("accuracy\u202e")

    report = make_report()
    first = report.answers[0]
    assert first.panel is not None
    panel = replace(first.panel, figures=(Figure("bad", draw, "", ""), FIGURES[1]))
    drawn = draw_figures(replace(report, answers=(replace(first, panel=panel),)))
    assert drawn["bad"] == Failed("KeyError: 'accuracy\\u202e'")
    assert str(drawn[FIGURES[1].name]).startswith("<svg ")


def test_cleaning_keeps_shapes_and_drops_the_rest() -> None:
    source = (
        '<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9" onload="x()">'
        '<style>*{fill:red}</style><script>x()</script><a xlink:href="javascript:x()">'
        '<rect id="r" width="9" style="fill: #fff; background: url(http://x); clip-path: url(#c)"/>'
        "</a>"
        '<clipPath id="c"><rect width="1"/></clipPath><use xlink:href="#r"/>'
        '<use href="http://evil/x.svg#a"/><image href="http://evil/x.png"/>'
        '<image href="data:image/svg+xml;base64,AAAA"/><foreignObject><p>x</p></foreignObject>'
        '<text x="1">a&lt;b<animate attributeName="x"/></text><path fill="url(http://evil)"/></svg>'
    )
    assert clean_svg(source, "p", 'say "x"') == (
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="say &#34;x&#34;" '
        'stroke-linejoin="round" stroke-linecap="butt" viewBox="0 0 9 9">'
        '<rect id="p-r" width="9" fill="#fff" clip-path="url(#p-c)"/>'
        '<clipPath id="p-c"><rect width="1"/></clipPath><use href="#p-r"/>'
        '<use/><image/><image/><text x="1">a&lt;b</text><path/></svg>'
    )


def test_pyplot_and_its_global_state_stay_out() -> None:
    code = (
        "import sys; from tests.examination.sample import FIGURES;"
        "from whynet.pages.drawing import draw_figure; draw_figure(FIGURES[0]);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    told = {"PYTHONPATH": f"{root}:{root / 'src'}", "PATH": "/usr/bin:/bin"}
    run = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
