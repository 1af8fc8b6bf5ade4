"""The report's page in a real browser: nothing runs, nothing overflows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.examination.sample import make_report
from tests.examination.test_page import poisoned

from whynet.examination.page import render_page

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--virtual-time-budget=20000",
]

MEASURE = """<body><script>
const out=[],jobs=[];
for(const f of ["report.html","hostile.html"])for(const w of [360,390,1280])jobs.push([f,w]);
for(const [f,w] of jobs){const i=document.createElement("iframe");
i.style.cssText="border:0;height:900px;width:"+w+"px";
i.onload=()=>{const d=i.contentDocument;
const out_of=e=>!e.closest(".wide,svg,.quiet,.skip")&&e.getBoundingClientRect().right>w+1;
const bad=[...d.querySelectorAll("body *")].filter(out_of).length;
out.push([f,w,d.documentElement.scrollWidth<=w,bad,d.title.includes("owned!")].join(" "));
if(out.length==jobs.length)document.body.textContent=out.sort().join(";")};
i.src=f;document.body.append(i)}
</script></body>"""


@pytest.mark.system
def test_a_browser_shows_no_overflow_and_runs_nothing(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("needs Chromium; .ci/run installs it")
    payload = '"><img src=x onerror="document.title=`owned`+`!`">'
    payload += '<script>document.title="owned"+"!"</script>'
    payload += "W" * 300
    (tmp_path / "report.html").write_text(render_page(make_report()))
    (tmp_path / "hostile.html").write_text(render_page(poisoned(make_report(), payload)))
    (tmp_path / "measure.html").write_text(MEASURE)
    page, profile = tmp_path / "measure.html", tmp_path / "profile"
    run = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    rows = re.findall(r"\w+\.html \d+ \w+ \d+ \w+", run.stdout)
    assert len(rows) == 6, run.stdout[-2000:]
    assert all(row.endswith("true 0 false") for row in rows), rows
