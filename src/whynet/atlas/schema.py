"""The store's file: made whole or not at all, and looked through before it is used."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from whynet.atlas.damage import damaged
from whynet.atlas.rows import MOST_BYTES, Identity, identity_content, to_json
from whynet.core.errors import StoreError
from whynet.core.fresh_folder import clear_stale, fresh_folder
from whynet.core.plain_text import printable

JOURNAL, VIEW = "journal.sqlite", "results.zarr"
SCHEMA_VERSION: Final = "1.0"
"""A new minor version adds what an older whynet need not know; a new major one changes rows."""

_MARK: Final = 0x77687931
"""Application id in the header of the file: whose it is, for `file` and for us."""

_WAIT: Final = 60.0
"""Seconds to wait for another process that holds the file for a moment."""

TABLES: Final = ("predictions", "cells")
_COLUMNS: Final = (
    '"key" TEXT NOT NULL{unique}, "state" TEXT NOT NULL, "reason" TEXT NOT NULL, '
    '"group" TEXT NOT NULL, "seconds" REAL NOT NULL, "content" BLOB NOT NULL, '
    '"sha256" BLOB NOT NULL'
)
SCHEMA: Final = {
    "about": 'CREATE TABLE "about" ("content" BLOB NOT NULL, "sha256" BLOB NOT NULL)',
    **{
        table: f'CREATE TABLE "{table}" ("number" INTEGER PRIMARY KEY, '
        f"{_COLUMNS.format(unique=' UNIQUE')})"
        for table in TABLES
    },
    "quarantine": 'CREATE TABLE "quarantine" ("number" INTEGER PRIMARY KEY, "table" TEXT, '
    '"damage" TEXT, "key", "state", "reason", "group", "seconds", "content", "sha256")',
}

OURS: Final = frozenset(
    {JOURNAL, VIEW, *(f"{JOURNAL}-{part}" for part in ("journal", "wal", "shm"))}
)
"""All that stands in a temporary folder inside a store."""


class Text(bytes):
    """What stands in a column as text, not decoded; a column of bytes gives `bytes`."""


def connect(place: Path, mode: str) -> sqlite3.Connection:
    """Open a file of SQLite, trusting nothing that is written in it.

    Args:
        place: the file.
        mode: `rw`, `ro`, `rwc`, or `ro&immutable=1` for what nobody writes to.

    """
    uri = f"file://{quote(os.fsencode(place.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT)
    connection.text_factory = Text  # what is no UTF-8 is damage, found with the row
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * MOST_BYTES)
    for setting in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "synchronous=FULL"):
        connection.execute(f"PRAGMA {setting}")
    return connection


_NO_PLACE: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_NO_ROOM: Final = (
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
)


def connect_to_read(place: Path, stack: ExitStack) -> sqlite3.Connection:
    """Open a store's file to read, also where its folder cannot be written to.

    SQLite reads a write-ahead log through a file of shared memory, which it cannot make there,
    nor on a full disk: then the file is read as it stands or, with a log, a copy of both.

    Args:
        place: the file.
        stack: closes the connection, and removes the copy.

    """
    log = place.with_name(f"{JOURNAL}-wal")
    try:
        connection = connect(place, "ro")
        stack.enter_context(closing(connection))
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode
        if not (code in _NO_ROOM or code & 0xFF in _NO_PLACE) or not os.access(place, os.R_OK):
            raise
    if not log.exists() or log.stat().st_size == 0:
        return stack.enter_context(closing(connect(place, "ro&immutable=1")))
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whynet-"))) / JOURNAL
    for file in (log, place):
        shutil.copyfile(file, copy.with_name(file.name))
    return stack.enter_context(closing(connect(copy, "rw")))


def check_files(folder: Path, argument: str) -> bool:
    """Say whether a folder holds a store, before anything is opened.

    Raises:
        StoreError: it holds part of one, or something else under its names.

    """
    place = folder / JOURNAL
    for name in sorted(OURS):
        part = folder / name
        sound = part.is_dir() if name == VIEW else part.is_file()
        if os.path.lexists(part) and (part.is_symlink() or not sound):
            raise damaged(part, "it is a link or of another kind than a store holds", argument)
    if place.exists():
        if place.stat().st_size == 0:
            raise damaged(place, "it is empty", argument)
        return True
    left = sorted(name for name in OURS if (folder / name).exists())
    if left:
        raise damaged(place, f"it is gone, and {left[0]} is still there", argument)
    return False


def create(folder: Path, identity: Identity) -> None:
    """Put an empty store into a folder, whole or not at all; under the driver's lock.

    Raises:
        sqlite3.Error: the disk is full or gone.

    """
    clear_stale(folder, OURS)
    with fresh_folder(folder) as fresh:
        made = fresh / JOURNAL
        with closing(connect(made, "rwc")) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id={_MARK}")
            for statement in SCHEMA.values():
                connection.execute(statement)
            content = to_json({**identity_content(identity), "schema_version": SCHEMA_VERSION})
            about = (content, hashlib.sha256(content).digest())
            connection.execute('INSERT INTO "about" VALUES (?, ?)', about)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode=WAL")
        made.chmod(0o644)
        made.rename(folder / JOURNAL)
        _to_disk(folder)


def _to_disk(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def read_identity(connection: sqlite3.Connection, place: Path, argument: str) -> Identity:
    """Return whose results a file holds, once it is known to be a store this whynet reads.

    Raises:
        StoreError: it is none, damaged, or of a newer major version.

    """
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    if mark != _MARK:
        raise damaged(place, "it is no store of whynet", argument)
    row = connection.execute('SELECT "content", "sha256" FROM "about" LIMIT 1').fetchone()
    if row is None or not isinstance(row[0], bytes) or hashlib.sha256(row[0]).digest() != row[1]:
        raise damaged(place, "what it says of itself is not as it was written", argument)
    try:
        about = json.loads(row[0])
        claim, version, source = about["claim"], about["version"], about["source"]
        _check_version(about["schema_version"], place, argument)
        if not (type(claim) is str and type(version) is int and isinstance(source, str | None)):
            raise TypeError(claim)
        newer = int(about["schema_version"].split(".")[1]) > int(SCHEMA_VERSION.split(".")[1])
    except (TypeError, LookupError, RecursionError, UnicodeDecodeError) as error:
        raise damaged(place, "it does not say whose results it holds", argument) from error
    except StoreError:
        raise
    except ValueError as error:
        raise damaged(place, "what it says of itself cannot be read", argument) from error
    _check_tables(connection, place, argument, newer=newer)
    return Identity(claim, version, source)


def _check_version(version: Any, place: Path, argument: str) -> None:
    if not isinstance(version, str) or not re.fullmatch(r"\d{1,6}\.\d{1,6}", version):
        raise damaged(place, "its version is none", argument)
    ours = SCHEMA_VERSION.split(".")[0]
    if int(version.split(".")[0]) > int(ours):
        found = f"schema_version {version} in {str(place)!r}"
        raise StoreError(argument, found, f"at most {ours}.x: update whynet")


def _check_tables(
    connection: sqlite3.Connection, place: Path, argument: str, *, newer: bool
) -> None:
    """Refuse triggers, views and other columns: reading them could do anything."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE type != 'index' OR sql IS NOT NULL"
    rows = connection.execute(query).fetchmany(100)
    found = {(bytes(kind), bytes(name)): sql for kind, name, sql in rows}
    for name, statement in SCHEMA.items():
        if found.pop((b"table", name.encode()), None) != statement.encode():
            raise damaged(place, f"its table {name} is not as whynet makes it", argument)
    allowed = b"table" if newer else b""
    others = sorted(name.decode("utf-8", "replace") for kind, name in found if kind != allowed)
    if others:
        raise damaged(place, f"it holds {others[0]!r}, which whynet does not make", argument)


def check_identity(found: Identity, wanted: Identity, folder: Path, argument: str) -> None:
    """Refuse the store of another claim, version or source, and say the difference.

    Raises:
        StoreError: they differ.

    """
    if found == wanted:
        return
    said = f"{str(folder)!r}, the store of {{}}"
    if found.claim != wanted.claim:
        words = (f"the claim {printable(found.claim, 100)!r}", f"the claim {wanted.claim!r}")
    elif found.version != wanted.version:
        words = (f"version {found.version} of {wanted.claim!r}", f"version {wanted.version}")
    else:
        words = tuple(  # type: ignore[assignment]
            f"{wanted.claim!r} "
            + ("of the catalogue" if s is None else f"of a file with SHA-256 {printable(s, 12)}")
            for s in (found.source, wanted.source)
        )
    wish = f"that of {words[1]}, or another folder; its results are kept"
    raise StoreError(argument, said.format(words[0]), wish)
