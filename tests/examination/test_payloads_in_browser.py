"""Foreign text in reports, opened in a browser: shown, never run, and nothing is fetched."""

from __future__ import annotations

import csv
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.examination.payloads import PAYLOADS, SINK
from tests.examination.sample import make_report
from tests.examination.test_page import poisoned
from tests.examination.test_page_in_browser import FLAGS
from torch import nn

from whynet.concepts.registry import load_instrument
from whynet.examination.comparison import compare
from whynet.examination.comparison_folder import comparison_page
from whynet.examination.examine import examine
from whynet.examination.figures import draw_figures
from whynet.examination.page import render_page
from whynet.models.data import load_data
from whynet.models.subject import Subject
from whynet.pages.words import visible

MEASURE = """<body><script>
const jobs=JOBS,out=[];
const flat=t=>t.replace(/\\s+/g," ");
jobs.forEach(([name,words])=>{const i=document.createElement("iframe");
i.onload=()=>setTimeout(()=>{const d=i.contentDocument;
const text=flat(d.body.textContent);
const missing=words.filter(w=>!text.includes(flat(w))).length;
out.push([name,missing,d.title=="owned!"].join(" "));
if(out.length==jobs.length)document.body.textContent="done "+out.sort().join(";")},100);
i.src=name;document.body.append(i)})
</script></body>"""


class Sink(http.server.BaseHTTPRequestHandler):
    """A proxy that only writes down what it is asked for."""

    asked: list[str] = []  # noqa: RUF012 - cleared by the fixture

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    do_POST = do_CONNECT = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def sink() -> Iterator[http.server.ThreadingHTTPServer]:
    """The proxy, listening."""
    Sink.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def opened(folder: Path, jobs: list[tuple[str, list[str]]], port: int) -> dict[str, list[str]]:
    """Open pages in a browser; page to how many of its words are missing, and whether it ran."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("needs Chromium; .ci/run installs it")
    page = folder / "measure.html"
    told = json.dumps(jobs).replace("<", "\\u003c")
    page.write_text(MEASURE.replace("JOBS", told), encoding="utf-8")
    ran = subprocess.run(
        [
            chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}",
            f"--proxy-server=127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>",
            "--dump-dom", page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    body = re.search(r"done ([^<]*)<", ran.stdout)
    assert body, ran.stdout[-500:]
    rows = (row.split(" ") for row in body[1].split(";"))
    return {name: rest for name, *rest in rows}


def word(payload: str) -> str:
    """What of a payload a page shows as it is: all, where no mark is in it, at most a name long."""
    return "" if re.search(r"[`*|]", payload) else visible(payload[:60])


def part_name(payload: str) -> str:
    """A payload as the name of a layer, which cannot hold a point."""
    return re.sub(r"[.\x00]", "·", payload)[:5000] or "x"


def examined(payload: str, folder: Path) -> Subject:
    """A subject that holds the payload wherever a user's files can bring it."""
    safe = re.sub(r"[/\x00]", "·", payload)[:60]
    table = folder / f"{safe}.csv"
    random = np.random.default_rng(0)
    with table.open("w", newline="", encoding="utf-8", errors="surrogatepass") as stream:
        writer = csv.writer(stream)
        writer.writerow([payload.replace("\x00", "")[:5000], "b", "label"])
        for row in random.standard_normal((40, 2)):
            writer.writerow([*row, payload.replace("\x00", "")[:500] if row[0] > 0 else "other"])
    data = load_data(str(table), argument="--train", target="label", announce=lambda _: None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential()
        network.add_module(part_name(payload), nn.Linear(2, 4))
        network.add_module("relu", nn.ReLU())
        network.add_module("out", nn.Linear(4, 2))
    network.register_parameter(part_name(payload) + "p", nn.Parameter(torch.ones(1)))
    network.register_buffer(part_name(payload) + "b", torch.full((2, 2), -torch.inf).triu(1))
    return Subject(
        network, train=data, test=data, name=payload, notes=(payload, str(table)),
        initial=network, loss="cross_entropy",
    )  # fmt: skip


def failing(payload: str) -> object:
    class Broken:
        INSTRUMENT = load_instrument("calibration").INSTRUMENT

        @staticmethod
        def start(subject: Subject, seed: int) -> None:
            raise RuntimeError(payload)

    return Broken


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")  # fonts lack some of the characters
def test_no_payload_runs_asks_or_hides(
    tmp_path: Path, sink: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(PAYLOADS) == 30
    jobs = []
    # Texts inside of figures have their own test, see test_page.py: here they are drawn once.
    figures = draw_figures(make_report())
    for number, payload in enumerate(PAYLOADS.values()):
        inside = tmp_path / str(number)
        inside.mkdir()
        subject = examined(payload, inside)
        with monkeypatch.context() as patch:
            patch.setattr(
                "whynet.examination.schedule.load_measurer",
                lambda name, payload=payload: (
                    failing(payload) if name == "calibration" else load_instrument(name)
                ),
            )
            report = examine(
                subject, only=("fit", "calibration", "neuron-similarity"), seeds=0
            ).report
            pair = compare(
                subject, subject.replaced(subject.initial.module),  # type: ignore[union-attr]
                names=(payload, payload + "2"), readings=("fit",),
            )  # fmt: skip
        pages = {
            "own": render_page(report),
            "pair": comparison_page(pair.report),
            "every": render_page(poisoned(make_report(), payload), figures=figures),
        }
        for kind, page in pages.items():
            assert len(page) < 5_000_000
            (tmp_path / f"{number}-{kind}.html").write_text(page, encoding="utf-8")
            jobs.append((f"{number}-{kind}.html", [word(payload)]))
    found = opened(tmp_path, jobs, sink.server_address[1])
    assert found == {name: ["0", "false"] for name, _ in jobs}
    assert [path for path in Sink.asked if SINK in path] == []


@pytest.mark.system
def test_the_browser_would_have_told(tmp_path: Path, sink: http.server.ThreadingHTTPServer) -> None:
    for number, name in enumerate(("script", "remote image")):
        content = f"<!doctype html><title>x</title><body>{PAYLOADS[name]}".replace("alert(1);", "")
        (tmp_path / f"{number}.html").write_text(content, encoding="utf-8")
    found = opened(tmp_path, [("0.html", ["absent words"]), ("1.html", [])], sink.server_address[1])
    assert found == {"0.html": ["1", "true"], "1.html": ["0", "false"]}
    assert {f"{SINK}ran", f"{SINK}img"} <= set(Sink.asked)
