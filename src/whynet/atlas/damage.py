"""What is wrong with a store, in words, and which error of SQLite is whose fault."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from whynet.core.errors import StoreError
from whynet.core.plain_text import printable


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written.

    Attributes:
        table: `cells` or `predictions`; empty where it is the file itself.
        key: the cell's key as it stands there, made fit to print; it may be what is damaged.
        reason: what is wrong, a phrase.

    """

    table: str
    key: str
    reason: str

    @property
    def sentence(self) -> str:
        """The damage in a sentence."""
        if not self.table:
            return f"The file of the store is damaged: {self.reason}."
        return f"A row of {self.table} is damaged ({self.reason}): {self.key}."


WHOLE: Final = "the store as it was written; move its folder away to start anew"

_DISK: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_AUTH: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_PROTOCOL: errno.EBUSY,
}
"""Results of SQLite that say something of the disk, not of what is on it."""

_ROOM: Final = 2**16
"""Bytes; a disk with less is full: the files of a store grow in steps of up to 32 KiB."""

_TORN: Final = (sqlite3.SQLITE_IOERR_SHORT_READ,)


@contextmanager
def store_errors(place: Path, argument: str) -> Iterator[None]:
    """Turn errors of SQLite into those of a disk (OSError) and of a damaged store (StoreError).

    Args:
        place: the file.
        argument: how the caller calls its folder.

    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF == sqlite3.SQLITE_NOMEM:
            raise MemoryError(str(error)) from error
        if code is not None and code not in _TORN and code & 0xFF in _DISK:
            number = _DISK[code & 0xFF]
            if number == errno.EIO and _full(place.parent):  # shared memory that finds no room
                number = errno.ENOSPC
            raise OSError(number, f"{os.strerror(number)} ({error})", str(place)) from error
        if isinstance(error, sqlite3.ProgrammingError):
            raise  # a mistake of ours
        raise damaged(place, str(error), argument) from error


def _full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _ROOM


def damaged(place: Path, reason: str, argument: str) -> StoreError:
    """Return the refusal of a store that cannot be used as it is."""
    found = f"{str(place)!r}, which is damaged ({printable(reason, 200)})"
    return StoreError(argument, found, WHOLE)


INDEX: Final = ("missing from index", "wrong # of entries in index", "non-unique entry in index")
"""What the check says where only an index is wrong, which can be made again from its table."""


def structure(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite's own check finds wrong with the file: pages, lists and indices."""
    rows = connection.execute("PRAGMA integrity_check(20)").fetchall()
    words = [printable(bytes(row[0]).decode("utf-8", "replace"), 200) for row in rows]
    return [] if words == ["ok"] else words


def only_index(words: list[str]) -> bool:
    """Say whether the tables are sound, and only what is made from them is not."""
    return all(any(sign in word for sign in INDEX) for word in words)
