"""Interruptions, failing parts and full disks: what finished stands, what was there stays."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.own import EXAMINE, OWN, Shell, copy_subject

from whynet.concepts.generalization.instruments import calibration, margins
from whynet.concepts.generalization.questions import calibration as calibration_question
from whynet.core import fresh_folder
from whynet.examination import folder

RUN = Path(sysconfig.get_path("scripts"), "whynet")
TWO = ("examine", *OWN, "--only", "fit", "calibration", "--out", "out")


def interrupt(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


def fail(*arguments: Any, **options: Any) -> Any:
    raise RuntimeError("no luck \x1b[31mtoday\nand more")


def no_space(*arguments: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/report.html")


def summary() -> Any:
    return json.loads(Path("out/summary.json").read_text(encoding="utf-8"))


def leftovers(shell: Shell) -> list[str]:
    return [path.name for path in shell.folder.iterdir() if path.name.startswith(".")]


def test_an_interrupted_instrument_keeps_what_finished(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.good(*TWO, "--quiet")
    whole = summary()
    monkeypatch.setattr(calibration, "advance", interrupt)
    assert shell(*TWO) == 130
    assert "Interrupted" in shell.out
    assert "interrupted; the report holds what was finished. Again: whynet examine" in shell.err
    part = summary()
    assert part["interrupted"]
    assert {n: q["state"] for n, q in part["questions"].items()} == {
        "generalization": "answered", "calibration": "not reached",
    }  # fmt: skip
    assert part["numbers"]["test_accuracy"] == whole["numbers"]["test_accuracy"]
    assert "calibration" not in part["instruments"]
    monkeypatch.undo()
    monkeypatch.chdir(shell.folder)
    shell.good("verify", "out", OWN[0])
    again = shell.err  # the printed command runs as it stands
    assert "Traceback" not in again


def test_an_examination_interrupted_at_once_still_says_so(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whynet.concepts.generalization.instruments import fit

    monkeypatch.setattr(fit, "advance", interrupt)
    assert shell(*EXAMINE) == 130
    assert summary()["interrupted"] and summary()["numbers"] == {}
    assert shell("verify", "out", OWN[0]) == 0


@pytest.mark.parametrize("what", ["loading", "training", "asking", "measuring"])
def test_an_interruption_before_the_end_writes_nothing(
    finished: Shell, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    words: tuple[str, ...] = EXAMINE
    if what == "loading":
        words = ("examine", "model.py:stops", *OWN[1:], "--out", "out")
    elif what == "training":
        monkeypatch.setattr("whynet.training.supervised.train", interrupt)
        words = ("examine", "breast-cancer-mlp", "--out", "out")
    elif what == "asking":
        monkeypatch.setattr("whynet.examination.examine._report", interrupt)
    else:
        from whynet.concepts.generalization.instruments import fit

        monkeypatch.setattr(fit, "advance", interrupt)
        words = ("measure", "fit", *OWN)
    before = finished.listing()
    assert finished(*words) == 130
    assert finished.err.splitlines()[-1].startswith("whynet: interrupted;")
    assert finished.listing() == before


@pytest.mark.parametrize("part", ["render_page", "to_json", "save_weights", "tree", "swap"])
@pytest.mark.parametrize(("failure", "code"), [(interrupt, 130), (no_space, 5)])
def test_a_report_is_written_whole_or_not_at_all(
    finished: Shell, monkeypatch: pytest.MonkeyPatch, part: str, failure: Any, code: int
) -> None:
    before = finished.listing()
    monkeypatch.setattr(folder, part, failure)
    assert finished(*EXAMINE, "--seed", "8", "--quiet") == code
    assert finished.listing() == before and leftovers(finished) == []
    if code == 5:
        assert "whynet: disk or permission: No space left on device" in finished.err
    Path("new").mkdir()
    assert finished(*EXAMINE[:-1], "new/out", "--quiet") == code
    assert list(Path("new").iterdir()) == []


@pytest.mark.parametrize("step", [0, 1])
def test_without_an_exchange_in_one_step_the_old_report_comes_back(
    finished: Shell, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(fresh_folder, "_exchange", lambda one, other: False)
    finished.good(*EXAMINE, "--seed", "8", "--quiet")
    assert leftovers(finished) == []
    before = finished.listing()
    rename, count = Path.rename, []

    def failing(path: Path, target: Path) -> Path:
        count.append(path)
        if len(count) == step + 1:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    assert finished(*EXAMINE, "--seed", "9", "--quiet") == 130
    assert finished.listing() == before and leftovers(finished) == []


def test_weights_that_find_no_room_are_a_matter_of_the_disk(
    finished: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors
    import safetensors.torch

    def full(*arguments: Any) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    assert finished(*EXAMINE, "--quiet") == 5
    assert "No space left on device" in finished.err


def test_a_second_run_replaces_the_report(finished: Shell) -> None:
    old = summary()
    finished.good("examine", *OWN, "--only", "calibration", "--out", "out", "--quiet")
    assert not Path("out/initial_weights.safetensors").exists()
    assert summary()["questions"] != old["questions"]
    assert leftovers(finished) == []


def test_a_link_to_a_report_is_followed(finished: Shell) -> None:
    Path("out").rename("real")
    Path("out").symlink_to("real")
    finished.good(*EXAMINE, "--seed", "3", "--quiet")
    assert Path("out").is_symlink()
    assert "seed = 3" in Path("real/manifest.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("step", ["start", "advance", "read"])
def test_an_instrument_that_raises_fails_alone(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(calibration, step, fail)
    assert shell(*TWO, "--quiet") == 3
    assert "whynet: failed: calibration (RuntimeError: no luck \\x1b[31mtoday)\n" in shell.err
    content = summary()
    assert content["instruments"]["calibration"]["state"] == "failed"
    assert content["questions"]["calibration"]["state"] == "failed"
    assert content["questions"]["generalization"]["state"] == "answered"
    assert content["numbers"]["test_accuracy"]["value"] > 0.5
    assert "\x1b" not in Path("out/report.html").read_text(encoding="utf-8")
    assert shell("verify", "out", OWN[0]) in (0,)
    assert shell(*TWO, "--debug") == 3
    assert "Traceback (most recent call last)" in shell.err and "\x1b" not in shell.err
    assert "\x1b" not in shell.out


def test_a_question_that_raises_fails_alone(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_question, "ask", fail)
    assert shell(*TWO, "--quiet") == 3
    assert "failed: calibration (RuntimeError" in shell.err
    assert summary()["instruments"]["calibration"]["state"] == "measured"
    assert summary()["questions"]["calibration"]["state"] == "failed"
    assert summary()["questions"]["generalization"]["state"] == "answered"


def test_a_condition_outranks_a_failed_part(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margins, "advance", fail)
    words = ("examine", *OWN, "--only", "fit", "margins", "--out", "out", "--quiet")
    assert shell(*words) == 3
    assert shell(*words, "--fail-on", "test_accuracy < 0.999") == 1


SLOW = """
import time
import torch
from torch import nn


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 30:
            open("measuring", "w").close()
            time.sleep(0.2)
        return self.body(x)


def build():
    return Slow()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_process_at_once_and_whole(
    made: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    copy_subject(made, tmp_path)
    (tmp_path / "model.py").write_text(SLOW, encoding="utf-8")
    words = ("examine", "model.py:build", "--test", "test.npz", "--batch-size", "2", "--out", "out")
    process = subprocess.Popen(
        [RUN, *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "measuring").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "interrupted" in err and "Traceback" not in err
    if (tmp_path / "out").exists():
        assert json.loads((tmp_path / "out/summary.json").read_text())["interrupted"]
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [RUN, "cite"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(write)
    assert (ran.returncode, ran.stderr) == (141, "")
