"""The report's page: nothing foreign is run, nothing is fetched, everything can be read."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.examination.sample import FIGURES, make_report

from whynet.core.outcome import Failed
from whynet.core.question import Figure
from whynet.examination.page import FIRST_SCREEN, render_page
from whynet.pages.words import visible

VOID = {"meta", "br", "hr", "img", "input", "link"}
_TAGS = (
    "html head meta title style body a header nav main section footer h1 h2 h3 p ul ol li div span "
    "b strong i cite code bdi details summary figure figcaption table caption thead tbody tr th td "
    "dl dt dd svg g path defs use clippath rect circle image text tspan"
)
TAGS = set(_TAGS.split())
PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}}{% raw %}",
    "</svg></title></style><svg onload=alert(1)>",
    "javascript:alert(1)",
    "\" onmouseover=alert(1) x='",
    "evil\u202egnp.exe\u2066",
    "nul\x00esc\x1b[31m\x07\ud800",
    "`<b>`**<i>**]]>-->",
    "&lt;script&gt;&#60;script&#62;",
    "$\\frac$ $x$",
]
STRUCTURE = {"state", "status", "kind", "instrument", "uses", "may_use", "references"}


class Page(HTMLParser):
    """Walks a page; fails where a tag is not closed or not opened."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} stands twice"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"path", "rect", "circle", "use", "image", "g", "defs"}
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture(scope="module")
def html() -> str:
    return render_page(make_report())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def poisoned(value: Any, payload: str, field: str = "") -> Any:
    """Replace every text in a report, whoever wrote it, by a payload."""
    if field in STRUCTURE or (field == "name" and isinstance(value, Figure)):
        return value
    if isinstance(value, str):
        return value if value == "fraction" else payload
    if isinstance(value, tuple):
        return tuple(poisoned(item, payload, field) for item in value)
    if isinstance(value, dict):
        return {key: poisoned(item, payload, field) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = {"name", "draw"} if isinstance(value, Figure) else set()
        changes = {
            entry.name: poisoned(getattr(value, entry.name), payload, entry.name)
            for entry in dataclasses.fields(value)
            if entry.name not in kept
        }
        return replace(value, **changes)
    return value


def _check_harmless(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag in TAGS, tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "srcset", "action", "data", "formaction", "xlink:href"):
            assert name not in attributes
        link = attributes.get("href", "#")
        if tag == "a":
            assert re.fullmatch(r"#[\w-]+|https://arxiv\.org/abs/[\w./-]+", link), link
        elif tag == "image":
            assert link.startswith("data:image/png;base64,")
        else:
            assert link.startswith("#")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_is_shown_and_never_run(payload: str) -> None:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], label=payload)
        axes.set(title=payload, xlabel=payload)
        axes.legend()

    report = poisoned(make_report(), payload)
    first = report.answers[0]
    figure = Figure("hostile", draw, payload, payload)
    panel = replace(first.panel, figures=(figure,))
    others = [
        replace(a, panel=a.panel and replace(a.panel, figures=())) for a in report.answers[1:]
    ]
    report = replace(report, answers=(replace(first, panel=panel), *others))
    html = render_page(report)
    html.encode("utf-8")
    page = Page(html)
    _check_harmless(page)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    shown = re.sub(r"[`*]", "", visible(payload))
    assert re.sub(r"[`*]", "", page.text).count(shown) > 60
    assert "could not be drawn" not in page.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)


def test_a_name_of_ten_megabytes_is_cut_with_a_note() -> None:
    report = make_report()
    long = "<b>" + "x" * 10_000_000
    html = render_page(
        replace(poisoned(report, long), answers=poisoned(report.answers[5:], long), provenance=()),
        figures={},
    )
    assert len(html) < 1_000_000
    assert "[cut here, 10,000,003 characters in all]" in html


def test_the_page_is_well_formed_and_all_inner_links_lead_somewhere(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for link in page.values("href"):
        assert not link.startswith("#") or link[1:] in ids, link
    for target in page.values("aria-labelledby"):
        assert target in ids
    referred = {
        m for _, a in page.tags for v in a.values() for m in re.findall(r"url\(#(.+?)\)", v)
    }
    assert referred <= set(ids)


def test_nothing_is_fetched_and_no_script_runs(page: Page, html: str) -> None:
    _check_harmless(page)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style and "<" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    bare = re.sub(r'xmlns="http://www.w3.org/2000/svg"|href="https://arxiv.org/abs/', "", html)
    assert "http://" not in bare and "https://" not in bare


def test_the_page_is_small_and_the_same_in_every_process(html: str) -> None:
    assert len(html.encode()) < 1_500_000
    code = (
        "import hashlib; from tests.examination.sample import make_report;"
        "from whynet.examination.page import render_page;"
        "print(hashlib.sha256(render_page(make_report()).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    told = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{root}:{root / 'src'}"}
    run = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True)
    assert run.stdout.strip() == hashlib.sha256(html.encode()).hexdigest(), run.stderr


def test_templates_never_switch_escaping_off() -> None:
    folder = files("whynet.examination").joinpath("templates")
    for entry in folder.iterdir():
        text = entry.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|<script|style=\"|javascript:", text), entry.name


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_text_stands_out_in_every_mode(mode: str) -> None:
    style = files("whynet.pages").joinpath("page.css").read_text("utf-8")
    blocks = re.findall(r":root\{([^}]*)\}", style)
    colors = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})\b", blocks[0]))
    if mode != "light":
        colors |= re.findall(
            r"--(\w+):(#[0-9a-f]{3,6})\b", blocks[["dark", "print"].index(mode) + 1]
        )
    colors = {
        k: "#" + "".join(2 * c for c in v[1:]) if len(v) == 4 else v for k, v in colors.items()
    }
    for text in ("ink", "soft", "faint", "accent", "warn", "ok"):
        for ground in ("paper", "tint"):
            assert _contrast(colors[text], colors[ground]) >= 4.5, (mode, text, ground)
    for mark in ("ref0", "ref1", "ref2", "ref3"):
        assert _contrast(colors["accent"], colors[mark]) >= 1.8, (mode, mark)
        assert _contrast(colors["paper"], colors[mark]) >= 1.4, (mode, mark)


def test_the_first_screen_holds_what_a_reader_needs(page: Page) -> None:
    text = re.sub(r"[ \n]+", " ", page.text)
    order = [
        "digits-mlp, examined",
        "64–128–10 ReLU network, 9,610 parameters, trained on 1,437 examples",
        "Examined in 58 s.",
        "2 parts of the examination failed",
        "It generalizes, and it is overconfident.",
        "Accuracy on unseen digits is 97.8\u00a0% [96.0, 98.9].",
        "Set the temperature",
        "95 % interval over examples (Clopper–Pearson)",
        "whynet measure calibration digits-mlp --rounds 1 --seed 0",
        "It could be less than half its size.",
        "It is fragile.",
        "Does it generalize, and is it honest about it?",
    ]
    places = [text.find(words) for words in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)


def test_the_rest_of_the_page_holds_all_that_the_report_knows(page: Page) -> None:
    text = re.sub(r"[ \n\u00a0]+", " ", page.text)
    for words in (
        "Temperature was fitted on half of the test data",
        "In brackets: 95 % intervals over examples, certified bounds.",
        "cannot be checked",
        "central difference agrees to 3×10⁻⁷",
        "How this network is differentiated",
        "a scattering transform needs images",
        "MemoryError: 3.1 GB wanted",
        "RuntimeError: element 0 of tensors",
        "whynet verify PATH",
        "sha256 3fa9c1d2",
        "Ananya Kumar, Percy Liang and Tengyu Ma (2019)",
        "How to read this report",
    ):
        assert words in text, words


def test_headings_tables_and_pictures_can_be_walked_without_eyes(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    for tag, attributes in page.tags:
        if tag == "th":
            assert attributes["scope"] in {"row", "col"}
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if "wide" in attributes.get("class", "").split():
            assert attributes["tabindex"] == "0"
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    assert ("html", {"lang": "en"}) in page.tags
    assert page.tags[[t for t, _ in page.tags].index("body") + 1][1]["class"] == "skip"


def test_markup_works_and_is_never_read(page: Page) -> None:
    """The page's own elements are elements, not text; the invented report has no angle bracket."""
    assert not re.search(r"</?(span|sup|sub|em|i|b)\b", page.text)
    brackets = [each for tag, each in page.tags if tag == "span" and each.get("class") == "bracket"]
    assert len(brackets) > 5


def test_references_stand_in_the_order_of_surnames(page: Page) -> None:
    text = page.text[page.text.index("References\n") :]
    places = [text.index(name) for name in ("Behrooz Ghorbani", "Chuan Guo", "Tao Luo")]
    assert places == sorted(places)


def test_an_interrupted_report_says_so_and_lists_what_was_not_reached() -> None:
    report = make_report()
    late = replace(report.answers[5], id="late", state="not reached", reason="The budget ended.")
    html = render_page(
        replace(report, interrupted=True, answers=(*report.answers, late)), figures={}
    )
    assert "<strong>Interrupted.</strong>" in html
    assert 'href="#not-reached"' in html and "The budget ended." in html
    assert "Interrupted" not in render_page(report, figures={})


def test_findings_beyond_the_first_screen_stand_in_their_panels() -> None:
    report = make_report()
    first = report.answers[0]
    assert first.panel is not None
    minor = tuple(
        replace(first.panel.findings[0], headline=f"Minor {i}.", importance=0.01) for i in range(9)
    )
    panel = replace(first.panel, findings=first.panel.findings + minor)
    html = render_page(replace(report, answers=(replace(first, panel=panel), *report.answers[1:])))
    screen = html.split('<section id="findings"')[1].split("</section>")[0]
    assert screen.count("<li id=") == FIRST_SCREEN
    assert "Minor 1." in screen and "Minor 2." not in screen
    assert all(html.count(f"<h3>Minor {i}.</h3>") == 1 for i in range(9))
    Page(html)


def test_a_report_without_findings_or_panels_is_still_a_page() -> None:
    report = make_report(answers=(), outcomes={}, plan=(), provenance=())
    page = Page(render_page(report))
    assert "No finding" in page.text
    assert "failed" not in page.text


def test_a_picture_that_could_not_be_drawn_costs_only_itself() -> None:
    def draw(figure: Any) -> None:
        raise RuntimeError("no <b>axes</b>")

    report = make_report()
    first = report.answers[0]
    assert first.panel is not None
    panel = replace(first.panel, figures=(Figure("broken", draw, "c", "a curve"), FIGURES[0]))
    html = render_page(replace(report, answers=(replace(first, panel=panel),)))
    assert "could not be drawn: RuntimeError: no &lt;b&gt;axes&lt;/b&gt;" in html
    assert "It would have shown: a curve" in html
    assert html.count('<div class="card') == 1


def test_a_picture_from_elsewhere_is_cleaned_before_it_enters() -> None:
    name = FIGURES[0].name
    dirty = '<svg viewBox="0 0 1 1" onload="x()"><script>x()</script><rect width="1"/></svg>'
    html = render_page(make_report(), figures={name: dirty, FIGURES[1].name: Failed("out of ink")})
    assert '<rect width="1"/>' in html and "out of ink" in html
    _check_harmless(Page(html))


def test_an_unknown_citation_is_named_and_costs_nothing() -> None:
    report = make_report()
    first = report.answers[0]
    assert first.panel is not None
    finding = replace(first.panel.findings[0], cites=("nobody1900",))
    panel = replace(first.panel, findings=(finding,), figures=())
    html = render_page(replace(report, answers=(replace(first, panel=panel),)))
    assert "nobody1900" in html and "not in the bibliography" in html


def test_two_questions_with_like_ids_get_different_anchors() -> None:
    report = make_report()
    twin = replace(report.answers[1], id="GENERALIZATION")
    ids = Page(render_page(replace(report, answers=(report.answers[0], twin)))).values("id")
    assert len(ids) == len(set(ids))
