from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.own import EXAMINE, Shell, copy_subject, write_subject

from whynet.cli.main import main


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The subject's files, written once."""
    folder = tmp_path_factory.mktemp("subject")
    write_subject(folder)
    return folder


@pytest.fixture(scope="session")
def examined(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The subject's files with a finished examination in `out`."""
    folder = tmp_path_factory.mktemp("examined")
    copy_subject(made, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main((*EXAMINE, "--init-weights", "start.safetensors", "--quiet")) == 0
    return folder


@pytest.fixture
def shell(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """A command line in a folder of its own that holds the subject."""
    copy_subject(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, tmp_path)


@pytest.fixture
def finished(
    examined: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """The same with a finished examination in `out`."""
    copy_subject(examined, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, tmp_path)
