"""`whynet verify`: what stands, what moved, what is damaged."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests.cli.own import OWN, Shell

VERIFY = ("verify", "out", OWN[0])


def test_a_fresh_folder_stands_and_so_does_a_moved_one(finished: Shell) -> None:
    assert "Every number stands." in finished.good(*VERIFY)
    assert "fit, at initialization" in finished.out
    Path("elsewhere").mkdir()
    shutil.move("out", "elsewhere/report")
    printed = json.loads(finished.good("verify", "elsewhere/report", OWN[0], "--json"))
    assert [(row["name"], row["stands"], row["largest"]) for row in printed] == [
        ("fit", True, 0.0), ("fit, at initialization", True, 0.0),
    ]  # fmt: skip
    assert finished.good(*("verify", "elsewhere/report", OWN[0]), "--quiet") == ""


def test_a_built_in_subject_needs_no_target(finished: Shell) -> None:
    finished.good("examine", "breast-cancer-mlp", "--only", "fit", "--out", "built", "--quiet")
    assert "Every number stands." in finished.good("verify", "built")


def test_code_that_only_the_folder_names_never_runs(finished: Shell) -> None:
    Path("model.py").write_text("open('marker', 'w').close()", encoding="utf-8")
    assert finished("verify", "out") == 2
    assert "TARGET: found nothing, though the recorded one is code (model.py:build)" in finished.err
    assert finished(*VERIFY) == 2  # named again, it runs, and is not what was recorded
    Path("marker").unlink()
    Path("model.py").write_text("def build():\n    return 1\n", encoding="utf-8")
    assert finished(*VERIFY) == 2
    assert not Path("marker").exists()


@pytest.mark.parametrize("what", ["value", "inside", "widened", "kind", "gone"])
def test_a_number_that_was_changed_is_found(finished: Shell, what: str) -> None:
    store = zarr.open_group("out/results.zarr", mode="r+")
    group = store["trained/fit"]
    assert isinstance(group, zarr.Group)
    arrays = {name: group["loss" + name] for name in ("", "_low", "_high")}
    values = {name: np.asarray(array[:]) for name, array in arrays.items()}
    if what == "value":
        for name, array in arrays.items():
            array[:] = values[name] * 3
    elif what == "inside":
        # Inside its bounds, which were widened to hold it.
        arrays[""][:] = values[""] * 3
        arrays["_high"][:] = values["_high"] * 9
    elif what == "widened":
        arrays["_low"][:] = -np.inf
    elif what == "kind":
        group["loss"].attrs["kind"] = "certified"
    else:
        for name in arrays:
            del group["loss" + name]
    assert finished(*VERIFY) == 1
    assert "moved: loss" in finished.out
    assert json.loads(_json(finished))[0]["moved"] == ["loss"]


def _json(shell: Shell) -> str:
    assert shell(*VERIFY, "--json") == 1
    return shell.out


def test_numbers_added_by_someone_do_not_stand(finished: Shell) -> None:
    shutil.copytree("out/results.zarr/trained/fit", "out/results.zarr/trained/[red]\x1b[31m")
    assert finished(*VERIFY) == 1
    assert "no such instrument" in finished.out and "\x1b" not in finished.out


def _delete(name: str) -> None:
    path = Path("out", name)
    shutil.rmtree(path) if path.is_dir() else path.unlink()


DAMAGE = {
    "results deleted": (lambda: _delete("results.zarr"), "without results.zarr"),
    "results of one instrument deleted": (
        lambda: _delete("results.zarr/trained/fit"), "no recorded numbers of 'fit'"
    ),
    "array damaged": (
        lambda: Path("out/results.zarr/trained/fit/loss/zarr.json").write_text("{"),
        "results.zarr that cannot be read",
    ),
    "weights deleted": (lambda: _delete("weights.safetensors"), "without weights.safetensors"),
    "weights changed": (
        lambda: shutil.copy("start.safetensors", "out/weights.safetensors"),
        "a weights.safetensors that was changed",
    ),
    "report changed": (
        lambda: Path("out/report.html").write_text("97 %"), "a report.html that was changed"
    ),
    "summary changed": (
        lambda: Path("out/summary.json").write_text("{}"), "a summary.json that was changed"
    ),
    "manifest no TOML": (
        lambda: Path("out/manifest.toml").write_text("seed ="), "manifest.toml .*no TOML"
    ),
    "manifest with another key": (lambda: _manifest("sede = 1\n"), "did you mean 'seed'"),
    "manifest of a newer version": (
        lambda: _edit('schema_version = "1.0"', 'schema_version = "2.0"'), "schema_version 2.0"
    ),
    "manifest out of range": (lambda: _edit("seed = 0", "seed = -1"), "seed = -1"),
    "manifest with impossible rounds": (lambda: _edit("fit = 1", "fit = 7"), "7 rounds of fit"),
}  # fmt: skip


def _manifest(line: str) -> None:
    path = Path("out/manifest.toml")
    path.write_text(line + path.read_text(encoding="utf-8"), encoding="utf-8")


def _edit(old: str, new: str) -> None:
    path = Path("out/manifest.toml")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_refused(finished: Shell, case: str) -> None:
    damage, sentence = DAMAGE[case]
    damage()
    before = finished.listing()
    assert finished(*VERIFY) == 4
    assert re.search(sentence, finished.err), finished.err
    assert re.search(r"(^|\n)whynet: PATH: found .+; wanted .+\.\n$", finished.err)
    assert finished.listing() == before


def test_data_that_changed_are_refused(finished: Shell) -> None:
    shutil.copy("test.npz", "train.npz")
    assert finished(*VERIFY) == 2
    assert "--train: found content of SHA-256" in finished.err
    assert finished(*VERIFY, "--train", "nowhere.npz") == 2
