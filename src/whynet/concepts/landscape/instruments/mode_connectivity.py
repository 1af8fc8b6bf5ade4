"""The straight line in weight space to networks of other seeds, before and after alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from whynet.concepts.landscape.lines import POSITIONS, Line, Rows, along, change_of_accuracy
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.alignment import align
from whynet.models.batch_norm import batch_normalized
from whynet.models.features import bounded
from whynet.models.retraining import Variation
from whynet.models.scores import labels_of
from whynet.models.subject import Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="loss and error on the straight line in weight space to networks of other seeds",
    unit="",
    needs=("retrainable", "test-data", "deterministic"),
    cost="two training runs, then 22 passes over at most 5,000 training and 5,000 test examples "
    "for each; as many more where batch normalization is reset at every point",
    cites=("frankle2020", "entezari2022", "ainsworth2023", "jordan2023"),
    closed_form="turned-copies",
    rounds=15,
    draws=True,
    unit_permutation_invariant=False,
)

PLAIN, ALIGNED = "as they are", "aligned"
ENDS = ("this network", "the other")
SEEDS = 2
"""Networks trained in a round."""

MOST_TRAIN, MOST_TEST = 5_000, 5_000


@dataclass(frozen=True)
class Pair:
    """The lines to one other network.

    Attributes:
        seed: the training seed of the other network.
        lines: `as they are`, and `aligned` where hidden units could be matched.
        correlation: mean correlation of the matched units; None where there are none.
        refused: why they could not be matched, or an empty string.

    """

    seed: int
    lines: Mapping[str, Line]
    correlation: float | None
    refused: str


@dataclass(frozen=True)
class State:
    """The subject, the rows it is judged on, and the pairs so far."""

    subject: Subject
    seed: int
    rows: Rows
    pairs: tuple[Pair, ...] = ()
    start: Line | None = None


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Check that the training function builds a network of the same form."""
    assert subject.trainer is not None
    fresh = subject.trainer.fresh(Variation(seed=_training_seed(seed, 0)))
    ours, theirs = (
        {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
        for module in (subject.module, fresh)
    )
    if ours != theirs:
        return NotApplicable(
            "This does not apply: the training function builds a network whose weights have other "
            "names or shapes, so that there is no straight line between the two."
        )
    rows = Rows(
        bounded(subject.examples("train"), MOST_TRAIN, "train", seed),
        bounded(subject.examples("test"), MOST_TEST, "test", seed),
    )
    return State(subject, seed, rows)


def _training_seed(seed: int, index: int) -> int:
    """Return the seed of a training run; with the instrument's seed 0 these are 1, 2, 3, …"""
    return 1 + index + 1000 * seed


def advance(state: State) -> State:
    """Train two networks and run the data through the points of their lines."""
    subject, done = state.subject, len(state.pairs)
    first = state.start
    if first is None and subject.initial is not None:
        first = along(subject, subject.initial.module, state.rows)
    pairs = [_pair(state, _training_seed(state.seed, done + k)) for k in range(SEEDS)]
    return replace(state, pairs=(*state.pairs, *pairs), start=first)


def _pair(state: State, seed: int) -> Pair:
    other = state.subject.retrained(Variation(seed=seed))
    lines = {PLAIN: along(state.subject, other.module, state.rows)}
    aligned = align(state.subject, other, "train")
    if isinstance(aligned, NotApplicable):
        return Pair(seed, lines, None, aligned.reason)
    lines[ALIGNED] = along(state.subject, aligned.module, state.rows)
    return Pair(seed, lines, aligned.correlation, "")


def read(state: State) -> Measurement:
    """Return loss and error on the lines, barriers, and what the average of the weights does."""
    names = [name for name in (PLAIN, ALIGNED) if all(name in pair.lines for pair in state.pairs)]
    lines = [[pair.lines[name] for name in names] for pair in state.pairs]
    quantities = _curves(lines, ("seed", "line")) | _barriers(lines)
    quantities["mean_barrier"] = _over_seeds(lines)
    if ALIGNED in names:
        quantities["correlation"] = Quantity(
            [float(pair.correlation or 0.0) for pair in state.pairs],
            dims=("seed",),
            how="mean correlation of matched units over training examples",
        )
    if lines[0][0].right is not None:
        quantities |= _accuracies(state, lines)
    if state.start is not None:
        own = _curves([[state.start]], ("", ""))
        quantities |= {f"start_{name}": _squeezed(value) for name, value in own.items()}
    return Measurement.of(
        quantities,
        coords={
            "seed": [pair.seed for pair in state.pairs],
            "line": names,
            "position": list(POSITIONS),
            "end": list(ENDS),
        },
        cites=INSTRUMENT.cites,
        notes=_notes(state, names),
    )


def _curves(lines: Sequence[Sequence[Line]], dims: tuple[str, str]) -> dict[str, Quantity]:
    """Return mean loss and error at every point, of every line."""
    where = (*dims, "position")
    every = [line for row in lines for line in row]
    shape = (len(lines), len(lines[0]), len(POSITIONS))

    def drawn(each: Sequence[Estimate]) -> Quantity:
        return _shaped(Quantity.stacked(each, "place"), shape, where)

    found = {
        "train_loss": Quantity(
            np.reshape([line.train_loss for line in every], shape), dims=where,
            how="mean loss at each point", over="the training data",
        ),
        "loss": drawn([_mean_loss(losses) for line in every for losses in line.loss]),
    }  # fmt: skip
    if every[0].right is not None:
        found["train_error"] = Quantity(
            np.reshape([line.train_error for line in every], shape), dims=where, unit="fraction",
            how="share wrong at each point", over="the training data",
        )  # fmt: skip
        shares = [line.right for line in every if line.right is not None]
        found["error"] = drawn([_share_wrong(right) for each in shares for right in each])
    return found


def _mean_loss(losses: np.ndarray) -> Estimate:
    return intervals.mean_t(losses, how="mean loss at each point, t interval", over="examples")


def _share_wrong(right: np.ndarray) -> Estimate:
    how = "share wrong at each point"
    if np.isin(right, (0, 1)).all():
        return intervals.proportion(int((right < 0.5).sum()), len(right), how=how)
    return intervals.mean_t(1 - right, unit="fraction", how=how, over="examples")


def _shaped(flat: Quantity, shape: tuple[int, ...], dims: tuple[str, ...]) -> Quantity:
    parts = (np.reshape(np.asarray(part), shape) for part in (flat.value, flat.low, flat.high))
    value, low, high = parts
    return replace(flat, value=value, low=low, high=high, dims=dims)


def _squeezed(quantity: Quantity) -> Quantity:
    value, low, high = (
        None if part is None else np.asarray(part)[0, 0]
        for part in (quantity.value, quantity.low, quantity.high)
    )
    assert value is not None
    return replace(quantity, value=value, low=low, high=high, dims=("position",))


def _barriers(lines: Sequence[Sequence[Line]]) -> dict[str, Quantity]:
    where, shape = ("seed", "line"), (len(lines), len(lines[0]))
    every = [line for row in lines for line in row]
    over = {"dims": where, "over": "the training data"}
    return {
        "highest": Quantity(
            np.reshape([POSITIONS[line.highest] for line in every], shape), **over,  # type: ignore[arg-type]
            how="inner point where the training loss lies most above the line between the ends",
        ),
        "train_barrier": Quantity(
            np.reshape([line.train_rise[line.highest] for line in every], shape), **over,  # type: ignore[arg-type]
            how="how far it lies above there",
        ),
        "barrier": _shaped(
            Quantity.stacked([_barrier(line) for line in every], "place"), shape, where
        ),
    }  # fmt: skip


def _barrier(line: Line) -> Estimate:
    return intervals.mean_t(
        line.rise(line.highest),
        how="test loss above the line between the ends, at the highest point of the training "
        "loss; paired t interval",
        over="examples",
    )


def _over_seeds(lines: Sequence[Sequence[Line]]) -> Quantity:
    each = np.array([[line.rise(line.highest).mean() for line in row] for row in lines])
    how = "mean barrier of the test loss over the other networks, t interval"
    means = [intervals.mean_t(column, how=how, over="training seeds") for column in each.T]
    return Quantity.stacked(means, "line")


def _accuracies(state: State, lines: Sequence[Sequence[Line]]) -> dict[str, Quantity]:
    shape = (len(lines), len(lines[0]), len(ENDS))
    middle = len(POSITIONS) // 2
    changes = [
        change_of_accuracy(line, middle, end)
        for row in lines
        for line in row
        for end in (0, len(POSITIONS) - 1)
    ]
    seeds = [change_of_accuracy(row[0], len(POSITIONS) - 1, 0) for row in lines]
    return {
        "accuracy_change": replace(
            _shaped(Quantity.stacked(changes, "place"), shape, ("seed", "line", "end")),
            how="accuracy of the averaged weights minus that of an end, paired",
        ),
        "seed_difference": replace(
            Quantity.stacked(seeds, "seed"),
            how="accuracy of the other network minus that of this one, paired",
        ),
        "constant_accuracy": Quantity(
            _constant(state.subject), unit="fraction", over="the test data",
            how="share of the most frequent class",
        ),
    }  # fmt: skip


def _constant(subject: Subject) -> float:
    outputs, targets = subject.outputs("test")
    labels = labels_of(targets, outputs, subject.loss).reshape(-1).numpy()
    counts = np.unique(labels[labels >= 0], return_counts=True)[1]
    return float(counts.max() / counts.sum())


def _notes(state: State, names: Sequence[str]) -> tuple[str, ...]:
    notes = [
        "The highest point is chosen on the training data, so that the test examples that the "
        "barrier is measured on had no part in choosing it.",
        "Intervals of loss and error on a line hold for one point at a time.",
    ]
    if ALIGNED not in names:
        reason = next(pair.refused for pair in state.pairs if pair.refused)
        notes.append(f"Hidden units were not matched. {reason}")
    if batch_normalized(state.subject.module):
        notes.append(
            "Running statistics of batch normalization were reset at every point, also at the "
            f"ends, to those of {state.rows.reset.count:,} training examples."
        )
    for split, most in (("train", MOST_TRAIN), ("test", MOST_TEST)):
        if state.subject.examples(split).count > most:  # type: ignore[arg-type]
            notes.append(f"A seeded subset of {most:,} {split} examples was used.")
    return tuple(notes)
