from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from tests.examination.small import Clock, Counting, small_subject

from whynet.core.instrument import InstrumentModule
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.examination import schedule
from whynet.examination.schedule import Schedule, Task, run_tasks

Run = Callable[..., Schedule]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(schedule.time, "monotonic", made.monotonic)
    return made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def made(
        instruments: dict[str, Counting],
        budget: float | None = None,
        rounds: dict[str, int] | None = None,
        **options: object,
    ) -> Schedule:
        log: list[tuple[str, int]] = []
        for name, instrument in instruments.items():
            instrument.name, instrument.log = name, log

        def load(name: str) -> InstrumentModule:
            return instruments[name]

        monkeypatch.setattr(schedule, "load_measurer", load)
        tasks = [Task(name, rounds=(rounds or {}).get(name)) for name in instruments]
        return run_tasks({"trained": small_subject()}, tasks, seed=0, budget=budget, **options)  # type: ignore[arg-type]

    return made


def counts(done: Schedule) -> dict[str, int]:
    return {run.task.instrument: run.rounds for run in done.runs}


def test_without_a_budget_every_task_runs_one_round(clock: Clock, run: Run) -> None:
    done = run({"a": Counting(clock, 5.0), "b": Counting(clock, 50.0)})
    assert counts(done) == {"a": 1, "b": 1}
    assert [run.seconds for run in done.runs] == [5.0, 50.0]


def test_what_gets_no_more_rounds_is_read_and_holds_nothing(clock: Clock, run: Run) -> None:
    held: list[tuple[str, list[bool]]] = []
    done = Schedule()

    def watch(name: str, _index: int, _total: int) -> None:
        held.append((name, [one.state is None for one in done.runs]))

    def kept(instruments: dict[str, Counting], **options: object) -> Schedule:
        nonlocal done
        held.clear()
        done = Schedule()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schedule, "Schedule", lambda runs: vars(done).update(runs=runs) or done)
            return run(instruments, progress=watch, **options)

    two = {"a": Counting(clock, 5.0), "b": Counting(clock, 5.0)}
    assert all(isinstance(one.outcome, Measurement) for one in kept(two).runs)
    assert dict(held)["b"] == [True, True]
    two = {"a": Counting(clock, 5.0), "b": Counting(clock, 5.0)}
    assert counts(kept(two, budget=30.0)) == {"a": 3, "b": 3}
    assert dict(held)["b"] == [False, True]


def test_a_budget_too_small_still_gives_one_round_each(clock: Clock, run: Run) -> None:
    assert counts(run({"a": Counting(clock, 5.0), "b": Counting(clock, 50.0)}, 1.0)) == {
        "a": 1, "b": 1,
    }  # fmt: skip


def test_what_is_left_of_a_budget_buys_rounds_that_fit(clock: Clock, run: Run) -> None:
    done = run(
        {"a": Counting(clock, 1.0), "b": Counting(clock, 3.0), "c": Counting(clock, 50.0)}, 66.0
    )
    # 54 s for one round each; then a and b in turn while a round still fits into the last 12 s.
    assert counts(done) == {"a": 4, "b": 4, "c": 1}
    assert clock.now == 1000.0 + 66.0


def test_a_budget_ends_where_all_rounds_have_run(clock: Clock, run: Run) -> None:
    done = run({"a": Counting(clock, 1.0, most=4), "b": Counting(clock, 1.0, most=1)}, 1e6)
    assert counts(done) == {"a": 4, "b": 1}
    assert clock.now == 1005.0


@pytest.mark.parametrize("value", [float, lambda n: -1e300 * n, lambda n: 1.0 / n, lambda n: 7.0])
def test_rounds_depend_on_time_alone(clock: Clock, run: Run, value: Callable[[int], float]) -> None:
    done = run({"a": Counting(clock, 2.0, value=value), "b": Counting(clock, 3.0)}, 40.0)
    assert counts(done) == {"a": 8, "b": 8}


def test_exact_rounds_take_no_notice_of_the_budget(clock: Clock, run: Run) -> None:
    done = run({"a": Counting(clock, 1.0), "b": Counting(clock, 1.0)}, 20.0, {"a": 3})
    assert counts(done) == {"a": 3, "b": 17}
    outcome = done.outcome("a")
    assert isinstance(outcome, Measurement)
    assert outcome.estimate("rounds").value == 3


def test_a_failure_in_a_later_round_keeps_the_finished_ones(clock: Clock, run: Run) -> None:
    done = run({"a": Counting(clock, 1.0, fails_at=3), "b": Counting(clock, 1.0)}, 20.0)
    outcome = done.outcome("a")
    assert isinstance(outcome, Measurement)
    assert counts(done)["a"] == 2 and counts(done)["b"] > 5


def test_what_fails_or_does_not_apply_is_an_outcome(clock: Clock, run: Run) -> None:
    instruments = {
        "a": Counting(clock, 1.0, fails_at=1),
        "b": Counting(clock, -1.0),
        "c": Counting(clock, 1.0, value=lambda n: math.nan),
    }
    done = run(instruments, 20.0)
    failed = done.outcome("a")
    assert isinstance(failed, Failed)
    assert failed.error == "ArithmeticError: at this round"
    assert "Traceback" in failed.traceback
    assert isinstance(done.outcome("b"), NotApplicable)
    assert isinstance(done.outcome("c"), Failed)
    assert done.outcome("nothing") is None


def test_an_interrupt_keeps_all_finished_rounds(clock: Clock, run: Run) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if name == "a, round 4":
            raise KeyboardInterrupt

    done = run({"a": Counting(clock, 1.0)}, 100.0, progress=stop)
    assert done.interrupted and counts(done) == {"a": 3}
    assert isinstance(done.outcome("a"), Measurement)


def test_progress_names_what_runs_and_ends_with_all(clock: Clock, run: Run) -> None:
    told: list[tuple[str, int, int]] = []
    run({"a": Counting(clock, 1.0, most=2), "b": Counting(clock, 1.0, most=1)}, 9.0,
        progress=lambda *words: told.append(words))  # fmt: skip
    assert told == [("a", 0, 2), ("b", 1, 2), ("a, round 2", 2, 2), ("", 2, 2)]


def test_cheap_references_come_before_what_waits_and_unknown_cost_comes_last(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits on the network itself has no known cost, so its references wait as well."""
    costs = {"cheap": 0.5, "dear": 9.0, "waiting": 30.0}
    instruments = {name: Counting(clock, cost) for name, cost in costs.items()}
    for name, instrument in instruments.items():
        instrument.name = name
    monkeypatch.setattr(schedule, "load_measurer", lambda name: instruments[name])
    tasks = [Task(name, optional=name == "waiting") for name in costs]
    views = ("initial", "seed-1")
    tasks += [Task(name, view, 1, optional=True) for view in views for name in costs]
    told: list[str] = []
    run_tasks(
        dict.fromkeys(("trained", *views), small_subject()), tasks, seed=0,
        progress=lambda name, *_: told.append(name),
    )  # fmt: skip
    assert told[2:5] == ["cheap, at initialization", "cheap, seed 1", "waiting"]
    assert told[5:7] == ["dear, at initialization", "dear, seed 1"]
    assert told[7:9] == ["waiting, at initialization", "waiting, seed 1"]


def test_more_rounds_are_the_same_rounds() -> None:
    """Exact rounds repeat what a budget bought, bit for bit."""
    subjects: dict[schedule.View, object] = {"trained": small_subject()}
    name = "segment-pieces"
    bought = run_tasks(subjects, [Task(name)], seed=3, budget=0.5)  # type: ignore[arg-type]
    rounds = bought.runs[0].rounds
    again = run_tasks(subjects, [Task(name, rounds=rounds)], seed=3)  # type: ignore[arg-type]
    first, second = bought.outcome(name), again.outcome(name)
    assert isinstance(first, Measurement) and isinstance(second, Measurement)
    assert rounds == again.runs[0].rounds >= 1
    assert first.dataset.identical(second.dataset)
