"""Damaged stores: each change is detected or harmless, never a silently wrong number."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.atlas.storing import (
    IDENTITY,
    KEYS,
    crash_image,
    fill,
    measured,
    never_wrong,
    predicted,
    write,
)

from whynet.atlas.journal import JOURNAL, Journal
from whynet.atlas.rows import row_sha256, to_row
from whynet.core.errors import InputError, StoreError

WAL = f"{JOURNAL}-wal"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was closed: one file."""
    fill(tmp_path_factory.mktemp("closed") / "s")
    return tmp_path_factory.getbasetemp() / "closed0" / "s"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose driver was killed: half of the cells stand in the log alone."""
    folder = tmp_path_factory.mktemp("killed")
    fill(folder / "s", KEYS[:24])
    with Journal.open(folder / "s", IDENTITY) as journal:
        write(journal, KEYS, 4)
        return crash_image(folder / "s", folder / "image")


@pytest.fixture(scope="module")
def digest(closed: Path) -> str:
    with Journal.open(closed, IDENTITY) as journal:
        return journal.digest()


@pytest.fixture
def store(closed: Path, tmp_path: Path) -> Path:
    return crash_image(closed, tmp_path / "copy")


def outcome(folder: Path, digest: str) -> str:
    """Say what became of a damaged store; a wrong number fails."""
    try:
        with Journal.open(folder, driver=False) as reader:
            if reader.identity == IDENTITY:
                never_wrong(reader)
                reader.check()
                detected = bool(reader.damages)
    except StoreError:
        with pytest.raises(StoreError):
            Journal.open(folder, IDENTITY)
        return "refused"
    with Journal.open(folder, IDENTITY) as journal:
        finished = never_wrong(journal)
        predictions = journal.predictions(KEYS)
        lost = len(finished) < len(KEYS) or len(predictions) < len(KEYS)
        journal.check()
        assert detected <= bool(journal.damages)
        journal.predict([predicted(key) for key in KEYS])
        journal.commit([measured(key) for key in KEYS])
        assert never_wrong(journal) == set(KEYS) and journal.digest() == digest
        again = len(journal.damages)
        assert journal.check() == [] and len(journal.damages) == again
        if journal.damages:
            return "detected" if lost else "mended"
        return "lost" if lost else "harmless"


def flipped(folder: Path, name: str, bit: int) -> None:
    content = bytearray((folder / name).read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(content)


def flips(source: Path, scratch: Path, digest: str, count: int, seed: int) -> Counter[str]:
    """Flip one bit at a time, anywhere in the files, and count what became of it."""
    draw = random.Random(seed)
    files = [(f.name, 8 * f.stat().st_size) for f in source.iterdir() if f.name != "journal.lock"]
    seen: Counter[str] = Counter()
    for trial in range(count):
        [(name, size)] = draw.choices(files, [size for _, size in files])
        folder = crash_image(source, scratch / str(trial))
        flipped(folder, name, draw.randrange(size))
        seen[f"{'log' if name == WAL else 'file'} {outcome(folder, digest)}"] += 1
        shutil.rmtree(folder)
    return seen


def test_a_flipped_bit_of_a_closed_store(closed: Path, tmp_path: Path, digest: str) -> None:
    seen = flips(closed, tmp_path, digest, 100, 0)
    assert seen["file lost"] == 0 and seen["file detected"] > 20, seen


def test_a_flipped_bit_of_a_store_whose_driver_was_killed(
    killed: Path, tmp_path: Path, digest: str
) -> None:
    seen = flips(killed, tmp_path, digest, 100, 1)
    assert seen["file lost"] == 0 and seen["log lost"] > 10, seen


@pytest.mark.endurance
def test_two_thousand_flipped_bits(
    closed: Path, killed: Path, tmp_path: Path, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, seed in ((closed, 2), (killed, 3)):
        seen = flips(source, tmp_path, digest, 1000, seed)
        with capsys.disabled():
            print(source.name, dict(seen))
        assert seen["file lost"] == 0, seen


def test_a_damaged_row_is_set_aside_and_named(store: Path) -> None:
    content = (store / JOURNAL).read_bytes()
    needle = measured(KEYS[5]).values["loss"].tobytes()  # type: ignore[union-attr]
    flipped(store, JOURNAL, 8 * content.index(needle) + 3)
    with Journal.open(store, driver=False) as reader:
        assert reader.finished() == set(KEYS) - {KEYS[5]}
        assert [damage.key for damage in reader.check()] == [KEYS[5]]
    with Journal.open(store, IDENTITY) as journal:
        [damage] = journal.check()
        assert damage.table == "cells" and damage.key == KEYS[5]
        assert damage.sentence.startswith("A row of cells is damaged (its SHA-256 is another): {")
        assert journal.quarantined() == [damage] and journal.check() == []
        assert never_wrong(journal) == set(KEYS) - {KEYS[5]}
        journal.commit([measured(KEYS[5])])
        assert never_wrong(journal) == set(KEYS)
        assert journal.quarantined() == [damage]


def changed(folder: Path, *statements: str, arguments: tuple[object, ...] = ()) -> None:
    connection = sqlite3.connect(folder / JOURNAL)
    for statement in statements:
        connection.execute(statement, arguments)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cells SET seconds = seconds + 1 WHERE number = 3",
        "UPDATE cells SET reason = 'x' WHERE number = 3",
        "UPDATE cells SET \"group\" = 'x' WHERE number = 3",
        "UPDATE cells SET state = 'failed' WHERE number = 3",
        "UPDATE cells SET key = 'another' WHERE number = 3",
        "UPDATE cells SET key = CAST(key AS BLOB) WHERE number = 3",
        "UPDATE cells SET key = CAST(x'ff' AS TEXT) WHERE number = 3",
        "UPDATE cells SET content = CAST(content AS TEXT) WHERE number = 3",
        "UPDATE cells SET content = (SELECT content FROM cells WHERE number = 4), "
        "sha256 = (SELECT sha256 FROM cells WHERE number = 4) WHERE number = 3",
        "UPDATE cells SET seconds = 'long' WHERE number = 3",
        "UPDATE cells SET sha256 = x'' WHERE number = 3",
    ],
)
def test_every_column_counts(store: Path, digest: str, statement: str) -> None:
    changed(store, statement)
    with Journal.open(store, driver=False) as reader:
        assert reader.finished() == set(KEYS) - {KEYS[2]}
    assert outcome(store, digest) == "detected"


def test_a_damaged_prediction_is_predicted_again(store: Path, digest: str) -> None:
    changed(store, "UPDATE predictions SET content = x'00' WHERE number = 3")
    with Journal.open(store, IDENTITY) as journal:
        assert set(journal.predictions(KEYS)) == set(KEYS) - {KEYS[2]}
        assert journal.finished() == set(KEYS)
        assert [damage.table for damage in journal.quarantined()] == ["predictions"]
    assert outcome(store, digest) in ("harmless", "lost")


def test_a_row_with_a_right_hash_and_hostile_values_is_set_aside(store: Path) -> None:
    words = json.dumps([["loss", "object", [2**60]]]).encode()
    content = struct.pack("<I", len(words)) + words + bytes(8)
    row = (*to_row(measured(KEYS[2]))[:5], content)
    changed(
        store,
        "UPDATE cells SET content = ?, sha256 = ? WHERE number = 3",
        arguments=(content, row_sha256(IDENTITY, "cells", row)),
    )
    with Journal.open(store, IDENTITY) as journal:
        assert never_wrong(journal) == set(KEYS) - {KEYS[2]}
        assert [damage.reason for damage in journal.damages] == ["a header that is none"]


def about(folder: Path, **change: object) -> None:
    connection = sqlite3.connect(folder / JOURNAL)
    held = json.loads(connection.execute("SELECT content FROM about").fetchone()[0])
    content = json.dumps({**held, **change}).encode()
    row = (content, hashlib.sha256(content).digest())
    connection.execute("UPDATE about SET content = ?, sha256 = ?", row)
    connection.commit()
    connection.close()


HOSTILE: dict[str, Callable[[Path], object]] = {
    "empty": lambda s: (s / JOURNAL).write_bytes(b""),
    "no database": lambda s: (s / JOURNAL).write_bytes(b"results, results, results" * 400),
    "another database": lambda s: (s / JOURNAL).unlink() or changed(s, "CREATE TABLE cells (a)"),
    "a folder": lambda s: (s / JOURNAL).unlink() or (s / JOURNAL).mkdir(),
    "a pipe": lambda s: (s / JOURNAL).unlink() or os.mkfifo(s / JOURNAL),
    "a link": lambda s: (s / JOURNAL).rename(s / "x") and (s / JOURNAL).symlink_to(s / "x"),
    "a link to nothing": lambda s: (s / JOURNAL).unlink() or (s / JOURNAL).symlink_to("none"),
    "a log that is a link": lambda s: (s / WAL).symlink_to("/etc/passwd"),
    "gone, the log is there": lambda s: (s / JOURNAL).rename(s / WAL),
    "gone, the view is there": lambda s: (s / JOURNAL).unlink() or (s / "results.zarr").mkdir(),
    "a trigger": lambda s: changed(
        s, "CREATE TRIGGER t AFTER INSERT ON cells BEGIN DELETE FROM predictions; END"
    ),
    "a view for a table": lambda s: changed(
        s, "ALTER TABLE cells RENAME TO c", "CREATE VIEW cells AS SELECT * FROM c"
    ),
    "a column more": lambda s: changed(s, "ALTER TABLE cells ADD COLUMN more"),
    "a table more": lambda s: changed(s, "CREATE TABLE more (a)"),
    "an index more": lambda s: changed(s, "CREATE INDEX more ON cells (state)"),
    "a table less": lambda s: changed(s, "DROP TABLE predictions"),
    "nothing of itself": lambda s: changed(s, "DELETE FROM about"),
    "other words of itself": lambda s: changed(s, "UPDATE about SET content = x'7b7d'"),
    "text of itself": lambda s: changed(s, "UPDATE about SET content = 'a', sha256 = 'b'"),
    "a version that is none": lambda s: about(s, schema_version="new"),
    "a version in numbers": lambda s: about(s, schema_version=1.0),
    "a claim that is none": lambda s: about(s, claim=["a"]),
    "a truth value for a version": lambda s: about(s, version=True),
    "a source that is none": lambda s: about(s, source=1),
    "a value of 8 MiB": lambda s: changed(s, "UPDATE cells SET content = zeroblob(8388608)"),
    "another mark": lambda s: changed(s, "PRAGMA application_id = 7"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_sound_store_is_refused_in_one_sentence(
    closed: Path, store: Path, what: str
) -> None:
    HOSTILE[what](store)
    before = {p.name: p.lstat().st_size for p in store.iterdir() if p.name == JOURNAL}
    for driver in (True, False):
        with (
            pytest.raises(StoreError) as refusal,
            Journal.open(store, IDENTITY, driver=driver) as j,
        ):
            j.finished()
        said = str(refusal.value)
        assert said.startswith("folder: found ") and said.endswith(".") and "\n" not in said
    assert before == {p.name: p.lstat().st_size for p in store.iterdir() if p.name == JOURNAL}


def test_a_truncated_file_is_refused_and_a_truncated_log_loses_its_end_alone(
    closed: Path, killed: Path, tmp_path: Path, digest: str
) -> None:
    draw = random.Random(4)
    size = (closed / JOURNAL).stat().st_size
    for kept in [1, 100, 4096, size - 1, *(draw.randrange(size) for _ in range(20))]:
        folder = crash_image(closed, tmp_path / f"file-{kept}")
        os.truncate(folder / JOURNAL, kept)
        # What is cut off inside the last page reads as zeros, and the rows there as damaged.
        assert outcome(folder, digest) == ("detected" if kept > size - 4096 else "refused")
    size = (killed / WAL).stat().st_size
    for kept in [0, 1, 31, 32, size - 1, *(draw.randrange(size) for _ in range(20))]:
        folder = crash_image(killed, tmp_path / f"log-{kept}")
        os.truncate(folder / WAL, kept)
        assert outcome(folder, digest) in ("lost", "harmless")


def test_files_that_are_deleted(killed: Path, tmp_path: Path, digest: str) -> None:
    folder = crash_image(killed, tmp_path / "log")
    (folder / WAL).unlink()
    assert outcome(folder, digest) == "lost"
    folder = crash_image(killed, tmp_path / "file")
    (folder / JOURNAL).unlink()
    with pytest.raises(StoreError, match=r"it is gone, and journal\.sqlite-wal is"):
        Journal.open(folder, IDENTITY)
    folder = crash_image(killed, tmp_path / "all")
    (folder / JOURNAL).unlink()
    (folder / WAL).unlink()
    with pytest.raises(InputError, match=r"without journal\.sqlite"):
        Journal.open(folder, driver=False)


def test_the_log_of_another_store_brings_no_foreign_number(
    closed: Path, killed: Path, tmp_path: Path, digest: str
) -> None:
    folder = crash_image(closed, tmp_path / "s")
    shutil.copyfile(killed / WAL, folder / WAL)
    assert outcome(folder, digest) in ("refused", "lost", "harmless", "detected", "mended")
