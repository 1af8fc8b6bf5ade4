"""Reference networks: before training, with shuffled labels, from other seeds."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

from whynet.core.errors import InputError
from whynet.core.outcome import Failed
from whynet.core.question import SHUFFLED, UNTRAINED
from whynet.examination.schedule import Schedule, View
from whynet.models.retraining import Variation
from whynet.models.subject import Subject

MOST_SEEDS = 100
"""Other seeds that can be asked for."""


def view_name(view: View) -> str:
    """Return how a reference is called in a report.

    >>> view_name("initial"), view_name("seed-2")
    ('at initialization', 'seed 2')
    """
    return {"initial": UNTRAINED, "shuffled": SHUFFLED}.get(view, view.replace("-", " "))


def seed_views(seeds: int) -> tuple[View, ...]:
    """Return the views of other seeds, from 1."""
    return tuple(f"seed-{number}" for number in range(1, seeds + 1))


def variation_of(view: View) -> Variation:
    """Return how the network of a view is trained.

    Raises:
        KeyError: the view is of no network that is trained for reference.

    """
    if view == "shuffled":
        return Variation(seed=1, shuffled=True)
    number = view.removeprefix("seed-")
    if number == view or not number.isdecimal():
        raise KeyError(view)
    return Variation(seed=int(number))


class References(Mapping[View, Subject]):
    """The examined subject and its reference networks, each trained when it is first asked for.

    References know no initial weights and cannot be trained again: what is measured on them is
    the network alone. A training run that failed is not tried again.

    Args:
        subject: the examined network.
        seeds: how many other seeds; none, and no shuffled labels, where it cannot be retrained.

    Raises:
        InputError: `seeds` is out of range.

    """

    def __init__(self, subject: Subject, seeds: int = 0) -> None:
        if isinstance(seeds, bool) or not isinstance(seeds, int) or not 0 <= seeds <= MOST_SEEDS:
            raise InputError("seeds", repr(seeds), f"a whole number from 0 to {MOST_SEEDS}")
        self._subject = subject
        trained = seeds > 0 and "retrainable" in subject.tags
        self.trained: tuple[View, ...] = ("shuffled", *seed_views(seeds)) if trained else ()
        self._made: dict[View, Subject] = {}
        self._failed: dict[View, Exception] = {}

    def __getitem__(self, view: View) -> Subject:
        """Return the subject of a view; the first time, this may train it."""
        if view == "trained":
            return self._subject
        if view not in tuple(self):
            raise KeyError(view)
        if view in self._failed:
            raise self._failed[view]
        if view not in self._made:
            try:
                self._made[view] = self._make(view)
            except Exception as error:
                self._failed[view] = error
                raise
        return self._made[view]

    def _make(self, view: View) -> Subject:
        if view == "initial":
            initial = self._subject.initial
            if initial is None:
                raise InputError("initial", "weights before training that cannot be used", "others")
            return initial.alone()
        return self._subject.retrained(variation_of(view)).alone()

    def __iter__(self) -> Iterator[View]:
        yield "trained"
        if "initialization" in self._subject.tags:
            yield "initial"
        yield from self.trained

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    @property
    def made(self) -> dict[View, Subject]:
        """The references that were trained so far, without failures."""
        return {view: self._made[view] for view in self.trained if view in self._made}

    @property
    def failures(self) -> dict[View, Exception]:
        """Why references could not be had."""
        return dict(self._failed)


def reference_notes(subjects: References, schedule: Schedule) -> tuple[str, ...]:
    """Say which references failed, what failed on them, and what was not reached."""
    notes = [
        f"The reference network {view_name(view)!r} could not be had: {_line(error)}"
        for view, error in subjects.failures.items()
    ]
    notes += [
        f"On the reference network {view_name(run.task.view)!r} {run.task.instrument} failed: "
        f"{run.outcome.error}."
        for run in schedule.runs
        if isinstance(run.outcome, Failed)
        and run.task.view != "trained"
        and run.task.view not in subjects.failures
    ]
    missed = [run.task for run in schedule.runs if not run.begun and run.task.view != "trained"]
    if missed:
        names = ", ".join(dict.fromkeys(task.instrument for task in missed))
        views = ", ".join(dict.fromkeys(view_name(task.view) for task in missed))
        notes.append(
            f"Not reached in time on reference networks ({views}): {names}. A larger `--budget` "
            "reaches them."
        )
    return tuple(notes)


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else f"{type(error).__name__}."


def reference_from(subject: Subject, view: View, state: Mapping[str, object]) -> Subject:
    """Rebuild a reference from kept weights, without training.

    Args:
        subject: the examined network.
        view: which reference.
        state: its state dict.

    Raises:
        KeyError: the view is of no network that is trained for reference.
        RuntimeError: the weights are of another network.

    """
    from whynet.models.retraining import varied

    module = copy.deepcopy(subject.module)
    module.load_state_dict(dict(state))
    return subject.alone(module, train=varied(subject.examples("train"), variation_of(view)))
