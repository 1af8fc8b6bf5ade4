"""One group at a time: what a worker does, in a process of its own or in the caller's."""

from __future__ import annotations

import hashlib
import os
import queue
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from whynet.atlas.jobs import Job, Outcome
from whynet.atlas.registry import load_claim
from whynet.atlas.rows import encode
from whynet.core.claim import ClaimModule
from whynet.core.errors import InputError
from whynet.core.plain_text import printable
from whynet.core.seeds import seed_from

STARTED: Final = b"S"
"""A worker says so when the claim is loaded, and the clock of a time limit starts."""

IDLE: Final = 300.0
"""Seconds without a job after which a worker leaves."""

_loaded: dict[tuple[str, str | None], ClaimModule] = {}


def module_of(job: Job) -> ClaimModule:
    """Import the file of a claim, once; a user's own from the path, or else from its text.

    Raises:
        InputError: it cannot be imported here.

    """
    known = (job.reference, job.source)
    if known not in _loaded:
        _loaded[known] = _load(job)
    return _loaded[known]


def _load(job: Job) -> ClaimModule:
    if job.source is None or job.text is None:
        return load_claim(job.reference)
    path = Path(job.reference.rpartition(":")[0])
    with suppress(OSError):
        if hashlib.sha256(path.read_bytes()).hexdigest() == job.source:
            return load_claim(job.reference, job.source)
    # Another machine, or changed since the run began: what counts is the file as it was then.
    with tempfile.TemporaryDirectory(prefix="whynet-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(job.text)
        return load_claim(f"{copy}:CLAIM", job.source)


def perform(job: Job, module: ClaimModule) -> Outcome:
    """Predict or run a group; whatever the claim's code raises is an outcome."""
    started = time.perf_counter()
    try:
        with _alone(job):
            found = getattr(module, job.task)(job.cells)
        cells = _packed(found, len(job.cells))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a claim may raise anything
        return Outcome.failed(job, raised(job.task, error), time.perf_counter() - started)
    return Outcome(cells, time.perf_counter() - started)


def _packed(found: Any, count: int) -> tuple[bytes | str, ...]:
    if not isinstance(found, Sequence) or len(found) != count:
        size = f"{len(found)}" if isinstance(found, Sequence) else f"a {type(found).__name__}"
        raise InputError("cells", f"{size} for {count} cells", "one mapping of arrays per cell")
    return tuple(_cell(values) for values in found)


def _cell(values: Any) -> bytes | str:
    if not isinstance(values, Mapping):
        return f"values: found a {type(values).__name__}; wanted a mapping of arrays by name."
    try:
        return encode(values)
    except InputError as error:
        return str(error)


def raised(task: str, error: BaseException) -> str:
    """Say in a sentence what was raised, and below it where."""
    name = type(error).__name__
    what = "ran out of memory" if isinstance(error, MemoryError) else f"raised {name}"
    said = printable(str(error), 500)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__][-8:]
    lines = "".join(traceback.format_list(own)).rstrip()
    sentence = f"{task} {what}: {said}" if said else f"{task} {what}"
    return f"{sentence.rstrip('.')}." + (f"\n{lines}" if lines else "")


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """Give a group the same surroundings wherever and whenever it runs.

    A claim draws from generators of its own; should it use the global ones, they start from what
    the group is, so that nothing depends on which group ran before.
    """
    cells = job.cells
    seed = seed_from("group", cells[0].claim, cells[0].version, job.group)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global one
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        yield


@contextmanager
def surroundings() -> Iterator[None]:
    """Compute in the caller's process with one thread, and leave it as it was."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        if "torch" in sys.modules:
            from whynet.models.preservation import preserved

            with preserved():
                yield
            return
        plain, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(legacy)  # noqa: NPY002


def main(descriptor: int) -> None:
    """Serve a driver through a socket until it is gone.

    Args:
        descriptor: of the socket, inherited.

    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when work stops
    with suppress(OSError):  # where memory runs out, this process goes before the driver
        Path("/proc/self/oom_score_adj").write_text("500")
    connection = Connection(descriptor)
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    while True:
        try:
            job = Job.from_bytes(jobs.get(timeout=IDLE))
        except queue.Empty:
            _leave()
        try:
            module = module_of(job)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            outcome = Outcome.failed(job, raised("loading the claim", error))
        else:
            connection.send_bytes(STARTED)
            outcome = perform(job, module)
        try:
            connection.send_bytes(outcome.to_bytes())
        except OSError:
            _leave()


def _listen(connection: Connection[Any, Any], jobs: queue.SimpleQueue[bytes]) -> None:
    """Hand over jobs; the driver's end closes with the driver, however that ended."""
    try:
        while True:
            jobs.put(connection.recv_bytes())
    except (EOFError, OSError):
        _leave()


def _leave() -> None:
    """End at once, with whatever the claim's code started."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
