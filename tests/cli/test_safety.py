"""Foreign text never reaches the terminal raw; nothing in the working folder is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from tests.cli.own import EXAMINE, OWN, Shell, copy_subject

RUN = Path(sysconfig.get_path("scripts"), "whynet")
EVIL = "evil\x1b[31m\u202e\r\n[red]name"


def clean(text: str) -> bool:
    """Whether a text holds only what may reach a terminal."""
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(
    "words",
    [
        ("examine", f"{EVIL}.py:build", *OWN[3:]),
        ("examine", f"model.py:{EVIL}", *OWN[3:]),
        ("examine", EVIL),
        ("examine", *OWN, "--loss", EVIL),
        ("examine", *OWN, "--weights", EVIL),
        ("examine", *OWN, "--device", EVIL),
        ("examine", *OWN, "--dtype", EVIL),
        ("examine", *OWN, "--seed", EVIL),
        ("examine", *OWN, "--only", EVIL),
        ("examine", *OWN, "--fail-on", EVIL),
        ("examine", *OWN, "--fail-on", f"fit.{EVIL} < 1"),
        ("examine", *OWN, "--out", f"{EVIL}/\0"),
        ("examine", *OWN, "--config", EVIL),
        ("examine", *OWN, f"--{EVIL}"),
        ("measure", EVIL, *OWN),
        ("verify", EVIL),
        ("cite", EVIL),
        (EVIL,),
    ],
)
def test_no_word_of_the_command_line_comes_back_raw(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell(*words) == 2
    assert clean(shell.err) and shell.err.endswith("\n")
    assert [line[:8] for line in shell.err.splitlines() if "running code" not in line] == [
        "whynet: "
    ]


def test_names_of_files_are_shown_with_escapes(shell: Shell) -> None:
    name = "ev\x1b[31m\u202eil\n.py"
    shutil.copy("model.py", name)
    shell.good("examine", f"{name}:build", *OWN[1:], "--only", "fit", "--out", EVIL)
    assert clean(shell.out) and clean(shell.err)
    assert "running code from ev\\x1b[31m\\u202eil .py\n" in shell.err
    assert not set("\x1b\u202e") & set(Path(EVIL, "report.html").read_text(encoding="utf-8"))
    assert shell("verify", EVIL) == 2
    assert clean(shell.err)
    shell.good("verify", EVIL, f"{name}:build")
    assert clean(shell.out) and clean(shell.err)


def test_bytes_that_are_no_text_work_as_the_place_of_a_report(shell: Shell) -> None:
    place = os.fsdecode(b"caf\xe9")
    shell.good(*EXAMINE[:-1], place)
    assert clean(shell.out) and "caf\\udce9/report.html" in shell.out


def test_hostile_modules_in_the_working_folder_are_not_imported(made: Path, tmp_path: Path) -> None:
    copy_subject(made, tmp_path)
    (tmp_path / "code").mkdir()
    shutil.move(tmp_path / "model.py", tmp_path / "code/model.py")
    for name in ("torch", "numpy", "rich", "whynet", "json", "sympy", "scipy", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("open('marker', 'a').write(__name__)\n1 / 0\n")
    ran = subprocess.run(
        [RUN, "measure", "fit", "code/model.py:build", *OWN[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "accuracy" in ran.stdout
    assert not (tmp_path / "marker").exists()


def test_a_narrow_terminal_gets_escapes(made: Path, tmp_path: Path) -> None:
    copy_subject(made, tmp_path)
    ran = subprocess.run(
        [RUN, "measure", "--list"],
        cwd=tmp_path,
        capture_output=True,
        timeout=100,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"R\\xb2" in ran.stdout
