"""`whynet verify` on stores of the atlas: every cell run again, the verdict judged again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.atlas.runs import CLAIM

from whynet.atlas.journal import JOURNAL, Journal
from whynet.atlas.pages import RUN
from whynet.atlas.rows import row_sha256, to_row
from whynet.atlas.verification import verify_atlas
from whynet.cli.main import main

WORDS = ["--size", "50,80", "--shift", "0.0", "--seeds", "4"]
NAME = "my-claim"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("verified")
    assert main(["atlas", "run", CLAIM, *WORDS, "--quiet", "--out", str(place)]) == 0
    return place


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "atlas")
    return tmp_path / "atlas" / NAME


def verified(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["verify", str(folder), *words])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_progress_counts_cells_of_each_claim(made: Path) -> None:
    told: list[tuple[str, int, int]] = []
    verify_atlas(made, target=CLAIM, progress=lambda *words: told.append(words))
    assert told[-1] == (NAME, 16, 16) and {name for name, *_ in told} == {NAME}


def forge(store: Path, table: str) -> str:
    """Write another number into a cell, with the hash that belongs to it; returns its name."""
    with Journal.open(store, driver=False) as journal:
        identity = journal.identity
        keys = sorted(journal.finished())
        record = journal.read(keys[:1])[keys[0]]
        if table == "predictions":
            record = replace(record, values=journal.predictions(keys[:1])[keys[0]])
    name = sorted(record.values)[0]
    values = {**record.values, name: np.asarray(record.values[name]) + 1e-6}
    row = to_row(replace(record, values=values))
    connection = sqlite3.connect(store / JOURNAL)
    statement = f'UPDATE "{table}" SET "group" = ?, seconds = ?, "content" = ?, sha256 = ?'
    done = connection.execute(
        f'{statement} WHERE "key" = ?', (*row[3:], row_sha256(identity, table, row), row[0])
    )
    connection.commit()
    connection.close()
    assert done.rowcount == 1
    return name


def test_what_was_run_stands_wherever_it_lies(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (store, store.parent):
        code, shown = verified(folder, capsys, CLAIM)
        assert code == 0 and "Every number stands." in shown
    code, shown = verified(store, capsys, CLAIM, "--json")
    rows = json.loads(shown.partition("running code")[0])
    assert [row["name"] for row in rows] == [NAME, f"{NAME}, control copied"]
    assert all(row["largest"] == 0.0 and row["entries"] >= 8 for row in rows)


@pytest.mark.parametrize("table", ["cells", "predictions"])
def test_a_forged_number_is_found_though_its_hash_is_right(
    store: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    name = forge(store, table)
    code, shown = verified(store, capsys, CLAIM)
    assert code == 1 and f"moved: {name}" in shown


def test_a_forged_verdict_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = store / RUN
    content = json.loads(file.read_text(encoding="utf-8"))
    recorded = content["state"]
    content["state"] = "refuted" if recorded != "refuted" else "supported"
    file.write_text(json.dumps(content), encoding="utf-8")
    code, shown = verified(store, capsys, CLAIM)
    assert code == 1
    assert f"verdict (recorded {content['state']}, now {recorded})" in " ".join(shown.split())


def test_code_that_only_the_store_names_never_runs(
    store: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, shown = verified(store, capsys)
    assert code == 2 and "TARGET: found nothing, though 'my-claim' is a claim of a user" in shown
    other = tmp_path / "my_claim.py"
    text = Path(CLAIM.rpartition(":")[0]).read_text(encoding="utf-8")
    other.write_text(f"{text}\nopen('marker', 'w').close()\n", encoding="utf-8")
    code, shown = verified(store, capsys, f"{other}:CLAIM")
    assert code == 2 and "another file" in shown and not Path("marker").exists()
    code, shown = verified(store, capsys, CLAIM, "--train", "train.npz")
    assert code == 2 and "--train" in shown


def test_another_version_of_a_claim_is_not_recomputed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["min-norm-interpolation", "--scale", "smoke", "--steps", "50", "--seeds", "1"]
    assert main(["atlas", "run", *words, "--quiet", "--out", str(tmp_path)]) == 0
    store = tmp_path / words[0]
    assert verified(store, capsys)[0] == 0
    content = json.loads((store / RUN).read_text(encoding="utf-8"))
    content["version"] += 1
    (store / RUN).write_text(json.dumps(content), encoding="utf-8")
    code, shown = verified(store, capsys)
    assert code == 4 and "which this whynet runs" in shown
