"""Running groups: predictions first, then experiments, each committed as it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from whynet.atlas.cluster import Cluster, ClusterLostError, check_address
from whynet.atlas.groups import Group
from whynet.atlas.jobs import Job, Outcome, Task, records_of, source_text
from whynet.atlas.journal import Journal, Record
from whynet.atlas.pool import Pool
from whynet.atlas.registry import ClaimEntry
from whynet.atlas.worker import perform, surroundings
from whynet.core.claim import ClaimModule
from whynet.core.errors import InputError, StoreError

Progress = Callable[[int, int, str], None]
"""Told how many cells are on disk, done or failed, of how many, and what goes on."""

INTERRUPTED: Final = "interrupted"
BUDGET: Final = "the budget was spent"
LOST: Final = "the scheduler was lost"

MOST_WORKERS: Final = 1024
_AT_ONCE: Final = 10_000


@dataclass(frozen=True)
class Execution:
    """How the groups of a claim run; numbers do not depend on it.

    Attributes:
        workers: processes; with 1 and no time limit the caller's own is used.
        scheduler: address of a Dask cluster, in place of processes here.
        insecure_cluster: whether an unencrypted address of another machine is allowed.
        timeout: seconds after which a group is stopped and recorded as failed.
        retry_failed: whether cells that failed before run again.
        budget: seconds after which no further group starts; one that runs ends. With 0 none
            starts, and what a store holds is judged.

    Raises:
        InputError: a number is out of its range, or the address is refused.

    """

    workers: int = 1
    scheduler: str | None = None
    insecure_cluster: bool = False
    timeout: float | None = None
    retry_failed: bool = False
    budget: float | None = None

    def __post_init__(self) -> None:
        count = self.workers
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_WORKERS:
            wanted = f"a whole number from 1 to {MOST_WORKERS:,}"
            raise InputError("workers", repr(count), wanted)
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise InputError("timeout", repr(self.timeout), "a number of seconds above zero")
        if self.budget is not None and not 0 <= self.budget < math.inf:
            raise InputError("budget", repr(self.budget), "a number of seconds, at least zero")
        if self.scheduler is not None:
            check_address(self.scheduler, insecure=self.insecure_cluster)


class _Backend(Protocol):
    """What runs jobs; left, it has ended all it started."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]: ...


class _Here:
    """This process, one group after the other."""

    def __init__(self, module: ClaimModule) -> None:
        self._module = module
        self._around: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> Self:
        self._around = surroundings()
        self._around.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self._around.__exit__(None, None, None)

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            yield job, perform(job, self._module)


def _backend(execution: Execution, module: ClaimModule, jobs: int) -> _Backend:
    if execution.scheduler is not None:
        return Cluster(
            execution.scheduler,
            insecure=execution.insecure_cluster,
            timeout=execution.timeout,
            ahead=execution.budget is None,
        )
    if execution.workers > 1 or execution.timeout is not None:
        return Pool(min(execution.workers, jobs), execution.timeout)
    return _Here(module)


@dataclass
class _Sweep:
    """A run of a claim's groups into its store.

    Attributes:
        entry: the claim.
        groups: all of them, finished or not.
        journal: the store.
        deadline: when the budget is spent, by the monotonic clock.
        progress: told after every group.
        settled: keys of cells that need no run.
        stopped: why not all groups were run; empty where they were.

    """

    entry: ClaimEntry
    groups: Sequence[Group]
    journal: Journal
    deadline: float
    progress: Progress | None
    settled: set[str]
    stopped: str = ""
    all: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.all = frozenset(cell.key for group in self.groups for cell in group.cells)
        self.undefined = self.entry.metadata.undefined
        self.on_disk = len(self.all & self.settled)

    def told(self, what: str) -> None:
        if self.progress is not None:
            self.progress(self.on_disk, len(self.all), what)

    def unpredicted(self) -> list[Group]:
        """Return the groups with a cell that has no prediction and did not fail."""
        keys, predicted = sorted(self.all), set[str]()
        for start in range(0, len(keys), _AT_ONCE):  # never all values in memory
            predicted.update(self.journal.predictions(keys[start : start + _AT_ONCE]))
        failed = set(self.journal.failed()) & self.settled
        return self._holding(self.all - predicted - failed)

    def unfinished(self) -> list[Group]:
        return self._holding(self.all - self.settled)

    def _holding(self, keys: frozenset[str]) -> list[Group]:
        return [g for g in self.groups if any(cell.key in keys for cell in g.cells)]

    def jobs(self, task: Task, groups: Sequence[Group]) -> Iterator[Job]:
        """Yield jobs as they are wanted, until the budget is spent."""
        reference, text = source_text(self.entry)
        for group in groups:
            if time.monotonic() >= self.deadline:
                self.stopped = BUDGET
                return
            yield Job(task, reference, self.entry.source, text, group.id, group.cells)

    def run(self, backend: _Backend, task: Task, groups: Sequence[Group]) -> None:
        """Run groups and commit each as it ends."""
        put = self.predicted if task == "predict" else self.ran
        words = "predicting" if task == "predict" else "running"
        for count, (job, outcome) in enumerate(backend.outcomes(self.jobs(task, groups)), 1):
            put(job, records_of(job, outcome, self.undefined))
            self.told(f"{words}: {count:,} of {len(groups):,} groups")

    def predicted(self, job: Job, records: Sequence[Record]) -> None:
        """Commit predictions, so that they stand before the experiment begins."""
        known = set(self.journal.predictions([record.key for record in records]))
        new = [record for record in records if record.key not in known]
        done = [record for record in new if record.state == "done"]
        try:
            self.journal.predict(done)
        except StoreError:
            raise
        except InputError as error:
            new = [_refused(record, error) for record in new]
        self._fail([record for record in new if record.state == "failed"])

    def ran(self, job: Job, records: Sequence[Record]) -> None:
        """Commit the cells of a group that no earlier run has settled."""
        new = [record for record in records if record.key not in self.settled]
        try:
            self.journal.commit(new)
        except StoreError:
            raise
        except InputError as error:
            new = [_refused(record, error) for record in new]
            self.journal.commit(new)
        self._settle(new)

    def _fail(self, records: Sequence[Record]) -> None:
        new = [record for record in records if record.key not in self.settled]
        if new:
            self.journal.commit(new)
            self._settle(new)

    def _settle(self, records: Sequence[Record]) -> None:
        self.settled.update(record.key for record in records)
        self.on_disk += len(records)


def _refused(record: Record, error: InputError) -> Record:
    """Return the record of a cell whose values the store does not take."""
    return Record(record.key, "failed", {}, str(error), record.group, record.seconds)


def run_groups(
    entry: ClaimEntry,
    module: ClaimModule,
    groups: Sequence[Group],
    journal: Journal,
    execution: Execution,
    progress: Progress | None = None,
) -> str:
    """Run the groups that a store does not hold yet.

    All predictions are on disk before the first experiment begins. Groups start in the order
    given, which is that of the grids: a function of what was asked for, not of what remains. A
    group runs whole; of it those cells are committed, in one transaction, that no earlier run
    has finished.

    Args:
        entry: the claim.
        module: its file, imported.
        groups: all of them; those that are finished are left out here.
        journal: the store, open to write.
        execution: how they run.
        progress: told at the start and after every group.

    Returns:
        Why not all groups ran (`INTERRUPTED`, `BUDGET` or `LOST`), or an empty string.

    Raises:
        InputError: the user's file has changed, or the cluster cannot be used.
        StoreError: a finished cell came out with other bits.
        OSError: the disk is full or gone.

    """
    settled = journal.finished() | (set() if execution.retry_failed else set(journal.failed()))
    deadline = math.inf if execution.budget is None else time.monotonic() + execution.budget
    sweep = _Sweep(entry, groups, journal, deadline, progress, settled)
    try:
        sweep.told("starting")
        unpredicted = sweep.unpredicted()
        count = max(len(unpredicted), len(sweep.unfinished()))
        if not count:
            return ""
        if time.monotonic() >= deadline:
            return BUDGET
        source_text(entry)  # a file that has changed is refused before anything starts
        with _backend(execution, module, count) as backend:
            sweep.run(backend, "predict", unpredicted)
            if not sweep.stopped:
                sweep.run(backend, "experiment", sweep.unfinished())
    except KeyboardInterrupt:
        return INTERRUPTED
    except ClusterLostError:
        return LOST
    return sweep.stopped
