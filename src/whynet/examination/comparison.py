"""Two checkpoints, seeds, before and after of one task: what differs, and by how much."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from whynet.concepts.generalization.instruments.fit import Scores, score
from whynet.concepts.registry import instruments, load_instrument
from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.examination.comparison_functions import (
    Flip,
    answers,
    changes,
    differences,
    flips,
    independent_agreement,
    output_distance,
)
from whynet.examination.comparison_panels import answers_of
from whynet.examination.comparison_readings import Pair, moved_readings
from whynet.examination.examine import provenance_of
from whynet.examination.report import Receipt, Report
from whynet.examination.schedule import Outcome, Progress, Task, run_tasks
from whynet.models.alignment import Alignment, align, weight_distance
from whynet.models.preservation import preserved
from whynet.models.subject import Split, Subject
from whynet.numerics import intervals

READINGS = ("fit", "calibration")
"""Instruments that both networks are read with where nothing else is asked for."""


@dataclass(frozen=True)
class Comparison:
    """A finished comparison of two networks.

    Attributes:
        report: findings, panels, receipts; `report.outcomes["comparison"]` holds the numbers.
        subject: the first network, A.
        other: the second network, B.
        flips: the changed answers of which both are surest, at most 20.
        readings: instruments that both were read with.
        seed: what all draws derive from.

    """

    report: Report
    subject: Subject
    other: Subject
    flips: tuple[Flip, ...]
    readings: tuple[str, ...]
    seed: int

    def save(self, path: str | Path, **options: Any) -> str:
        """Write report, numbers, figures and both weights into a folder; returns the report's path.

        Args:
            path: a new folder, an empty one, or one that a comparison wrote earlier.
            **options: see `whynet.examination.comparison_folder.save_comparison`.

        """
        from whynet.examination.comparison_folder import save_comparison

        return str(save_comparison(self, path, **options))

    def _repr_html_(self) -> str:
        from whynet.examination.comparison_folder import comparison_page

        return comparison_page(self.report)


@dataclass
class _Found:
    """What is measured on the way, for the panels."""

    quantities: dict[str, Quantity] = field(default_factory=dict)
    coords: dict[str, list[Any]] = field(default_factory=dict)
    flips: tuple[Flip, ...] = ()
    scores: tuple[Scores, ...] = ()
    unmatched: str = ""

    def add(self, estimates: dict[str, Estimate]) -> None:
        self.quantities |= {k: Quantity.from_estimate(e) for k, e in estimates.items()}


def compare(
    subject: Subject,
    other: Subject,
    *,
    names: tuple[str, str] | None = None,
    readings: Iterable[str] = READINGS,
    seed: int = 0,
    progress: Progress | None = None,
    command: str = "",
) -> Comparison:
    """Compare two networks of one architecture on the same data, example by example.

    Differences are second minus first: `other` minus `subject`, on test data where there are
    any, else on training data.

    Args:
        subject: the first network with its loss and data, called A in the report.
        other: the second one, B; same architecture, loss and data.
        names: how the two are called; the subjects' names by default.
        readings: instruments to read both with; `fit` and `calibration` by default.
        seed: what all draws derive from.
        progress: told what runs next, how many tasks are done and how many there are.
        command: the receipt's command; Python by default.

    Returns:
        The comparison; nothing is written before its `save`.

    Raises:
        InputError: the two differ in architecture, task, loss, outputs or data, an output is not
            finite, or there is no such instrument.

    """
    started = time.monotonic()
    wanted = check_readings(readings)
    split = _check(subject, other)
    tell: Progress = progress or (lambda name, done, total: None)
    tell("comparison", 0, 1 + 2 * len(wanted))
    with preserved():
        found = _compared(subject, other, split)
    took = time.monotonic() - started
    read = _read_both(subject, other, wanted, seed, tell)
    called = names or (subject.name, other.name)
    pair = _pair(found, split, called, read, str(subject.dtype).removeprefix("torch."))
    command = command or f"whynet.compare(subject, other, readings={wanted!r}, seed={seed})"
    report = Report(
        facts=replace(
            subject.facts,
            name=f"{called[0]} beside {called[1]}",
            notes=_notes(subject, other, called, split),
        ),
        answers=answers_of(pair, Receipt("comparison", command, 1, took)),
        outcomes={"comparison": pair.measured}
        | {f"{letter}.{k}": out for letter, outs in read.items() for k, out in outs.items()},
        provenance=provenance_of(subject, seed),
        seconds=time.monotonic() - started,
    )
    return Comparison(report, subject, other, found.flips, wanted, seed)


def check_readings(readings: Iterable[str], argument: str = "readings") -> tuple[str, ...]:
    """Return the names of instruments, each once.

    Raises:
        InputError: there is no such instrument.

    """
    wanted = tuple(dict.fromkeys(readings))
    for name in wanted:
        if name not in instruments():
            load_instrument(name, argument)
    return wanted


def _check(subject: Subject, other: Subject) -> Split:
    """Refuse two that cannot be compared; returns the split to compare on."""
    ours, theirs = _shapes(subject), _shapes(other)
    if ours != theirs:
        name = next(n for n in (*ours, *theirs) if ours.get(n) != theirs.get(n))
        raise InputError(
            "other",
            f"a network of another architecture ({name!r} is {_shape(theirs.get(name))})",
            f"the architecture of subject ({name!r} is {_shape(ours.get(name))})",
        )
    for what in ("task", "name"):
        one, two = getattr(subject.loss, what), getattr(other.loss, what)
        if one != two:
            word = "loss" if what == "name" else what
            raise InputError("other", f"the {word} {two!r}", f"that of subject, {one!r}")
    both = [s for s in ("test", "train") if getattr(subject, s) and getattr(other, s)]
    if not both:
        raise InputError("other", "no data that both have", "the same test or training data")
    split: Split = "test" if both[0] == "test" else "train"
    one, two = subject.examples(split).sha256, other.examples(split).sha256
    if one != two:
        raise InputError(
            "other", f"{split} data of SHA-256 {two[:12]}…", f"those of subject, {one[:12]}…"
        )
    for argument, network in (("subject", subject), ("other", other)):
        outputs, _ = network.outputs(split)
        broken = int((~torch.isfinite(outputs.reshape(len(outputs), -1))).any(1).sum())
        if broken:
            raise InputError(
                argument, f"outputs that are not finite on {broken} examples", "finite outputs"
            )
    a, b = (network.outputs(split)[0].shape for network in (subject, other))
    if a != b:
        raise InputError("other", f"outputs of shape {list(b)}", f"those of subject, {list(a)}")
    return split


def _pair(
    found: _Found,
    split: Split,
    names: tuple[str, str],
    read: dict[str, dict[str, Outcome]],
    dtype: str,
) -> Pair:
    moved, compared = moved_readings(read, dtype)
    found.quantities["readings_compared"] = Quantity(float(compared), unit="count")
    found.quantities["readings_moved"] = Quantity(float(len(moved)), unit="count")
    cites = ("clopper1934",) if "churn" in found.quantities else ()
    return Pair(
        measured=Measurement.of(found.quantities, coords=found.coords, cites=cites),
        split=split,
        names=names,
        flips=found.flips,
        moved=moved,
        compared=compared,
        read=read,
        unmatched=found.unmatched,
        losses=tuple(scores.loss for scores in found.scores),
    )


def _shapes(subject: Subject) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in subject.module.named_parameters()}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {list(shape)}"


def _compared(subject: Subject, other: Subject, split: Split) -> _Found:
    found = _Found()
    loss = subject.loss
    (first, targets), (second, _) = subject.outputs(split), other.outputs(split)
    one, two = score(subject, split), score(other, split)
    found.scores = (one, two)
    found.coords["network"] = ["A", "B"]
    found.quantities["loss"] = Quantity.stacked(
        [intervals.mean_t(s.loss, how="mean over examples", over="examples") for s in (one, two)],
        "network",
    )
    found.add(differences(one, two))
    if one.right is not None and two.right is not None:
        said = answers(loss, first, second, targets)
        found.add(changes(said))
        shares = [_accuracy(s) for s in (one, two)]
        found.quantities["accuracy"] = Quantity.stacked(shares, "network")
        if one.one_label:
            expected = independent_agreement(shares[0], shares[1], subject.facts.classes)
            found.add({"independent_agreement": expected})
        found.flips = flips(loss, said, first, second)
        _add_flips(found)
    found.add({"output_distance": output_distance(loss, first, second)})
    _add_weights(found, subject, other, split)
    return found


def _add_flips(found: _Found) -> None:
    if found.flips:
        found.coords["flip"] = list(range(len(found.flips)))
        found.quantities["flipped_row"] = Quantity(
            [float(flip.row) for flip in found.flips], dims=("flip",), unit="row"
        )


def _accuracy(scores: Scores) -> Estimate:
    right = scores.right
    assert right is not None
    if scores.one_label:
        return intervals.proportion(int(right.sum()), len(right))
    return intervals.mean_t(right, unit="fraction", how="mean over examples", over="examples")


def _add_weights(found: _Found, subject: Subject, other: Subject, split: Split) -> None:
    apart = weight_distance(subject.module, other.module)
    matched = align(subject, other, split)
    found.coords["layer"] = [layer.path for layer in apart[1:]]
    sides = [("", apart)]
    if isinstance(matched, Alignment):
        sides.append(("matched_", weight_distance(subject.module, matched.module)))
        found.quantities |= {
            "matched_correlation": Quantity(matched.correlation, how="on these examples"),
            "chance_correlation": Quantity(matched.by_chance, how="on shuffled examples"),
            "neurons_in_place": Quantity(matched.kept, unit="fraction", how="share of neurons"),
        }
    else:
        found.unmatched = matched.reason
    for prefix, layers in sides:
        if not layers:
            continue
        found.quantities[f"{prefix}weight_distance"] = Quantity(layers[0].distance)
        found.quantities[f"{prefix}weight_cosine"] = Quantity(layers[0].cosine)
        for name in ("distance", "cosine"):
            values = [getattr(layer, name) for layer in layers[1:]]
            found.quantities[f"{prefix}layer_{name}"] = Quantity(values, dims=("layer",))


def _read_both(
    subject: Subject, other: Subject, readings: tuple[str, ...], seed: int, tell: Progress
) -> dict[str, dict[str, Outcome]]:
    """Run the instruments on both networks, one round each, with the same seed."""
    steps = 1 + 2 * len(readings)
    absent = NotApplicable("It was not reached.")
    read: dict[str, dict[str, Outcome]] = {}
    for place, (letter, network) in enumerate((("A", subject), ("B", other))):
        tasks = [Task(name, "trained", 1) for name in readings]
        shown = _shifted(tell, 1 + place * len(readings), steps)
        schedule = run_tasks({"trained": network}, tasks, seed=seed, progress=shown)
        if schedule.interrupted:
            raise KeyboardInterrupt
        read[letter] = {name: schedule.outcome(name) or absent for name in readings}
    tell("", steps, steps)
    return read


def _shifted(tell: Progress, done: int, steps: int) -> Callable[[str, int, int], None]:
    def shifted(name: str, index: int, total: int) -> None:
        if name:
            tell(name, done + index, steps)

    return shifted


def _notes(
    subject: Subject, other: Subject, names: tuple[str, str], split: Split
) -> tuple[str, ...]:
    data = "the test data" if split == "test" else "the training data; there are no test data"
    called = f"A is {names[0]}, B is {names[1]}; differences are B minus A, on {data}."
    return tuple(dict.fromkeys((called, *subject.notes, *other.notes)))
