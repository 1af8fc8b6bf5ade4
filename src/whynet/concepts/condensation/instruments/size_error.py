"""How many units of a hidden layer reproduce a network's outputs, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.features import bounded
from whynet.models.reduced_layers import Hidden, Reduction, find_hidden, moments, outputs_of
from whynet.models.scores import correct, has_one_label
from whynet.models.subject import Subject
from whynet.models.threads import forward_work
from whynet.numerics import intervals
from whynet.numerics.jackknife import delete_group, groups_of
from whynet.numerics.unit_subsets import Layer, pivots, refit

INSTRUMENT = Instrument(
    title="outputs and accuracy with fewer units of a hidden layer, refitted and not trained",
    unit="fraction",
    needs=("train-data", "test-data", "deterministic"),
    cost="one pass over the training data, for each of up to six layers 41 over the test data",
    cites=("chee2022", "he2017", "tango1998"),
    closed_form="two-layer-classes",
    draws=True,
)

SHARES = tuple(round(2 ** (-j / 2), 3) for j in range(1, 9))
"""Shares of a layer's units that stay: a factor of the root of two from one to the next."""

METHODS = ("chosen", "magnitude", "random")
"""Units chosen by pivots and refitted; the largest by weight as they are; random and refitted."""

DRAWS = 3
"""Random subsets of each size."""

GROUPS = 30
MOST_LAYERS, MOST_TRAIN, MOST_TEST = 6, 5_000, 2_000
ENOUGH_TEST = 256
"""Test examples down to which they alone are made fewer where a pass is dear; then layers are."""

MOST_WORK = 5e12
"""Floating-point operations that the passes over the test data may take: minutes on a core."""


@dataclass(frozen=True)
class Size:
    """What keeping so many units of a layer does.

    Attributes:
        kept: number of units.
        error: method to error of the outputs relative to their spread, with its bounds.
        accuracy: method to share right; empty where the task has none.
        change: accuracy with the chosen units less accuracy as it is, paired; None there.

    """

    kept: int
    error: dict[str, tuple[float, float, float]]
    accuracy: dict[str, float]
    change: Estimate | None


@dataclass(frozen=True)
class State:
    """The subject and its layers, and the sizes of each once the one round has run."""

    subject: Subject
    seed: int
    layers: tuple[Hidden, ...]
    uncovered: tuple[str, ...]
    sizes: dict[str, tuple[Size, ...]]
    most_test: int = MOST_TEST
    examples: int = 0
    accuracy: float | None = None


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Look for hidden layers that one linear layer reads."""
    found, others = find_hidden(subject)
    if not found:
        return NotApplicable(
            "This does not apply: no hidden layer was found that stands between two linear "
            "layers and that nothing else reads."
        )
    layers, most_test = _affordable(subject, min(MOST_LAYERS, len(found)))
    widest = sorted(found, key=lambda hidden: -hidden.width)[:MOST_LAYERS]
    widest = [widest[i] for i in np.linspace(0, len(widest) - 1, layers).round().astype(int)]
    kept = tuple(hidden for hidden in found if hidden in widest)
    left = tuple(hidden.path for hidden in found if hidden not in widest)
    return State(subject, seed, kept, (*others, *left), {}, most_test)


def _affordable(subject: Subject, layers: int) -> tuple[int, int]:
    """Return how many layers are reduced, and on how many test examples at most.

    From the operations of a forward pass alone, never from time or values.
    """
    work = forward_work(subject)
    if not work:
        return layers, MOST_TEST
    passes = int(MOST_WORK / (work * (1 + len(SHARES) * (2 + DRAWS))))
    if passes >= ENOUGH_TEST * layers:
        return layers, min(MOST_TEST, passes // layers)
    layers = max(1, passes // ENOUGH_TEST)
    return layers, min(MOST_TEST, max(ENOUGH_TEST // 2, passes // layers))


def advance(state: State) -> State:
    """Reduce each layer alone to every size in every way, and run the test data through."""
    subject = state.subject
    train = bounded(subject.examples("train"), MOST_TRAIN, "train", state.seed)
    test = bounded(subject.examples("test"), state.most_test, "test", state.seed)
    layers = moments(subject, state.layers, train)
    sizes, accuracy = {}, None
    for hidden in state.layers:
        counts = [max(1, round(share * hidden.width)) for share in SHARES]
        plans = [_reductions(hidden, layers[hidden.path], k, state.seed) for k in counts]
        gathered = _Gathering(subject, counts)
        every = [reduction for plan in plans for reduction in plan]
        for targets, plain, reduced in outputs_of(subject, test, hidden, every):
            gathered.add(targets, plain, reduced)
        sizes[hidden.path], accuracy = gathered.sizes()
    return replace(state, sizes=sizes, examples=test.count, accuracy=accuracy)


def _reductions(hidden: Hidden, layer: Layer, count: int, seed: int) -> list[Reduction]:
    """Return the reductions to so many units: chosen, by magnitude, and random ones."""
    chosen = pivots(layer.scaled)[:count]
    size = hidden.incoming * np.linalg.norm(layer.weight, axis=0)
    largest = np.argsort(-size, kind="stable")[:count]
    still = Reduction(largest, layer.weight[:, largest], np.zeros(len(layer.weight)))
    # Drawn by rank of what a unit contributes, so that the order of the units does not matter.
    ranked = np.argsort(-np.diag(layer.scaled), kind="stable")
    made = [Reduction(chosen, *refit(layer, chosen)), still]
    for draw in range(DRAWS):
        generator = np.random.default_rng(seed_from("size-error", hidden.path, seed, draw))
        kept = ranked[generator.permutation(hidden.width)[:count]]
        made.append(Reduction(kept, *refit(layer, kept)))
    return made


class _Gathering:
    """What the reduced networks of one layer did, example by example."""

    def __init__(self, subject: Subject, counts: Sequence[int]) -> None:
        self.subject, self.counts = subject, counts
        self.outputs: list[np.ndarray] = []
        self.squares: list[np.ndarray] = []
        self.right: list[np.ndarray] = []
        self.one_label = True

    def add(self, targets: Tensor, plain: Tensor, reduced: Sequence[Tensor]) -> None:
        """Add one batch."""
        rows = plain.double().reshape(len(plain), -1).numpy()
        self.outputs.append(rows)
        others = np.stack([one.double().reshape(len(plain), -1).numpy() for one in reduced])
        self.squares.append(((others - rows) ** 2).sum(2))
        if "classification" in self.subject.loss.task:
            loss = self.subject.loss
            self.one_label = has_one_label(loss, plain)
            every = [correct(loss, one, targets).numpy() for one in (plain, *reduced)]
            self.right.append(np.stack(every))

    def sizes(self) -> tuple[tuple[Size, ...], float | None]:
        """Return what each size does, and the accuracy of the network as it is."""
        rows, ways = np.concatenate(self.outputs), 2 + DRAWS
        squares = np.concatenate(self.squares, axis=1).reshape(len(self.counts), ways, -1)
        right = np.concatenate(self.right, axis=1) if self.right else None
        made = []
        for place, count in enumerate(self.counts):
            each = squares[place]
            by_method = dict(zip(METHODS, (each[0], each[1], each[2:].mean(0)), strict=True))
            error = {name: relative_error(square, rows) for name, square in by_method.items()}
            accuracy, change = {}, None
            if right is not None:
                here = right[1 + place * ways : 1 + (place + 1) * ways]
                share = (here[0].mean(), here[1].mean(), here[2:].mean())
                accuracy = {n: float(s) for n, s in zip(METHODS, share, strict=True)}
                change = self._change(here[0], right[0])
            made.append(Size(count, error, accuracy, change))
        return tuple(made), None if right is None else float(right[0].mean())

    def _change(self, reduced: np.ndarray, plain: np.ndarray) -> Estimate:
        if self.one_label:
            return intervals.paired_difference_of_proportions(reduced > 0.5, plain > 0.5)
        return intervals.paired_difference(reduced, plain, unit="fraction", over="examples")


def relative_error(squares: np.ndarray, rows: np.ndarray) -> tuple[float, float, float]:
    """Root of summed squared errors over summed squared deviations of the outputs' mean.

    Args:
        squares: `[examples]`, squared error of each example.
        rows: `[examples, outputs]`, the outputs.

    Returns:
        Value, low and high, by a delete-group jackknife; NaN where the outputs do not vary.

    """
    count = min(GROUPS, len(rows))
    member = groups_of(np.zeros(len(rows)), count)[:, None] == np.arange(count)
    shifted = rows - rows.mean(0)
    error, second = squares @ member, (shifted**2).sum(1) @ member
    first, size = member.T @ shifted, member.sum(0)
    spread = second.sum() - second - ((first.sum(0) - first) ** 2).sum(1) / (len(rows) - size)
    if count < 2 or second.sum() <= 0 or spread.min() <= 0:
        return np.nan, np.nan, np.nan
    left = np.sqrt((error.sum() - error) / spread)
    return delete_group(float(np.sqrt(error.sum() / second.sum())), left, "log")


def read(state: State) -> Measurement:
    """Return errors and accuracies of every layer at every size."""
    table = [state.sizes[hidden.path] for hidden in state.layers]
    error = np.array([[[s.error[m] for m in METHODS] for s in row] for row in table])
    where = ("layer", "share")
    quantities = {
        "width": Quantity(
            [float(hidden.width) for hidden in state.layers], dims=("layer",), unit="count",
            how="units of the layer",
        ),
        "kept": Quantity(
            [[float(size.kept) for size in row] for row in table], dims=where, unit="count",
            how="units that stay",
        ),
        "relative_error": Quantity(
            error[..., 0], error[..., 1], error[..., 2], dims=(*where, "method"), unit="fraction",
            kind="interval" if state.examples >= 3 * GROUPS else "indicative",
            how="root of squared error over squared deviation from the mean output, "
            "delete-group jackknife",
            over="examples", missing="the outputs do not vary over the test data",
        ),
    }  # fmt: skip
    if state.accuracy is not None:
        quantities |= _accuracies(state.accuracy, table)
    return Measurement.of(
        quantities,
        coords={
            "layer": [hidden.path for hidden in state.layers],
            "share": list(SHARES),
            "method": list(METHODS),
        },
        cites=INSTRUMENT.cites,
        notes=_notes(state),
    )


def _accuracies(full: float, table: list[tuple[Size, ...]]) -> dict[str, Quantity]:
    where = ("layer", "share")
    changes = [size.change for row in table for size in row if size.change is not None]
    flat = Quantity.stacked(changes, "place")
    shape = (len(table), len(SHARES))
    on = {"unit": "fraction", "over": "the test data", "how": "share right on the test data"}
    return {
        "full_accuracy": Quantity(full, **on),  # type: ignore[arg-type]
        "accuracy": Quantity(
            [[[size.accuracy[m] for m in METHODS] for size in row] for row in table],
            dims=(*where, "method"),
            **on,  # type: ignore[arg-type]
        ),
        "accuracy_change": replace(
            flat,
            value=np.reshape(flat.value, shape),
            low=np.reshape(np.asarray(flat.low), shape),
            high=np.reshape(np.asarray(flat.high), shape),
            dims=where,
        ),
    }


def _notes(state: State) -> tuple[str, ...]:
    notes = ["One layer is reduced at a time; nothing is trained."]
    if state.uncovered:
        shown = ", ".join(state.uncovered[:6]) + ("…" if len(state.uncovered) > 6 else "")
        notes.append(f"Hidden layers that are not covered: {shown}.")
    for split, most in (("train", MOST_TRAIN), ("test", state.most_test)):
        if state.subject.examples(split).count > most:  # type: ignore[arg-type]
            notes.append(f"A seeded subset of {most:,} {split} examples was used.")
    return tuple(notes)
