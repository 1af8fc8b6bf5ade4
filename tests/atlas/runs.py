"""Running the claim of the tests as a user would, here and in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from whynet.atlas.execution import Execution, Progress
from whynet.atlas.journal import Journal
from whynet.atlas.pool import ENVIRONMENT
from whynet.atlas.run import Record, claim

FILE = Path(__file__).parent / "claims" / "my_claim.py"
CLAIM = f"{FILE}:CLAIM"
DRIVER = Path(__file__).parent / "drive.py"
SMALL: dict[str, Any] = {"size": [50, 80], "shift": [0.0, 1.0], "seeds": 6}


def run(
    out: Path, *, execution: Execution | None = None, progress: Progress | None = None, **axes: Any
) -> Record:
    """Run the claim into a folder."""
    wanted = axes or SMALL
    return claim(CLAIM).run(out=out, execution=execution, progress=progress, **wanted)


def digest(folder: Path) -> str:
    """Return the hash over all results of a store."""
    with Journal.open(folder, driver=False) as journal:
        assert not journal.check()
        return journal.digest()


def finished(folder: Path) -> int:
    """Return how many cells of a store are done; none where there is no store yet."""
    if not (folder / "journal.sqlite").exists():
        return 0
    with Journal.open(folder, driver=False) as journal:
        return len(journal.finished())


def reasons(record: Record) -> dict[str, str]:
    """Return why cells failed, by the fault they were told to have."""
    return {json.loads(key)["parameters"]["fault"]: words for key, words in record.failed.items()}


def drive(out: Path, axes: dict[str, Any], **how: Any) -> subprocess.Popen[str]:
    """Start a driver in a process group of its own."""
    words = json.dumps({"out": str(out), "axes": axes, "how": how})
    return subprocess.Popen(
        [sys.executable, str(DRIVER), words],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.02)


def processes(word: str) -> list[int]:
    """Return processes of this machine whose command line holds a word, zombies left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def workers_of(*sessions: int) -> list[int]:
    """Return the workers of drivers or Dask nodes, by their sessions, orphans included."""
    found = []
    for worker in processes("whynet.atlas.worker import main"):
        with suppress(OSError):
            status = Path(f"/proc/{worker}/status").read_text()
            if os.getsid(worker) in sessions and "State:\tZ" not in status:
                found.append(worker)
    return found


def children(parent: int | None = None) -> list[int]:
    """Return the children of a process, zombies included."""
    parent = os.getpid() if parent is None else parent
    words: Sequence[str] = []
    for task in Path(f"/proc/{parent}/task").glob("*"):
        try:
            words = [*words, *(task / "children").read_text().split()]
        except OSError:
            continue
    return [int(word) for word in words]
