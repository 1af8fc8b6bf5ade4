"""One driver per store: a lock of the operating system, gone with the process that held it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from whynet.core.errors import InputError
from whynet.core.plain_text import printable

LOCK = "journal.lock"
"""The file that is locked; what is in it says whose the lock is, and decides nothing."""

_MOST = 4096


class DriverLock:
    """The right to write to a store, as long as this process lives.

    It survives neither the process nor a move to another machine; a child that this process
    forks (and does not start anew, as `spawn` does) would keep it.

    Args:
        folder: of the store.
        argument: how the caller calls it.

    Raises:
        InputError: another run has it (the sentence names that), or there are no locks here.
        OSError: the folder cannot be written to.

    """

    def __init__(self, folder: Path, argument: str) -> None:
        self.place = folder / LOCK
        while (held := self._taken(argument)) is None:
            pass
        self._held: int | None = held
        self._say_whose()

    def _taken(self, argument: str) -> int | None:
        """Lock the file; None where it was removed in between."""
        held = os.open(self.place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(held), self.place.stat()):
                return held
        except BlockingIOError as error:
            whose = _whose(held)
            os.close(held)
            raise InputError(
                argument,
                f"{str(self.place.parent)!r}, in use by {whose}",
                "a folder that no other run writes to",
            ) from error
        except FileNotFoundError:
            pass
        except OSError as error:  # a file system without locks
            os.close(held)
            found = f"{str(self.place.parent)!r}, which cannot be locked ({error.strerror})"
            raise InputError(argument, found, "a folder on a file system with locks") from error
        os.close(held)
        return None

    def _say_whose(self) -> None:
        about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        assert self._held is not None
        with suppress(OSError):  # a full disk: the next one is refused without a name
            os.ftruncate(self._held, 0)
            os.pwrite(self._held, json.dumps(about).encode("ascii"), 0)

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back; twice is harmless.

        Args:
            remove: whether the file goes as well, as where no store came to be.

        """
        if self._held is None:
            return
        if remove:
            self.place.unlink(missing_ok=True)
        else:
            with suppress(OSError):
                os.ftruncate(self._held, 0)
        os.close(self._held)
        self._held = None


def _whose(held: int) -> str:
    """Say who holds the lock; the text may come from anyone."""
    about: Any = None
    with suppress(OSError, ValueError, RecursionError):
        about = json.loads(os.pread(held, _MOST, 0))
    if not isinstance(about, dict) or not {"host", "pid", "start"} <= set(about):
        return "another run"
    host, pid, start = (printable(str(about[name]), 100) for name in ("host", "pid", "start"))
    return f"process {pid} on {host} since {start}"
