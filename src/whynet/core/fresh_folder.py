"""A temporary folder beside a report or a store, taking its place, and what a kill left of one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = ".whynet-"
"""Of every temporary folder."""


@contextmanager
def fresh_folder(parent: Path) -> Iterator[Path]:
    """Make a temporary folder that no other process clears away, and remove it in the end.

    A lock on the folder says that its process lives; the system drops it with the process.

    Args:
        parent: where it is made.

    """
    while True:
        fresh = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
        held = _locked(fresh)
        if held is not None:
            break
    try:
        yield fresh
    finally:  # where two folders were exchanged, this is the old one
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(held)


def clear_stale(parent: Path, ours: frozenset[str]) -> tuple[Path, ...]:
    """Remove temporary folders beside a report that killed processes left.

    What is locked by a living process, belongs to another user, is a link, or holds anything
    that is not written here stays.

    Args:
        parent: the folder that holds the report.
        ours: names of all that is written into a report.

    Returns:
        What was removed.

    """
    gone = []
    for place in sorted(parent.glob(f"{PREFIX}*")):
        # A name that ends in -old holds a report that was about to be replaced.
        if place.name.endswith("-old") or place.is_symlink() or not place.is_dir():
            continue
        with suppress(OSError):
            if (
                place.stat().st_uid != os.getuid()
                or {entry.name for entry in place.iterdir()} - ours
            ):
                continue
            held = _locked(place)
            if held is None:
                continue
            shutil.rmtree(place, ignore_errors=True)
            os.close(held)
            gone.append(place)
    return tuple(gone)


def _locked(folder: Path) -> int | None:
    """Lock a folder; returns what holds the lock, or None where it is gone or locked."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), folder.stat()):  # else another took its place
            return held
    except OSError:
        pass
    os.close(held)
    return None


def swap(fresh: Path, folder: Path) -> None:
    """Put a finished folder in its place; `fresh` is then gone, or the old folder.

    On Linux both change places in one step. Elsewhere there are two steps, and what comes
    between them puts the old folder back.
    """
    if not folder.exists():
        fresh.rename(folder)
    elif not _exchange(fresh, folder):
        old = fresh.with_name(fresh.name + "-old")
        try:
            folder.rename(old)
            fresh.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
