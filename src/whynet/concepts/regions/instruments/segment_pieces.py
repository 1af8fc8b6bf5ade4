"""The straight pieces a piecewise-linear network is made of between two examples, exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics.segment_pieces import SegmentPieces

INSTRUMENT = Instrument(
    title="straight pieces of a piecewise-linear network between pairs of examples, exactly",
    unit="count",
    needs=("float-inputs", "deterministic", "piecewise-linear"),
    cost="60 segments (fewer above 2,000 units), each as many forward passes as it has pieces",
    cites=("raghu2017", "hanin2019"),
    closed_form="hinges",
    rounds=100,
    draws=True,
)

MOST_SEGMENTS, FEWEST_SEGMENTS, UNITS = 30, 4, 60_000
"""Segments of each kind in a round: 30, fewer for networks of more than 2,000 units, since both
the pieces and what each of them costs grow with the units."""

SAME, DIFFERENT, ANY = "same class", "different classes", "any"


@dataclass(frozen=True)
class Counts:
    """What the segments of one kind showed: one entry a segment."""

    activation: np.ndarray
    output: np.ndarray
    changes: np.ndarray | None
    length: np.ndarray


@dataclass(frozen=True)
class State:
    """The graph, the rows segments run between, and the counts so far."""

    graph: PiecewiseLinearGraph
    inputs: Tensor
    labels: np.ndarray | None
    seed: int
    rounds: int = 0
    counts: tuple[dict[str, Counts], ...] = ()
    profile: tuple[np.ndarray, np.ndarray] | None = None


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Take the test data (else the training data) and their labels, where they have one each."""
    assert isinstance(subject.graph, PiecewiseLinearGraph)
    split = subject.any_split
    examples = subject.examples(split)
    if examples.count < 2:
        return NotApplicable("This does not apply: a segment needs two examples, and there is one.")
    inputs, _ = examples.take(range(min(examples.count, 20_000)), dtype=torch.float64)
    assert isinstance(inputs, Tensor)
    if bool((inputs == inputs[:1]).all()):
        return NotApplicable("This does not apply: all examples have the same input.")
    labels = None
    outputs, targets = subject.outputs(split)
    if "classification" in subject.loss.task and has_one_label(subject.loss, outputs):
        found = labels_of(targets, outputs, subject.loss).reshape(-1).numpy()[: len(inputs)]
        scored = found != IGNORED
        if len(np.unique(found[scored])) > 1:
            inputs, labels = inputs[torch.as_tensor(scored)], found[scored]
    return State(subject.graph, inputs, labels, seed)


def advance(state: State) -> State:
    """Walk along one set of fresh segments of each kind."""
    generator = np.random.default_rng(seed_from("segment-pieces", state.seed, state.rounds))
    counts: dict[str, Counts] = {}
    profile = state.profile
    for kind, rows in _pairs(state, generator).items():
        if not len(rows):
            continue
        pieces = segment_pieces(state.graph, state.inputs[rows[:, 0]], state.inputs[rows[:, 1]])
        if isinstance(pieces, NotApplicable):
            raise RuntimeError(pieces.reason)
        counts[kind] = _count(state, rows, pieces)
        if profile is None and kind in (DIFFERENT, ANY):
            profile = _profile(state, rows[0], pieces)
    return replace(state, rounds=state.rounds + 1, counts=(*state.counts, counts), profile=profile)


def _pairs(state: State, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw disjoint pairs of rows with different inputs, so that segments are independent.

    Where so few are there that none is drawn, one pair of different inputs is taken.
    """
    order = generator.permutation(len(state.inputs))
    drawn = _drawn(state, generator, order)
    if any(len(pairs) for pairs in drawn.values()):
        return drawn
    differs = (state.inputs[order] != state.inputs[order[0]]).flatten(1).any(1).numpy()
    return {ANY: np.array([[order[0], order[differs.argmax()]]])}


def _drawn(
    state: State, generator: np.random.Generator, order: np.ndarray
) -> dict[str, np.ndarray]:
    count = min(MOST_SEGMENTS, max(FEWEST_SEGMENTS, UNITS // max(1, state.graph.units)))
    if state.labels is None:
        pairs = _distinct(state, order[: len(order) // 2 * 2].reshape(-1, 2))
        return {ANY: pairs[: 2 * count]}
    half = order[: len(order) // 2]
    same = []
    for label in np.unique(state.labels[half]):
        group = half[state.labels[half] == label]
        same.append(group[: len(group) // 2 * 2].reshape(-1, 2))
    together = generator.permutation(np.concatenate(same))
    other = order[len(order) // 2 :]
    apart = other[: len(other) // 2 * 2].reshape(-1, 2)
    apart = apart[state.labels[apart[:, 0]] != state.labels[apart[:, 1]]]
    return {
        SAME: _distinct(state, together)[:count],
        DIFFERENT: _distinct(state, apart)[:count],
    }


def _distinct(state: State, pairs: np.ndarray) -> np.ndarray:
    if len(pairs) == 0:
        return pairs
    gap = (state.inputs[pairs[:, 0]] - state.inputs[pairs[:, 1]]).reshape(len(pairs), -1)
    return np.asarray(pairs[(gap != 0).any(1).numpy()])


def _count(state: State, rows: np.ndarray, pieces: SegmentPieces) -> Counts:
    changes = None
    if state.labels is not None:
        changes = _class_changes(pieces)
    gap = (state.inputs[rows[:, 0]] - state.inputs[rows[:, 1]]).reshape(len(rows), -1)
    return Counts(
        pieces.activation_pieces().numpy().astype(float),
        pieces.output_pieces().numpy().astype(float),
        changes,
        gap.norm(dim=1).numpy(),
    )


def _class_changes(pieces: SegmentPieces) -> np.ndarray:
    """Count how often the predicted class changes along each segment."""
    flat = replace(pieces, outputs=pieces.outputs.flatten(1), tolerance=pieces.tolerance.flatten(1))
    return np.asarray(flat.argmax_changes().offsets.diff().numpy(), dtype=float)


def _profile(state: State, row: np.ndarray, pieces: SegmentPieces) -> tuple[np.ndarray, np.ndarray]:
    """Return the first segment as a curve: the lead of its second class over its first."""
    stop = int(pieces.offsets[1])
    outputs = pieces.outputs[:stop].reshape(stop, -1)
    if state.labels is not None and outputs.shape[1] > 1:
        first, second = (int(state.labels[i]) for i in row)
        curve = outputs[:, second] - outputs[:, first]
    else:
        curve = outputs[:, 0]
    return pieces.t[:stop].numpy(), curve.numpy()


def read(state: State) -> Measurement:
    """Return mean pieces, pieces a unit of length, class changes, and one segment's profile."""
    kinds = [kind for kind in (SAME, DIFFERENT, ANY) if any(kind in c for c in state.counts)]
    joined = {kind: _joined([c[kind] for c in state.counts if kind in c]) for kind in kinds}

    def means(name: str) -> Quantity:
        return Quantity.stacked(
            [
                intervals.mean_t(
                    getattr(joined[kind], name),
                    how="mean over segments, each exact",
                    over="segments",
                )
                for kind in kinds
            ],
            "pair",
        )

    quantities = {
        "pieces": means("activation"),
        "output_pieces": means("output"),
        "length": means("length"),
    }
    if all(c.changes is not None for c in joined.values()):
        quantities["class_changes"] = means("changes")
        if SAME in joined:
            quantities["leaves_class"] = Quantity.from_estimate(_leaves(joined[SAME]))
    coords: dict[str, object] = {"pair": kinds}
    if state.profile is not None:
        t, curve = state.profile
        quantities["profile"] = Quantity(curve, dims=("knot",), how="output at the knots, exact")
        coords["position"] = ("knot", t)
    return Measurement.of(quantities, coords=coords, cites=INSTRUMENT.cites)


def _joined(parts: list[Counts]) -> Counts:
    changes = [part.changes for part in parts if part.changes is not None]
    return Counts(
        np.concatenate([part.activation for part in parts]),
        np.concatenate([part.output for part in parts]),
        np.concatenate(changes) if len(changes) == len(parts) else None,
        np.concatenate([part.length for part in parts]),
    )


def _leaves(same: Counts) -> Estimate:
    assert same.changes is not None
    return intervals.proportion(
        int((same.changes > 0).sum()),
        len(same.changes),
        over="segments",
        how="share of same-class segments on which the predicted class changes, Clopper-Pearson",
    )
