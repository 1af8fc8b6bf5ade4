"""Processes that run groups: started anew, killed where they hang, replaced where they die."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import whynet
from whynet.atlas.jobs import Job, Outcome
from whynet.atlas.worker import STARTED

TRIES: Final = 3
"""Times a group is started whose process died, whoever killed it."""

LOADING: Final = 120.0
"""Seconds until the claim is loaded, where there is a time limit at all."""

ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # Else glibc maps and unmaps temporaries of some megabytes at every step of a training.
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}
"""Stands before the process imports anything."""

_START = "import sys; sys.path.append({root!r}); from whynet.atlas.worker import main; main({fd})"


class Child:
    """A process that runs one group at a time.

    It is started anew (`__main__` of the caller is not imported: a notebook, a script without a
    guard and a test are alike), in a process group of its own, so that it can be killed with
    whatever it has started. It ends when its driver does.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        root = str(Path(whynet.__file__).parents[1])
        with theirs:
            descriptor = theirs.fileno()
            code = _START.format(root=root, fd=descriptor)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                pass_fds=[descriptor],
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a claim prints is no output of ours
                process_group=0,
            )
        self.connection: Connection[Any, Any] = Connection(ours.detach())

    def send(self, job: Job) -> None:
        """Hand over a job; a process that is gone is noticed when it is listened to."""
        with suppress(OSError):
            self.connection.send_bytes(job.to_bytes())

    def kill(self) -> int:
        """End the process and all it has started; returns what it ended with.

        A process that has closed its socket by dying ended with what it died of.
        """
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        return self.process.returncode


@dataclass
class _Run:
    """A job in a process.

    Attributes:
        job: what runs.
        tries: how many processes it has been given to.
        child: where it runs.
        deadline: when it is given up, by the monotonic clock.
        began: when it was sent.
        started: whether the claim is loaded.

    """

    job: Job
    tries: int
    child: Child
    deadline: float
    began: float
    started: bool = False


class Pool:
    """Some processes for many jobs.

    Args:
        workers: most processes at a time.
        timeout: seconds after which a group is given up; None: never.

    """

    def __init__(self, workers: int, timeout: float | None = None) -> None:
        self._workers, self._timeout = workers, timeout
        self._idle: list[Child] = []
        self._busy: dict[Connection[Any, Any], _Run] = {}
        self._closed, self._owner = False, threading.get_ident()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes at once, with what they were doing; no further one starts."""
        self._closed = True
        for child in [*self._idle, *(run.child for run in self._busy.values())]:
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
        while self._idle:
            self._idle.pop().kill()
        while self._busy and self._owner == threading.get_ident():
            self._busy.popitem()[1].child.kill()

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Run jobs; yields them as they end, each exactly once.

        `jobs` is asked for the next one only when a process is free.
        """
        self._owner = threading.get_ident()
        waiting, again = iter(jobs), deque[tuple[Job, int]]()
        more = True
        while True:
            while len(self._busy) < self._workers and (again or more) and not self._closed:
                if again:
                    self._start(*again.popleft())
                elif (job := next(waiting, None)) is not None:
                    self._start(job, 1)
                else:
                    more = False
            if not self._busy:
                return
            for run, outcome in [*self._heard(), *self._overdue()]:
                if isinstance(outcome, Outcome):
                    yield run.job, outcome
                elif self._closed:  # by another thread
                    return
                elif run.tries < TRIES:
                    again.append((run.job, run.tries + 1))
                else:
                    reason = _death(run.job, outcome)
                    yield run.job, Outcome.failed(run.job, reason, time.monotonic() - run.began)

    def _start(self, job: Job, tries: int) -> None:
        while self._idle:
            child = self._idle.pop()
            if child.process.poll() is None:
                break
            child.kill()
        else:
            child = Child()
        now = time.monotonic()
        limit = math.inf if self._timeout is None else now + LOADING
        self._busy[child.connection] = _Run(job, tries, child, limit, now)
        child.send(job)

    def _heard(self) -> list[tuple[_Run, Outcome | int]]:
        """Listen until something is said or a time limit is over; a number is a process's end."""
        nearest = min(run.deadline for run in self._busy.values()) - time.monotonic()
        patience = None if nearest == math.inf else max(0.0, nearest)
        found: list[tuple[_Run, Outcome | int]] = []
        for connection in wait(list(self._busy), timeout=patience):
            assert isinstance(connection, Connection)
            run = self._busy[connection]
            try:
                said = connection.recv_bytes()
                if said == STARTED:
                    run.started = True
                    if self._timeout is not None:
                        run.deadline = time.monotonic() + self._timeout
                    continue
                found.append((run, Outcome.from_bytes(said)))
            except (EOFError, OSError):
                del self._busy[connection]
                found.append((run, run.child.kill()))
                continue
            except ValueError as error:  # the claim's code wrote to the socket
                found.append((run, Outcome.failed(run.job, f"Its process sent {error}.")))
            del self._busy[connection]
            self._idle.append(run.child)
        return found

    def _overdue(self) -> list[tuple[_Run, Outcome | int]]:
        now = time.monotonic()
        late = [run for run in self._busy.values() if run.deadline <= now]
        for run in late:
            del self._busy[run.child.connection]
            run.child.kill()
        return [(run, Outcome.failed(run.job, self._late(run), now - run.began)) for run in late]

    def _late(self, run: _Run) -> str:
        if not run.started:
            return f"loading the claim did not end within {LOADING:g} s, and was stopped."
        return f"{run.job.task} did not end within {self._timeout:g} s, and was stopped."


def _death(job: Job, code: int) -> str:
    if code >= 0:
        return f"{job.task}: its process left {TRIES} times, the last time with exit code {code}."
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    hint = ", as by the system where memory runs out" if code == -signal.SIGKILL else ""
    return f"{job.task}: its process died {TRIES} times, the last time by {name}{hint}."
