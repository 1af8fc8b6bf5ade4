"""What a killed process leaves beside a report is gone after the next run, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from whynet.core.fresh_folder import PREFIX, clear_stale, fresh_folder
from whynet.examination.folder import OURS, write_whole

SLEEPS = """
import sys, time
from pathlib import Path
from whynet.examination.folder import write_whole

def write(fresh):
    (fresh / "report.html").write_text("half")
    print("writing", flush=True)
    time.sleep(100)

write_whole(Path(sys.argv[1]), write)
"""


def temporary(place: Path) -> list[Path]:
    return sorted(place.glob(f"{PREFIX}*"))


def whole(folder: Path) -> None:
    write_whole(folder, lambda fresh: (fresh / "summary.json").write_text("{}") and None)


@pytest.fixture
def writing(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A process that is writing `tmp_path/out`."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_killed_process_leaves_nothing_after_the_next_run(
    tmp_path: Path, writing: subprocess.Popen[str]
) -> None:
    assert len(temporary(tmp_path)) == 1
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    assert len(temporary(tmp_path)) == 1
    whole(tmp_path / "other")
    assert temporary(tmp_path) == []
    assert (tmp_path / "other/summary.json").is_file()


def test_a_living_process_keeps_its_folder(tmp_path: Path, writing: subprocess.Popen[str]) -> None:
    whole(tmp_path / "other")
    (kept,) = temporary(tmp_path)
    assert (kept / "report.html").read_text() == "half"


def test_only_what_is_ours_is_cleared(tmp_path: Path) -> None:
    for name in ("a", "b", "c-old", "d"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
    (tmp_path / f"{PREFIX}a" / "summary.json").touch()
    (tmp_path / f"{PREFIX}b" / "thesis.tex").touch()
    (tmp_path / f"{PREFIX}file").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "report.html").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    gone = clear_stale(tmp_path, OURS)
    assert [place.name[len(PREFIX) :] for place in gone] == ["a", "d"]
    assert [p.name[len(PREFIX) :] for p in temporary(tmp_path)] == ["b", "c-old", "file", "link"]
    assert (elsewhere / "report.html").exists()


def test_folders_of_other_users_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{PREFIX}a").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert clear_stale(tmp_path, OURS) == ()


def test_a_fresh_folder_is_locked_and_gone_in_the_end(tmp_path: Path) -> None:
    with fresh_folder(tmp_path) as fresh:
        assert clear_stale(tmp_path, OURS) == ()
        assert fresh.is_dir()
    assert temporary(tmp_path) == []
    with pytest.raises(OSError, match="full"), fresh_folder(tmp_path) as fresh:
        raise OSError("full")
    assert temporary(tmp_path) == []
