"""Opening a store: the lock, the file, and all that is looked at before it is used."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from whynet.atlas.damage import damaged, only_index, store_errors, structure
from whynet.atlas.lock import DriverLock
from whynet.atlas.rows import Identity
from whynet.atlas.schema import (
    JOURNAL,
    check_files,
    check_identity,
    connect,
    connect_to_read,
    create,
    read_identity,
)
from whynet.core.errors import InputError


@dataclass(frozen=True)
class Opened:
    """A store's file, looked through.

    Attributes:
        connection: open.
        identity: whose results it holds.
        damage: what is wrong with its indices, which can be made again; of nothing else.

    """

    connection: sqlite3.Connection
    identity: Identity
    damage: list[str]


def open_to_read(
    folder: Path, identity: Identity | None, argument: str, stack: ExitStack
) -> Opened:
    """Open the store in a folder to read, without a lock.

    Args:
        folder: of the store.
        identity: whose results are wanted; None for any.
        argument: how the caller calls the folder.
        stack: closes what was opened.

    """
    with _access(folder, argument, "a folder that can be read"):
        if not check_files(folder, argument):
            raise InputError(
                argument, f"{str(folder)!r} without {JOURNAL}", "the folder of a store"
            )
        with store_errors(folder / JOURNAL, argument):
            return _looked_through(folder / JOURNAL, identity, argument, stack)


def open_to_write(folder: Path, identity: Identity, argument: str, stack: ExitStack) -> Opened:
    """Take the driver's lock, make the store where there is none, and open it.

    Args:
        folder: of the store.
        identity: whose results it holds or is to hold.
        argument: how the caller calls the folder.
        stack: closes what was opened.

    """
    file = folder / JOURNAL
    with _access(folder, argument, "a folder that can be written to"):
        _prepare(folder, identity, argument, stack)
        with store_errors(file, argument):
            # Nothing is opened to write, which could change it, before it was looked through.
            with ExitStack() as reading:
                seen = _looked_through(file, identity, argument, reading)
            connection = stack.enter_context(closing(connect(file, "rw")))
            connection.execute("BEGIN IMMEDIATE")
            connection.execute('UPDATE "about" SET "content" = "content"')
            connection.execute("ROLLBACK")
            return Opened(connection, seen.identity, seen.damage)


def _prepare(folder: Path, identity: Identity, argument: str, stack: ExitStack) -> None:
    """Take the driver's lock, and make the store where there is none."""
    above = [place for place in (folder, *folder.parents) if not place.exists()]
    lock: DriverLock | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = DriverLock(folder, argument)
        stack.callback(lock.release)
        if not check_files(folder, argument):
            with store_errors(folder / JOURNAL, argument):
                create(folder, identity)
    except BaseException:
        if lock is not None and not (folder / JOURNAL).exists():
            lock.release(remove=True)
        for made in above:  # deepest first; what another process uses meanwhile stays
            try:
                made.rmdir()
            except OSError:
                break
        raise


def _looked_through(
    file: Path, identity: Identity | None, argument: str, stack: ExitStack
) -> Opened:
    """Open a file to read and refuse what is no sound store."""
    connection = connect_to_read(file, stack)
    found = read_identity(connection, file, argument)
    if identity is not None:
        check_identity(found, identity, file.parent, argument)
    words = structure(connection)
    if not only_index(words):
        raise damaged(file, words[0], argument)
    return Opened(connection, found, words)


_CALLERS: Final = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR,
        errno.ENAMETOOLONG, errno.ELOOP,
    }
)  # fmt: skip
"""Errors that say of a place that it is the wrong one; others say that the disk fails."""


def _says_read_only(file: Path) -> bool:
    """Say whether the header holds a version that SQLite would only read; whynet writes none."""
    with file.open("rb") as stream:
        return stream.read(20)[18:19] > b"\x02"


@contextmanager
def _access(folder: Path, argument: str, wanted: str) -> Iterator[None]:
    """Turn a place that cannot be used, found before anything is computed, into a refusal."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CALLERS:
            raise
        file = folder / JOURNAL
        if error.errno == errno.EROFS and _says_read_only(file):
            raise damaged(file, "it says of itself that it is not written to", argument) from error
        found = f"{str(folder)!r} ({os.strerror(error.errno)})"
        raise InputError(argument, found, wanted) from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(argument, f"{str(folder)!r} ({error})", wanted) from error
