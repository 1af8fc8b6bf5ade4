"""Every mistake has one sentence, one exit code, and leaves nothing behind."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from tests.cli.bad_inputs import MISTAKES, PROCESSES
from tests.cli.bad_training import FAILING, HEAD
from tests.cli.mistake import Mistake
from tests.cli.numbered import ELSEWHERE, NOT_YET, ROWS, STATED
from tests.cli.own import EXAMINE, OWN, Shell, copy_subject

TESTS = Path(__file__).parents[1]
RUN = Path(sysconfig.get_path("scripts"), "whynet")


def sentences(err: str) -> list[str]:
    """Return what was said, without the announcements of running code."""
    return [line for line in err.splitlines() if not line.startswith("running code from ")]


def check(mistake: Mistake, code: int, err: str) -> None:
    assert code == mistake.code, err
    said = sentences(err)
    assert len(said) == 1, err
    assert re.fullmatch(r"whynet: .+: found .+; wanted .+\.", said[0]), err
    assert said[0].startswith(f"whynet: {mistake.argument}: found "), err
    assert re.search(mistake.pattern, said[0]), err
    assert "Traceback" not in err and "\x1b" not in err


def test_every_name_stands_once() -> None:
    names = [mistake.name for mistake in MISTAKES]
    assert len(names) == len(set(names))
    assert set(PROCESSES) <= set(names)


def test_every_number_of_the_notes_is_tested_or_cannot_arise() -> None:
    numbers = [*ROWS, *STATED, *ELSEWHERE, *NOT_YET]
    assert sorted(numbers) == list(range(1, 101))
    names = {mistake.name for mistake in MISTAKES}
    assert {name for row in ROWS.values() for name in row} <= names
    for place in ELSEWHERE.values():
        file, _, function = place.partition("::")
        assert f"def {function}(" in (TESTS / file).read_text(encoding="utf-8"), place
    assert all(reason.endswith(".") for reason in NOT_YET.values())


@pytest.mark.parametrize("name", FAILING)
def test_a_training_that_fails_is_said_where_it_is_run(shell: Shell, name: str) -> None:
    body, pattern = FAILING[name]
    Path("fit.py").write_text(HEAD + body, encoding="utf-8")
    before = shell.listing()
    assert shell("measure", "mode-connectivity", *OWN, "--train-with", "fit.py:train") == 2
    (said,) = sentences(shell.err)
    assert re.match(f"whynet: --train-with: found .*{pattern}", said), said
    assert "Traceback" not in shell.err and "\x1b" not in shell.err
    assert shell.listing() == before
    code = shell(*EXAMINE, "--train-with", "fit.py:train")
    assert code == 0, shell.err  # the references are left out, and the report says why
    page = html.unescape(Path("out/report.html").read_text(encoding="utf-8"))
    assert re.search(pattern.split(" .line")[0], page)


# What PyTorch's loader does with the connection to a worker that died is not ours.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*(_MultiProcessingDataLoaderIter|gc_callback)"
    ":pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_refused(shell: Shell, mistake: Mistake) -> None:
    if mistake.prepare:
        mistake.prepare()
    before = shell.listing()
    code = shell(*mistake.words)
    check(mistake, code, shell.err)
    assert shell.out == ""
    assert shell.listing() == before


@pytest.mark.parametrize("name", PROCESSES)
def test_a_mistake_is_refused_in_a_process_of_its_own(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mistake = next(mistake for mistake in MISTAKES if mistake.name == name)
    copy_subject(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    if mistake.prepare:
        mistake.prepare()
    before = sorted(tmp_path.rglob("*"))
    ran = subprocess.run(
        [RUN, *mistake.words],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    check(mistake, ran.returncode, ran.stderr)
    assert ran.stdout == ""
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == []
