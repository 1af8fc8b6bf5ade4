"""The store: one driver, any readers; what is committed stands, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.atlas.storing import (
    GRID,
    IDENTITY,
    KEYS,
    crash_image,
    fill,
    measured,
    never_wrong,
    predicted,
    write,
)

from whynet.atlas import schema
from whynet.atlas.journal import JOURNAL, Identity, Journal, Record
from whynet.core.claim import Grid
from whynet.core.errors import InputError, StoreError

OTHER = Record(KEYS[0], "done", {**measured(KEYS[0]).values, "steps": np.asarray(1)})

HOLDS = """
import sys, time
from whynet.atlas.journal import Identity, Journal
journal = Journal.open(sys.argv[1], Identity("numbers-from-keys", 1))
print("open", flush=True)
time.sleep(100)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fill(tmp_path / "store")
    return tmp_path / "store"


def test_what_is_committed_comes_back(store: Path) -> None:
    with Journal.open(store, IDENTITY) as journal:
        assert never_wrong(journal) == set(KEYS)
        assert journal.failed() == {} and journal.check() == [] and journal.damages == []
        record = journal.read([KEYS[3]])[KEYS[3]]
        assert record.group == "g" and record.seconds == 0.5
        assert journal.read(["no such key"]) == {} == journal.predictions(["no such key"])
        assert journal.read([]) == {}
    assert sorted(p.name for p in store.iterdir()) == ["journal.lock", JOURNAL]


def test_a_group_is_committed_whole_or_not_at_all(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        journal.predict([predicted(key) for key in KEYS])
        journal.commit([measured(KEYS[0])])
        with pytest.raises(StoreError, match="other bits for a finished row of cells"):
            journal.commit([measured(KEYS[1]), OTHER, measured(KEYS[2])])
        assert never_wrong(journal) == {KEYS[0]}
        with pytest.raises(InputError, match="nothing was predicted"):
            journal.commit([measured(KEYS[1]), measured("not predicted")])
        assert never_wrong(journal) == {KEYS[0]}


def test_the_same_bits_twice_are_harmless_and_other_bits_keep_the_first(store: Path) -> None:
    with Journal.open(store, IDENTITY) as journal:
        before = journal.digest()
        journal.commit([measured(KEYS[0], seconds=9.0)])
        journal.predict([predicted(KEYS[0])])
        for wrong in (OTHER, Record(KEYS[0], "failed", reason="later")):
            with pytest.raises(StoreError, match="the first stay"):
                journal.commit([wrong])
        with pytest.raises(StoreError, match="other bits for a finished row of predictions"):
            values = {**predicted(KEYS[0]).values, "sure": np.False_}
            journal.predict([Record(KEYS[0], "done", values)])
        assert journal.digest() == before
        assert journal.read([KEYS[0]])[KEYS[0]].seconds == 0.5
        minus = {**measured(KEYS[0]).values, "loss": np.zeros(12)}
    with Journal.open(store.parent / "zero", IDENTITY) as journal:
        journal.predict([predicted(KEYS[0])])
        journal.commit([Record(KEYS[0], "done", minus)])
        with pytest.raises(StoreError, match="other bits"):
            journal.commit([Record(KEYS[0], "done", {**minus, "loss": -np.zeros(12)})])


def test_what_failed_may_be_tried_again_and_then_stands(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        journal.predict([predicted(KEYS[0])])
        journal.commit([Record(KEYS[0], "failed", reason="out of memory"), Record("x", "failed")])
        assert journal.failed() == {KEYS[0]: "out of memory", "x": ""}
        assert journal.finished() == set()
        journal.commit([Record(KEYS[0], "failed", reason="again")])
        assert journal.failed()[KEYS[0]] == "again"
        journal.commit([measured(KEYS[0])])
        assert journal.failed() == {"x": ""}
        assert journal.finished() == {KEYS[0]}


def test_all_cells_have_the_same_arrays(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        write(journal, KEYS[:2])
        journal.predict([predicted(key) for key in KEYS])
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        right = measured(KEYS[2]).values
        for wrong in (
            {**right, "loss": np.zeros(11)},
            {**right, "steps": np.asarray(1.0)},
            {**right, "more": np.zeros(1)},
        ):
            with pytest.raises(InputError, match="as for all cells of a claim"):
                journal.commit([Record(KEYS[2], "done", wrong)])
        journal.commit([measured(KEYS[2])])
        with pytest.raises(InputError, match="a prediction that failed"):
            journal.predict([Record(KEYS[2], "failed", reason="theory")])


def test_the_first_group_that_is_refused_leaves_no_trace(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        journal.predict([predicted(key) for key in KEYS[:2]])
        odd = Record(KEYS[0], "done", {"other": np.zeros(3)})
        with pytest.raises(InputError, match="as for all cells"):
            journal.commit([odd, measured(KEYS[1])])
        journal.commit([measured(KEYS[0]), measured(KEYS[1])])
        assert never_wrong(journal) == set(KEYS[:2])


def test_a_new_grid_of_the_same_claim_extends_the_store(store: Path) -> None:
    larger = Grid(GRID.claim, GRID.version, {**GRID.axes, "width": (10, 80)}, 6)
    keys = [cell.key for cell in larger.cells()]
    with Journal.open(store, IDENTITY) as journal:
        write(journal, [key for key in keys if key not in journal.finished()])
        assert never_wrong(journal, list({*keys, *KEYS})) == {*keys, *KEYS}


def test_readers_see_what_is_committed_while_a_driver_writes(store: Path) -> None:
    with Journal.open(store, IDENTITY) as driver, Journal.open(store, driver=False) as reader:
        assert reader.identity == IDENTITY
        driver.predict([predicted("more")])
        driver.commit([measured("more")])
        assert reader.finished() == driver.finished() == {*KEYS, "more"}
        assert reader.digest() == driver.digest()
        for write_ in (reader.predict, reader.commit):
            with pytest.raises(TypeError, match="opened to read"):
                write_([measured("less")])


def test_a_second_driver_is_refused_with_the_name_of_the_first(store: Path) -> None:
    words = [sys.executable, "-c", HOLDS, str(store)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "open\n"
        wanted = f"in use by process {first.pid} on {socket.gethostname()} since 20"
        with pytest.raises(InputError, match=wanted) as refusal:
            Journal.open(store, IDENTITY, argument="--out")
        assert str(refusal.value).startswith("--out: found ") and "\n" not in str(refusal.value)
        with Journal.open(store, driver=False) as reader:
            assert reader.finished() == set(KEYS)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with Journal.open(store, IDENTITY) as journal:
            assert never_wrong(journal) == set(KEYS)
            with pytest.raises(InputError, match=f"in use by process {os.getpid()} "):
                Journal.open(store, IDENTITY)


@pytest.mark.parametrize(
    "said", [b"", b"\xff", b"[]", b'{"host": "\x1b[31m", "pid": [], "start": 1}']
)
def test_whatever_the_lock_says_it_is_the_lock_that_counts(store: Path, said: bytes) -> None:
    lock = store / "journal.lock"
    lock.write_bytes(b'{"host": "a", "pid": 1, "start": "now"}')
    with Journal.open(store, IDENTITY):
        lock.write_bytes(said)
        with pytest.raises(InputError, match=r"in use by (another run|process)") as refusal:
            Journal.open(store, IDENTITY)
        assert "\x1b" not in str(refusal.value)


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (Identity("another", 1), "the store of the claim 'numbers-from-keys'; wanted that of the"),
        (Identity(IDENTITY.claim, 2), "version 1 of 'numbers-from-keys'; wanted that of version 2"),
        (
            Identity(IDENTITY.claim, 1, "ab" * 32),
            "of the catalogue; wanted that of .* SHA-256 abab",
        ),
    ],
)
def test_another_claim_version_or_source_is_refused_with_the_difference(
    store: Path, identity: Identity, words: str
) -> None:
    for driver in (True, False):
        with pytest.raises(StoreError, match=words):
            Journal.open(store, identity, driver=driver)
    with Journal.open(store, IDENTITY) as journal:
        assert journal.finished() == set(KEYS)


def version_of(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> None:
    monkeypatch.setattr(schema, "SCHEMA_VERSION", version)
    fill(folder)
    monkeypatch.undo()


def test_older_and_newer_minor_versions_read_and_a_newer_major_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_of(monkeypatch, tmp_path / "minor", "1.7")
    version_of(monkeypatch, tmp_path / "major", "2.0")
    fill(tmp_path / "old")
    for name in ("minor", "old"):
        with monkeypatch.context() as patch:
            patch.setattr(schema, "SCHEMA_VERSION", "1.3")
            with Journal.open(tmp_path / name, IDENTITY) as journal:
                assert never_wrong(journal) == set(KEYS)
    for driver in (True, False):
        with pytest.raises(StoreError, match=r"schema_version 2\.0 .* at most 1\.x: update whynet"):
            Journal.open(tmp_path / "major", IDENTITY, driver=driver)


def test_a_store_may_be_moved_renamed_copied_and_reached_by_a_link(store: Path) -> None:
    moved = store.parent / "a ? b # c % é" / "-x"
    moved.parent.mkdir()
    store.rename(moved)
    link = store.parent / "link"
    link.symlink_to(moved)
    for place in (moved, link):
        with Journal.open(place, IDENTITY) as journal:
            assert never_wrong(journal) == set(KEYS)
    bare = Path(os.fsdecode(os.fsencode(store.parent) + b"/\xff\xfe"))
    moved.rename(bare)
    with Journal.open(bare, IDENTITY) as journal:
        assert never_wrong(journal) == set(KEYS)


def test_nothing_is_decided_by_a_clock(store: Path) -> None:
    for moment in (0, 4_000_000_000):
        for file in store.iterdir():
            os.utime(file, (moment, moment))
        with Journal.open(store, IDENTITY) as journal:
            assert never_wrong(journal) == set(KEYS)
    source = Path(schema.__file__).parent
    for module in ("journal", "rows", "schema", "opening", "damage", "pack"):
        text = (source / f"{module}.py").read_text()
        assert not any(clock in text for clock in ("st_mtime", "datetime", "import time"))


def test_a_reader_needs_a_store_and_makes_none(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none", tmp_path / "a\0b"):
        with pytest.raises(InputError) as refusal:
            Journal.open(place, driver=False)
        assert not isinstance(refusal.value, StoreError)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError):
        Journal.open(tmp_path)


def test_a_driver_is_refused_a_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(InputError) as refusal:
            Journal.open(place, IDENTITY, argument="--out")
        assert str(refusal.value).startswith("--out: found ")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_store_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("whynet.atlas.opening.create", full)
    with pytest.raises(OSError, match="No space left on device"):
        Journal.open(tmp_path / "a" / "b", IDENTITY)
    assert list(tmp_path.iterdir()) == []


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    fill(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_closing_twice_is_harmless_and_gives_the_lock_back(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, IDENTITY)
    journal.close()
    journal.close()
    with Journal.open(tmp_path, IDENTITY):
        pass


def test_the_lock_is_not_inherited_by_processes_started_anew(store: Path) -> None:
    journal = Journal.open(store, IDENTITY)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        journal.close()
        with Journal.open(store, IDENTITY):
            pass
        child.communicate(b"\n")


def test_an_interruption_inside_a_transaction_leaves_the_old_state(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(store, IDENTITY) as journal:
        journal.predict([predicted("a"), predicted("b")])

        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(journal, "_check_header", interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.commit([measured("a"), measured("b")])
        assert journal.finished() == set(KEYS)
        journal.commit([measured("a"), measured("b")])
        assert journal.finished() == {*KEYS, "a", "b"}


def test_what_a_kill_leaves_holds_every_committed_cell(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        journal.predict([predicted(key) for key in KEYS])
        for step, key in enumerate(KEYS):
            journal.commit([measured(key)])
            image = crash_image(tmp_path / "s", tmp_path / f"image-{step}")
            with Journal.open(image, IDENTITY) as back:
                assert never_wrong(back) == set(KEYS[: step + 1])


def test_whose_the_driver_is_stands_in_plain_text(store: Path) -> None:
    with Journal.open(store, IDENTITY):
        about = json.loads((store / "journal.lock").read_text())
    assert about["pid"] == os.getpid() and about["host"] == socket.gethostname()
    assert (store / "journal.lock").read_text() == ""
