"""Running instruments in rounds within a budget of time; never losing what finished."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whynet.concepts.measuring import begin, check_rounds
from whynet.concepts.registry import load_measurer
from whynet.core.instrument import InstrumentModule
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.models.preservation import preserved
from whynet.models.subject import Subject

View = str
"""`trained`, or a reference network's: `initial`, `shuffled`, `seed-1`, …"""

Outcome = Measurement | NotApplicable | Failed


@dataclass(frozen=True)
class Task:
    """One instrument on one view of the subject.

    Attributes:
        instrument: its id.
        view: the network as it is, or a reference.
        rounds: exactly so many rounds; None lets the budget decide, with one as the minimum.
        optional: whether it begins only while there is time.

    """

    instrument: str
    view: View = "trained"
    rounds: int | None = None
    optional: bool = False


@dataclass
class Run:
    """What became of a task: its last readable state until it is read, its rounds, its seconds."""

    task: Task
    begun: bool = False
    module: InstrumentModule | None = None
    state: Any = None
    rounds: int = 0
    seconds: float = 0.0
    stopped: NotApplicable | Failed | None = None
    outcome: Outcome | None = None


@dataclass
class Schedule:
    """All runs of an examination, and whether it was interrupted.

    Attributes:
        runs: one for every task, in order.
        interrupted: a keyboard interrupt or signal ended it early.

    """

    runs: list[Run] = field(default_factory=list)
    interrupted: bool = False

    @property
    def rounds(self) -> dict[str, int]:
        """Rounds that were run of every instrument that measured the trained network."""
        return {
            run.task.instrument: run.rounds
            for run in self.runs
            if run.task.view == "trained" and isinstance(run.outcome, Measurement)
        }

    @property
    def reached(self) -> dict[View, tuple[str, ...]]:
        """View to the instruments that were begun on it."""
        begun = [run.task for run in self.runs if run.begun]
        return {
            view: tuple(task.instrument for task in begun if task.view == view)
            for view in dict.fromkeys(task.view for task in begun)
        }

    def outcome(self, instrument: str, view: View = "trained") -> Outcome | None:
        """What an instrument returned, or None where it was not reached."""
        for run in self.runs:
            if (run.task.instrument, run.task.view) == (instrument, view):
                return run.outcome
        return None


Progress = Callable[[str, int, int], None]
"""Called with what runs next, how many tasks are done and how many there are."""


def run_tasks(
    subjects: Mapping[View, Subject],
    tasks: Sequence[Task],
    *,
    seed: int,
    budget: float | None = None,
    patience: float = math.inf,
    progress: Progress | None = None,
) -> Schedule:
    """Run the tasks for at least one round each; spend what is left of the budget on more.

    Optional tasks come after the others, cheap ones first, and begin only before the deadline;
    without a budget that is `patience` seconds after the first of them began.

    Which rounds run depends on elapsed time only, never on a value that was measured. Without a
    budget every task runs one round (or the number it asks for). An exception of one instrument
    becomes its `Failed` outcome; a keyboard interrupt keeps all finished rounds.

    Args:
        subjects: the subject of each view; getting one may train it, and may raise.
        tasks: what to run, in order.
        seed: what the draws derive from.
        budget: seconds for everything, or None.
        patience: seconds in which optional tasks begin where there is no budget.
        progress: told before every task.

    """
    deadline = None if budget is None else time.monotonic() + budget
    schedule = Schedule([Run(task) for task in tasks])
    try:
        with preserved():
            total = len(schedule.runs)
            for index, run in enumerate([run for run in schedule.runs if not run.task.optional]):
                if progress:
                    progress(_label(run.task), index, total)
                _first_rounds(run, subjects, seed)
                _let_go(run, budget)
            optional = _in_order(schedule.runs)
            end = time.monotonic() + patience if deadline is None else deadline
            for index, run in enumerate(optional, start=total - len(optional)):
                if time.monotonic() >= end:
                    break
                if progress:
                    progress(_label(run.task), index, total)
                _first_rounds(run, subjects, seed)
                _let_go(run, budget)
            if deadline is not None:
                _spend(schedule.runs, deadline, progress)
    except KeyboardInterrupt:
        schedule.interrupted = True
    for run in schedule.runs:
        if run.outcome is None:
            run.outcome = _read(run)
    if progress and not schedule.interrupted:
        progress("", len(schedule.runs), len(schedule.runs))
    return schedule


def _label(task: Task) -> str:
    where = {"trained": "", "initial": ", at initialization", "shuffled": ", shuffled labels"}
    return task.instrument + where.get(task.view, f", {task.view.replace('-', ' ')}")


CHEAP = 1.0
"""Seconds on the trained network up to which an instrument comes first on the references."""


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """Order the optional runs: cheap references, the network's own, the other references.

    What was not measured on the network yet has no known cost and counts as dear.
    """
    cost = {
        run.task.instrument: run.seconds for run in runs if run.task.view == "trained" and run.begun
    }

    def place(run: Run) -> tuple[int, float]:
        if run.task.view == "trained":
            return 1, 0.0
        seconds = cost.get(run.task.instrument, math.inf)
        return (0, 0.0) if seconds <= CHEAP else (2, seconds)

    return sorted((run for run in runs if run.task.optional), key=place)


def _first_rounds(run: Run, subjects: Mapping[View, Subject], seed: int) -> None:
    started = time.monotonic()
    run.begun = True
    try:
        subject = subjects[run.task.view]
        run.module = load_measurer(run.task.instrument)
        if run.task.rounds is not None:
            check_rounds(run.module, run.task.rounds)
        state = begin(run.module, subject, seed)
        if isinstance(state, NotApplicable):
            run.stopped = state
            return
        for _ in range(run.task.rounds or 1):
            state = run.module.advance(state)
            run.state, run.rounds = state, run.rounds + 1
    except Exception as error:  # noqa: BLE001 - one instrument's failure must not lose the others
        run.stopped = _failure(error)
    finally:
        run.seconds += time.monotonic() - started


def _spend(runs: list[Run], deadline: float, progress: Progress | None) -> None:
    """Give further rounds, always to the run with the fewest, while one still fits."""
    while True:
        now = time.monotonic()
        open_runs = [
            run
            for run in runs
            if run.module is not None
            and run.stopped is None
            and run.task.rounds is None
            and 0 < run.rounds < run.module.INSTRUMENT.rounds
            and now + run.seconds / run.rounds <= deadline
        ]
        if not open_runs:
            return
        run = min(open_runs, key=lambda candidate: candidate.rounds)
        assert run.module is not None
        if progress:
            progress(f"{run.task.instrument}, round {run.rounds + 1}", len(runs), len(runs))
        try:
            run.state = run.module.advance(run.state)
            run.rounds += 1
        except Exception as error:  # noqa: BLE001 - the finished rounds stand all the same
            run.stopped = _failure(error)
        finally:
            run.seconds += time.monotonic() - now


def _let_go(run: Run, budget: float | None) -> None:
    """Read a run that gets no more rounds, and free what it holds: graphs, vectors, samples."""
    if budget is None or run.task.rounds is not None:
        run.outcome, run.state = _read(run), None


def _read(run: Run) -> Outcome | None:
    if isinstance(run.stopped, NotApplicable):
        return run.stopped
    if run.rounds and run.module is not None:
        try:
            return run.module.read(run.state)
        except Exception as error:  # noqa: BLE001 - reading is the instrument's code as well
            return _failure(error)
    return run.stopped


def _failure(error: Exception) -> Failed:
    text = str(error).strip().splitlines()
    return Failed(
        f"{type(error).__name__}: {text[0] if text else 'no message'}",
        "".join(traceback.format_exception(error)),
    )
