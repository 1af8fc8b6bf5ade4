"""How much a file may declare before any of it is read."""

from __future__ import annotations

import os

from whynet.core.errors import InputError
from whynet.models.load.wording import quoted


def memory_limit() -> int:
    """Return half of this machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def check_declared(size: int, name: object, argument: str, limit: int | None = None) -> None:
    """Refuse data that would not fit in memory, by the size it declares.

    Raises:
        InputError: `size` is above `limit`, half of the memory by default.

    """
    most = memory_limit() if limit is None else limit
    if size > most:
        raise InputError(
            argument,
            f"{quoted(name)}, which declares {size / 2**30:.1f} GiB",
            f"at most {most / 2**30:.1f} GiB in memory; .npy files of any size are mapped instead",
        )
