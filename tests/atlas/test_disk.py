"""Full disks, places that are not writable, failing system calls: old state or new state."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.atlas.storing import IDENTITY, KEYS, crash_image, fill, measured, never_wrong, predicted
from tests.atlas.writer import MANY, resume

from whynet.atlas.journal import JOURNAL, Journal
from whynet.core.errors import InputError, StoreError

ROOT = Path(__file__).parents[2]
NOBODY = 65534

CHILD = """
import os, resource, signal, sys
from pathlib import Path
import numpy
from tests.atlas.storing import *
from tests.atlas.writer import resume
from whynet.atlas.journal import Journal
from whynet.atlas.pack import pack
from whynet.core.errors import InputError, StoreError
folder = Path(sys.argv[1])
"""


def child(body: str, folder: Path, *before: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", CHILD + body, str(folder)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def committed(said: str) -> set[str]:
    return set(said.splitlines()) & set(MANY)


@pytest.mark.parametrize("pages", [12, 20, 40])
def test_a_full_database_is_a_matter_of_the_disk(tmp_path: Path, pages: int) -> None:
    finished: set[str] = set()
    with Journal.open(tmp_path, IDENTITY) as journal:
        journal.predict([predicted(key) for key in MANY[:10]])
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match="No space left on device") as full:
            for key in MANY:
                journal.predict([predicted(key)])
                journal.commit([measured(key)])
                finished.add(key)
        assert full.value.errno == errno.ENOSPC
        assert never_wrong(journal, MANY) == finished
    with Journal.open(tmp_path, IDENTITY) as journal:
        assert never_wrong(journal, MANY) == finished
    assert resume(tmp_path) == resume(tmp_path.with_name("clean"))


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    done = child(
        """
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    resume(folder)
except OSError as error:
    print("OSError", error.errno)
""",
        tmp_path / "s",
    )
    assert done.returncode == 0 and "OSError" in done.stdout, done.stderr
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        finished = never_wrong(journal, MANY)
        assert committed(done.stdout) <= finished < set(MANY)
    assert resume(tmp_path / "s") == resume(tmp_path / "clean")


def test_no_file_can_be_made_at_all(tmp_path: Path) -> None:
    body = """
resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))
try:
    Journal.open(folder / "deep" / "s", IDENTITY)
except OSError as error:
    print(type(error).__name__, sorted(str(p) for p in folder.iterdir()))
"""
    for size in (0, 100, 5000, 20_000):
        done = child(body.replace("(SIZE, SIZE)", str((size, size))), tmp_path)
        assert done.stdout == "OSError []\n", (size, done.stdout, done.stderr)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    # As root, or through sudo, as .ci/run installs packages: without either the test fails.
    root = [] if os.getuid() == 0 else ["sudo", "-n"]
    options = f"size=8m,uid={os.getuid()}"
    subprocess.run([*root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    yield place
    subprocess.run([*root, "umount", "-l", place], check=True)


@pytest.mark.system
def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    clean = resume(tmp_path / "clean")
    for room in (0, 8_192, 50_000, 100_000, 300_000, 1_000_000):
        store = small_disk / "s"
        (small_disk / "filler").write_bytes(bytes(2**23 - room - 4096))
        done = child(
            """
try:
    resume(folder)
except OSError as error:
    print("OSError", error.errno)
""",
            store,
        )
        assert f"OSError {errno.ENOSPC}" in done.stdout, (room, done.stdout, done.stderr)
        if (store / JOURNAL).exists():
            with Journal.open(store, IDENTITY, driver=False) as reader:
                assert committed(done.stdout) <= never_wrong(reader, MANY)
        else:
            assert not store.exists() and not committed(done.stdout)
        (small_disk / "filler").unlink()
        with Journal.open(store, IDENTITY) as journal:
            assert committed(done.stdout) <= never_wrong(journal, MANY)
        assert resume(store) == clean
        shutil.rmtree(store)


@pytest.mark.system
def test_a_disk_that_is_full_while_packing_keeps_the_old_view(small_disk: Path) -> None:
    body = """
from tests.atlas.test_kills import views
from whynet.atlas.pack import read_view
both = views()
fill(folder)
with Journal.open(folder, IDENTITY) as journal:
    pack(journal, folder, both[0])
    left = os.statvfs(folder)
    (folder.parent / "filler").write_bytes(bytes(left.f_bavail * left.f_frsize - 20_000))
    try:
        pack(journal, folder, both[1])
    except OSError as error:
        print("OSError", error.errno)
assert read_view(folder / "results.zarr")[1]["claim"][0].identical(both[0]["claim"][0])
print(sorted(p.name for p in folder.iterdir()))
"""
    done = child(body, small_disk / "s")
    wanted = f"OSError {errno.ENOSPC}\n['journal.lock', 'journal.sqlite', 'results.zarr']\n"
    assert done.stdout == wanted, done.stderr


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user can reach, as those of pytest are not."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    yield place
    place.chmod(0o777)
    shutil.rmtree(place)


AS_NOBODY = f"""
if os.getuid() == 0:
    os.setgid({NOBODY}); os.setuid({NOBODY})
"""


def give_away(place: Path) -> None:
    if os.getuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


READS = """
for driver in (True, False):
    try:
        with Journal.open(folder, IDENTITY, driver=driver, argument="--out") as journal:
            print(driver, len(never_wrong(journal)))
    except (InputError, OSError) as error:
        print(driver, type(error).__name__, error)
"""


def test_a_read_only_store_is_read_and_not_written_to(open_place: Path) -> None:
    fill(open_place / "closed")
    (open_place / "live").mkdir()
    with Journal.open(open_place / "closed", IDENTITY) as journal:
        journal.predict([predicted("more")])
        crash_image(open_place / "closed", open_place / "killed")
    give_away(open_place)
    for name in ("closed", "killed"):
        store = open_place / name
        before = {p.name: p.read_bytes() for p in store.iterdir()}
        for path in (*store.iterdir(), store):
            path.chmod(0o555)
        done = child(AS_NOBODY + READS, store)
        first, second = done.stdout.splitlines()
        assert first.startswith("True InputError --out: found ") and "ermission denied" in first
        assert second == f"False {len(KEYS)}", (done.stdout, done.stderr)
        assert before == {p.name: p.read_bytes() for p in store.iterdir()}
        store.chmod(0o777)


def test_a_folder_that_cannot_be_entered_or_made(open_place: Path) -> None:
    fill(open_place / "s")
    give_away(open_place)
    (open_place / "s").chmod(0o000)
    done = child(AS_NOBODY + READS, open_place / "s")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["InputError"] * 2
    open_place.chmod(0o555)
    done = child(AS_NOBODY + READS, open_place / "new")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["InputError"] * 2
    open_place.chmod(0o777)
    assert not (open_place / "new").exists()


def test_a_folder_that_becomes_read_only_in_a_run(open_place: Path) -> None:
    body = """
with Journal.open(folder, IDENTITY) as journal:
    write(journal, KEYS[:8])
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555)
    try:
        write(journal, KEYS)
        pack(journal, folder, {})
    except OSError as error:
        print("OSError", error.errno)
with Journal.open(folder, IDENTITY, driver=False) as reader:
    print(len(never_wrong(reader)))
"""
    done = child(AS_NOBODY + body, open_place / "s")
    # What is open can still be written to; what is made anew cannot.
    assert done.stdout == f"OSError {errno.EACCES}\n{len(KEYS)}\n", (done.stdout, done.stderr)


CALLS = "pwrite64,fdatasync,fsync,ftruncate,mkdir,openat,unlink,flock,mmap"
"""What a store calls on its files; it neither renames them nor calls plain write."""

INJECTED = """
try:
    resume(folder, 100)
    print("end")
except (OSError, InputError, StoreError) as error:
    print(type(error).__name__, error)
"""


def failing_calls(folder: Path, every: int, call: str, error: str) -> None:
    """Let the n-th call of a kind on the store's folder fail, for n = 1, 2, … until none does."""
    clean = resume(folder / "clean", 40)
    number, kinds = 1, set()
    while True:
        store, log = folder / f"{call}-{number}", folder / "log"
        rule = f"inject={call}:error={error}:when={number}"
        filters = ["-P", str(store), "-P", str(store / JOURNAL), "-P", f"{store / JOURNAL}-wal"]
        filters += ["-P", f"{store / JOURNAL}-shm", "-P", str(store / "journal.lock")]
        done = child(INJECTED, store, "strace", "-f", "-qq", "-o", log, *filters, "-e", rule)
        assert done.returncode == 0, (number, done.stdout, done.stderr)
        last = done.stdout.splitlines()[-1]
        kinds.add(last.split()[0])
        if store.exists() and (store / JOURNAL).exists():
            with Journal.open(store, IDENTITY, driver=False) as reader:
                assert committed(done.stdout) <= never_wrong(reader, MANY)
        assert resume(store, 40) == clean
        if "INJECTED" not in log.read_text():
            assert last == "end" and number > 1
            break
        number += every
    assert kinds <= {"end", "OSError", "InputError"}, kinds


@pytest.mark.system
@pytest.mark.parametrize(
    ("call", "every"), [("pwrite64", 40), ("fdatasync", 5), ("openat", 2), ("ftruncate", 2)]
)
def test_some_failing_system_calls(tmp_path: Path, call: str, every: int) -> None:
    failing_calls(tmp_path, every, call, "EIO")


@pytest.mark.system
@pytest.mark.endurance
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS.split(","))
def test_every_failing_system_call(tmp_path: Path, call: str, error: str) -> None:
    failing_calls(tmp_path, 1, call, error)


def test_the_nth_failing_statement(tmp_path: Path) -> None:
    """Whatever statement fails, the store stands as before or after, and goes on."""
    import sqlite3

    class Failing:
        def __init__(self, connection: sqlite3.Connection, number: int) -> None:
            self._connection, self.left = connection, number

        def execute(self, *arguments: object) -> sqlite3.Cursor:
            self.left -= 1
            if self.left == 0:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return self._connection.execute(*arguments)  # type: ignore[arg-type]

        @property
        def in_transaction(self) -> bool:
            return self._connection.in_transaction

    number, ended = 0, False
    while not ended:
        number += 1
        store = tmp_path / str(number)
        with Journal.open(store, IDENTITY) as journal:
            journal.predict([predicted(key) for key in KEYS])
            real = journal._connection
            journal._connection = Failing(real, number)  # type: ignore[assignment]
            done: list[str] = []
            try:
                for start in (0, 3):
                    journal.commit([measured(key) for key in KEYS[start : start + 3]])
                    done = KEYS[: start + 3]
                ended = True
            except OSError as error:
                assert error.errno == errno.EIO
            journal._connection = real
            assert never_wrong(journal) == set(done)
            journal.commit([measured(key) for key in KEYS])
            assert never_wrong(journal) == set(KEYS)
    assert number > 10


def test_a_header_that_says_it_is_not_written_to_is_damage(tmp_path: Path) -> None:
    fill(tmp_path / "s")
    content = bytearray((tmp_path / "s" / JOURNAL).read_bytes())
    content[18] = 3
    (tmp_path / "s" / JOURNAL).write_bytes(content)
    with pytest.raises((StoreError, InputError)) as refusal:
        Journal.open(tmp_path / "s", IDENTITY)
    assert isinstance(refusal.value, StoreError) and "damaged" in str(refusal.value)
