"""The same jobs on a Dask cluster: workers may die, join and leave."""

from __future__ import annotations

import ipaddress
import secrets
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from whynet import __version__
from whynet.atlas.jobs import Job, Outcome
from whynet.atlas.pool import Pool
from whynet.core.errors import InputError
from whynet.core.plain_text import printable

IN_FLIGHT: Final = 1000
"""Most jobs that the scheduler holds at a time."""

LEAVING: Final = 2.0
"""Seconds for workers to end what they do for us."""

PATIENCE: Final = 30.0
"""Seconds to wait for a scheduler to answer."""

MOST_TRIES: Final = 3
"""How often a job is handed over to a scheduler that forgets it and still answers."""

ENCRYPTED: Final = ("tls", "wss")


class ClusterLostError(Exception):
    """The scheduler is gone; what was committed stands, and the rest can be resumed."""


_lock = threading.Lock()
_pools: dict[str, list[Pool]] = {}
"""On a worker: run of a driver to its pools of one process each; absent once it has ended."""
_idle: dict[str, list[Pool]] = {}
_ended: set[str] = set()


def run_job(content: bytes, run: str, timeout: float | None) -> bytes:
    """Run a job on a Dask worker, in a process of its own below it.

    So a group that hangs can be stopped, one that crashes takes no Dask worker along, the worker
    answers its scheduler meanwhile, and numbers are those of the local pool.

    Args:
        content: of the job.
        run: of the driver.
        timeout: seconds after which it is given up.

    Raises:
        InputError: this machine has another version of whynet.

    """
    job = Job.from_bytes(content)
    if job.release != __version__:
        found = f"a worker with whynet {__version__}"
        raise InputError("scheduler", found, f"whynet {job.release} on all of them")
    with _lock:
        idle = _idle.setdefault(run, [])
        if idle:
            pool = idle.pop()
        else:
            pool = Pool(1, timeout)
            _pools.setdefault(run, []).append(pool)
        if run in _ended:
            pool.close()
    found_outcomes = list(pool.outcomes([job]))
    with _lock:
        idle.append(pool)
        if run in _ended:  # it may have started a process meanwhile
            pool.close()
    if not found_outcomes:
        raise RuntimeError("the driver has ended this run")
    return found_outcomes[0][1].to_bytes()


def end_run(run: str) -> None:
    """End the processes that a Dask worker has started for a driver."""
    with _lock:
        _ended.add(run)
        _idle.pop(run, None)
        for pool in _pools.pop(run, []):
            pool.close()


class Cluster:
    """A Dask cluster that somebody runs.

    Args:
        address: of its scheduler.
        insecure: whether an address of another machine may be unencrypted.
        timeout: seconds after which a group is given up; None: never.
        ahead: whether the scheduler holds jobs that no worker has begun yet; without, a job is
            handed over only when a thread is free for it.

    Raises:
        InputError: the address is refused, nobody answers there, or Dask is not installed.

    """

    def __init__(
        self,
        address: str,
        *,
        insecure: bool = False,
        timeout: float | None = None,
        ahead: bool = True,
    ) -> None:
        check_address(address, insecure=insecure)
        distributed = _distributed()
        self._timeout, self._ahead, self._pending = timeout, ahead, dict[Any, Job]()
        self._run, self._tries = secrets.token_hex(8), dict[Any, int]()
        try:
            # Certificates, where there are any, stand in Dask's own configuration.
            self._client = distributed.Client(
                address, timeout=PATIENCE, set_as_default=False, name="whynet"
            )
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
            found = f"{printable(address, 200)!r} ({printable(str(error), 300) or 'no answer'})"
            wanted = "the address of a running scheduler, such as tcp://127.0.0.1:8786"
            raise InputError("scheduler", found, wanted) from error
        self._distributed = distributed

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
        """Leave the cluster; what it still computes for us is canceled."""
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._client.status == "running":
                self._client.cancel(list(self._pending), force=True)
                # Asked in a thread: a worker that does not answer holds nobody up.
                asking = threading.Thread(target=self._end_run, daemon=True)
                asking.start()
                asking.join(LEAVING)
        self._pending.clear()
        with suppress(Exception):
            self._client.close(timeout=2)

    def _end_run(self) -> None:
        with suppress(Exception):
            self._client.run(end_run, self._run, on_error="ignore")

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Run jobs; yields them as they end, each exactly once.

        Raises:
            ClusterLostError: the scheduler is gone.
            InputError: the workers cannot run our jobs at all.

        """
        waiting = iter(jobs)
        completed = self._distributed.as_completed(loop=self._client.loop)
        self._fill(waiting, completed)
        while self._pending:
            future = next(completed)
            job = self._pending.pop(future)
            tries = self._tries.pop(future)
            outcome = self._outcome(job, future)
            if outcome is None:
                if tries >= MOST_TRIES or not self._answers():
                    raise ClusterLostError
                self._submit(job, completed, tries + 1)
                continue
            yield job, outcome
            self._fill(waiting, completed)

    def _fill(self, waiting: Iterator[Job], completed: Any) -> None:
        """Hand over jobs until the scheduler holds enough."""
        most = IN_FLIGHT if self._ahead else self._threads()
        while len(self._pending) < most and (job := next(waiting, None)) is not None:
            if self._client.status != "running":
                raise ClusterLostError
            self._submit(job, completed)

    def _submit(self, job: Job, completed: Any, tries: int = 1) -> None:
        future = self._client.submit(run_job, job.to_bytes(), self._run, self._timeout, pure=False)
        self._pending[future], self._tries[future] = job, tries
        completed.add(future)

    def _answers(self) -> bool:
        try:
            return self._client.status == "running" and self._client.nthreads() is not None
        except Exception:  # noqa: BLE001 - many classes mean that the scheduler does not answer
            return False

    def _threads(self) -> int:
        """Return how many jobs the workers of the moment run at a time; at least one."""
        try:
            threads: int = sum(self._client.nthreads().values())
            return min(IN_FLIGHT, max(1, threads))
        except Exception as gone:  # as below
            raise ClusterLostError from gone

    def _outcome(self, job: Job, future: Any) -> Outcome | None:
        """Return what came of a job; None where the scheduler has lost it, or is lost itself.

        A scheduler may drop a task whose workers died while they answered.
        """
        if future.status in ("cancelled", "lost"):
            return None
        try:
            error = future.exception(timeout=PATIENCE)
            content = future.result(timeout=PATIENCE) if error is None else b""
        except Exception:  # noqa: BLE001 - many classes mean that nobody answers
            return None
        finally:
            future.release()
        if isinstance(error, InputError):
            raise error
        if isinstance(error, ImportError):
            found = f"a worker that cannot import whynet ({printable(str(error), 200)})"
            raise InputError("scheduler", found, f"whynet {__version__} on all of them")
        if error is not None:
            said = f"{type(error).__name__}: {printable(str(error), 500)}"
            return Outcome.failed(job, f"{job.task}: {said}")
        try:
            return Outcome.from_bytes(content)
        except ValueError as wrong:
            return Outcome.failed(job, f"A worker sent {wrong}.")


def check_address(address: str, *, insecure: bool) -> None:
    """Refuse an address that sends everything in the clear to another machine.

    Whoever reaches such a port runs code as the user of the workers.

    Raises:
        InputError: it is none, or is refused.

    """
    shown = repr(printable(address, 200))
    scheme, _, rest = address.rpartition("://")
    try:
        host = urlsplit(f"//{rest}").hostname
    except ValueError:
        host = None
    if not host or not address.isprintable():
        wanted = "the address of a scheduler, such as tcp://127.0.0.1:8786"
        raise InputError("scheduler", shown, wanted)
    if insecure or scheme in ENCRYPTED or _is_this_machine(host):
        return
    found = f"{shown}, an unencrypted address of another machine: who reaches it runs code there"
    raise InputError("scheduler", found, "a tls:// address, or --insecure-cluster")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        found = "no Dask here to reach it with"
        raise InputError("scheduler", found, "pip install 'whynet[cluster]'") from error
    return distributed
