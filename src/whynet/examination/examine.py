"""Asking every question of a network, within a budget."""

from __future__ import annotations

import difflib
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from whynet.concepts.registry import field_tests, load_question, measurers, questions
from whynet.core.errors import InputError
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.core.question import Question, Results
from whynet.examination.references import References, reference_notes
from whynet.examination.report import Answer, Receipt, Report
from whynet.examination.schedule import Outcome, Progress, Run, Schedule, Task, View, run_tasks
from whynet.examination.standing import beside_references, reference_table
from whynet.models.subject import Subject

SEEDS_ASKED = 3
"""Other seeds that are trained for reference, where nothing else is said."""

PATIENCE = 60.0
"""Seconds in which, without a budget, trainings and what is measured on them may begin."""


@dataclass(frozen=True)
class Examination:
    """A finished examination: the report, the subject it is about and how it was run.

    Attributes:
        report: findings, panels, receipts.
        subject: the network with its loss and data.
        rounds: instrument id to the rounds that were run.
        seed: what all draws derive from.
        seeds: how many other seeds were asked for.
        reached: view to the instruments that were begun on it.
        references: view to the reference networks that were trained.

    """

    report: Report
    subject: Subject
    rounds: Mapping[str, int]
    seed: int
    seeds: int = 0
    reached: Mapping[View, tuple[str, ...]] = field(default_factory=dict)
    references: Mapping[View, Subject] = field(default_factory=dict)

    def save(self, path: str, **options: Any) -> str:
        """Write report, numbers, figures and weights into a folder; returns the report's path.

        Args:
            path: a new folder, an empty one, or one that an examination wrote earlier.
            **options: see `whynet.examination.folder.save`.

        """
        from whynet.examination.folder import save

        return str(save(self, path, **options))

    def _repr_html_(self) -> str:
        from whynet.examination.page import render_page

        return render_page(self.report)


def examine(
    subject: Subject,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    budget: float | None = None,
    rounds: Mapping[str, int] | None = None,
    seed: int = 0,
    seeds: int = SEEDS_ASKED,
    reached: Mapping[View, Iterable[str]] | None = None,
    progress: Progress | None = None,
    command: Callable[[str, int], str] | None = None,
) -> Examination:
    """Ask every question that applies to a network, and answer in a report.

    Args:
        subject: the network with its loss and data.
        only: ids of questions or instruments; all by default.
        skip: ids of questions or instruments to leave out.
        budget: seconds; one round of every instrument is the minimum, what is left buys shorter
            bars. None: one round each, and a minute in which trainings for reference and what is
            measured on them may begin.
        rounds: exact rounds by instrument, as receipts and manifests record them.
        seed: what all draws derive from.
        seeds: other seeds to train for reference, beside a network with shuffled labels; 0
            trains nothing again.
        reached: view to instruments, as manifests record them: exactly these are run.
        progress: told what runs next, how many tasks are done and how many there are.
        command: gives the receipt's command for an instrument and its rounds; Python by default.

    Returns:
        The examination; nothing is written before its `save`. A keyboard interrupt ends it early
        with `report.interrupted` set and everything that finished in its panels.

    Raises:
        InputError: `only`, `skip` or `rounds` name something that does not exist, leave nothing
            to ask, or ask for rounds that an instrument does not have; `seeds` is out of range.

    """
    started = time.monotonic()
    fixed = dict(rounds or {})
    chosen, wanted = choose(only, skip, fixed)
    subjects = References(subject, seeds)
    tasks = _tasks(subjects, chosen, wanted, fixed, tuple(only), retrain=seeds > 0)
    if reached is not None:
        tasks = _only_reached(tasks, reached)
    schedule = run_tasks(
        subjects, tasks, seed=seed, budget=budget, patience=PATIENCE, progress=progress
    )
    report = _report(
        subjects, chosen, schedule, command or _in_python(seed), seed, time.monotonic() - started
    )
    return Examination(
        report, subject, schedule.rounds, seed, seeds, schedule.reached, subjects.made
    )


def _in_python(seed: int) -> Callable[[str, int], str]:
    return lambda name, rounds: f"whynet.measure({name!r}, subject, {rounds=}, {seed=})"


def _only_reached(tasks: Iterable[Task], reached: Mapping[View, Iterable[str]]) -> list[Task]:
    """Keep what an earlier run began, and begin it whatever the time."""
    again = {(name, view) for view, names in reached.items() for name in names}
    kept = (task for task in tasks if (task.instrument, task.view) in again)
    return [replace(task, optional=False) for task in kept]


def _tasks(
    subjects: References,
    chosen: Mapping[str, Question],
    wanted: Iterable[str],
    fixed: Mapping[str, int],
    named: tuple[str, ...],
    *,
    retrain: bool,
) -> list[Task]:
    """List what to run: all that is wanted on the network, and its references.

    What trains networks or is slow is optional unless it was named, and what trains is left out
    where nothing is to be trained again.
    """
    known = measurers()
    again = "retrainable" in subjects["trained"].tags
    training = [
        name
        for name in wanted
        if "retrainable" in known[name].metadata.needs or (again and name in field_tests())
    ]
    asked = {n for q in chosen if q in named for n in _needed(chosen[q])} | set(named)
    waits = {n for n in wanted if n in training or known[n].metadata.slow} - asked
    tasks = [
        Task(name, "trained", fixed.get(name), optional=name in waits)
        for name in wanted
        if retrain or name not in training or name in asked
    ]
    beside = dict.fromkeys(n for q in chosen.values() for n in q.references if n in wanted)
    for view in subjects:
        if view != "trained":
            tasks += [Task(name, view, 1, optional=True) for name in beside]
    return tasks


def _needed(question: Question) -> tuple[str, ...]:
    """Return what a question cannot do without: of one that needs nothing, what it may use."""
    return question.uses or question.may_use


def choose(
    only: Iterable[str] = (), skip: Iterable[str] = (), rounds: Mapping[str, int] | None = None
) -> tuple[dict[str, Question], tuple[str, ...]]:
    """Return the questions to ask and the instruments they need, in the order of the panels.

    Nothing is imported or computed, so that a mistake is found before anything runs.

    Args:
        only: as for `examine`.
        skip: as for `examine`.
        rounds: as for `examine`; checked, and without influence on the choice.

    Raises:
        InputError: as `examine`.

    """
    only, skip = tuple(only), tuple(skip)
    known = (*questions(), *(name for name in measurers() if name not in questions()))
    for argument, names in (("only", only), ("skip", skip)):
        for name in names:
            if name not in known:
                raise _unknown(argument, name, known)
    for name, count in (rounds or {}).items():
        if name not in measurers():
            raise _unknown("rounds", name, tuple(measurers()))
        most = measurers()[name].metadata.rounds
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
            raise InputError("rounds", f"{count!r} of {name}", f"a whole number from 1 to {most}")
    asked: dict[str, Question] = {}
    wanted: dict[str, None] = {}
    for name, entry in questions().items():
        question = entry.metadata
        used = [n for n in (*question.uses, *question.may_use) if n not in skip]
        if name in skip or any(n in skip for n in question.uses) or not used:
            continue
        if only and name not in only:
            # An instrument alone pulls in the questions that can be asked of it.
            used = [n for n in used if n in only]
            if not used or not set(question.uses) <= set(used):
                continue
        asked[name] = question
        wanted |= dict.fromkeys(used)
    if not asked:
        argument, names = ("skip", skip) if skip else ("only", only)
        raise InputError(argument, repr(" ".join(names)), "a choice that leaves a question to ask")
    return asked, tuple(wanted)


def _unknown(argument: str, name: str, known: tuple[str, ...]) -> InputError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return InputError(argument, repr(name), f"one of {', '.join(known)}{hint}")


def _report(
    subjects: References,
    chosen: dict[str, Question],
    schedule: Schedule,
    command: Callable[[str, int], str],
    seed: int,
    seconds: float,
) -> Report:
    subject = subjects["trained"]
    outcomes: dict[str, Outcome] = {}
    others: dict[View, dict[str, Measurement]] = {}
    for run in schedule.runs:
        if run.task.view == "trained" and run.outcome is not None:
            outcomes[run.task.instrument] = run.outcome
        elif isinstance(run.outcome, Measurement):
            others.setdefault(run.task.view, {})[run.task.instrument] = run.outcome
    outcomes |= _never(subject, chosen, outcomes)
    measured = {n: out for n, out in outcomes.items() if isinstance(out, Measurement)}
    results = Results(
        subject.facts,
        measured,
        others.get("initial", {}),
        others.get("shuffled", {}),
        tuple(others[view] for view in subjects.trained if view in others and view != "shuffled"),
        {n: out.reason for n, out in outcomes.items() if isinstance(out, NotApplicable)},
    )
    receipts = {
        run.task.instrument: _receipt(run, command)
        for run in schedule.runs
        if run.task.view == "trained" and isinstance(run.outcome, Measurement)
    }
    answers = tuple(
        _answer(name, question, results, outcomes, receipts) for name, question in chosen.items()
    )
    plan = tuple((name, out.check) for name, out in measured.items() if out.check)
    return Report(
        facts=subject.facts,
        answers=answers,
        outcomes=outcomes,
        others=others,
        reference_notes=reference_notes(subjects, schedule),
        plan=plan,
        provenance=provenance_of(subject, seed),
        seconds=seconds,
        interrupted=schedule.interrupted,
    )


def _never(
    subject: Subject, chosen: Mapping[str, Question], outcomes: Mapping[str, Outcome]
) -> dict[str, Outcome]:
    """Say of what was not begun that no time would have reached it, where a need is not met."""
    known = measurers()
    names = {n for question in chosen.values() for n in (question.uses or question.may_use)}
    found: dict[str, Outcome] = {}
    for name in sorted(names - outcomes.keys()):
        # Whether a network is piecewise linear takes a trace, which has its turn or none.
        needs = (tag for tag in known[name].metadata.needs if tag != "piecewise-linear")
        lacking = subject.lacks(tuple(needs))
        if lacking is not None:
            found[name] = lacking
    return found


def _receipt(run: Run, command: Callable[[str, int], str]) -> Receipt:
    assert isinstance(run.outcome, Measurement)
    return Receipt(
        run.task.instrument,
        command(run.task.instrument, run.rounds),
        run.rounds,
        run.seconds,
        run.outcome.check,
    )


def _answer(
    name: str,
    question: Question,
    results: Results,
    outcomes: dict[str, Outcome],
    receipts: dict[str, Receipt],
) -> Answer:
    if not question.uses:
        without = _without(name, question, outcomes)
        if without is not None:
            return without
    for used in question.uses:
        outcome = outcomes.get(used)
        if outcome is None:
            reason = f"The examination ended before {used} was measured."
            return Answer(name, question, "not reached", reason)
        if isinstance(outcome, NotApplicable):
            return Answer(name, question, "not applicable", outcome.reason)
        if isinstance(outcome, Failed):
            return Answer(name, question, "failed", f"{used}: {outcome.error}")
    try:
        panel = load_question(name).ask(results)
    except Exception as error:  # noqa: BLE001 - a question that raises must not lose the others
        return Answer(name, question, "failed", f"{type(error).__name__}: {error}")
    used_receipts = tuple(receipts[n] for n in (*question.uses, *question.may_use) if n in receipts)
    panel, aside = beside_references(name, panel, results)
    table = reference_table(question, results)
    return Answer(name, question, "answered", "", panel, used_receipts, aside, table)


def _without(name: str, question: Question, outcomes: dict[str, Outcome]) -> Answer | None:
    """Answer a question that needs nothing where nothing that it may use was measured."""
    found = {n: outcomes[n] for n in question.may_use if n in outcomes}
    if any(isinstance(outcome, Measurement) for outcome in found.values()):
        return None
    failed = [f"{n}: {out.error}" for n, out in found.items() if isinstance(out, Failed)]
    if failed:
        return Answer(name, question, "failed", "; ".join(failed))
    reasons = [f"{n}: {out.reason}" for n, out in found.items() if isinstance(out, NotApplicable)]
    if reasons:
        return Answer(name, question, "not applicable", " ".join(reasons))
    reason = f"The examination ended before {', '.join(question.may_use)} were measured."
    return Answer(name, question, "not reached", reason)


def provenance_of(subject: Subject, seed: int) -> tuple[tuple[str, str], ...]:
    """Return what numbers depend on beside network and data: versions, machine, settings."""
    from whynet import __version__

    rows = [
        ("whynet", __version__),
        ("torch", str(torch.__version__)),
        ("Python", platform.python_version()),
        ("machine class", f"{platform.system()} {platform.machine()}"),
        ("device", str(subject.device)),
        ("precision", str(subject.dtype).removeprefix("torch.")),
        ("threads", str(torch.get_num_threads())),
        ("batch size", str(subject.batch_size)),
        ("seed", str(seed)),
    ]
    for split in ("train", "test"):
        data = getattr(subject, split)
        if data is not None:
            rows.append((f"{split} data, SHA-256", data.sha256))
    return tuple(rows)
