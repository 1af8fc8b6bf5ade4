"""How densely walls between linear regions stand around examples, counted exactly on segments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.models.subject import Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="walls of linear regions per unit of length, around examples and between them",
    unit="1/length",
    needs=("float-inputs", "deterministic", "piecewise-linear"),
    cost="120 short segments (fewer above 2,000 units), each a few forward passes",
    cites=("hanin2019", "novak2018"),
    closed_form="hinges",
    rounds=100,
    draws=True,
)

MOST_SEGMENTS, FEWEST_SEGMENTS, UNITS = 60, 4, 120_000
"""Segments of each kind in a round: 60, fewer for networks of more than 2,000 units."""

REACH = 0.1
"""Half a segment's length, as a share of how far examples lie from their mean (root mean
square)."""

AROUND, BETWEEN = "around examples", "between examples"


@dataclass(frozen=True)
class State:
    """The graph, the rows, half a segment's length, and walls counted on the segments so far."""

    graph: PiecewiseLinearGraph
    inputs: Tensor
    radius: float
    seed: int
    rounds: int = 0
    walls: tuple[np.ndarray, ...] = ()


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Take the test data (else the training data) and how far they spread."""
    assert isinstance(subject.graph, PiecewiseLinearGraph)
    examples = subject.examples(subject.any_split)
    inputs, _ = examples.take(range(min(examples.count, 20_000)), dtype=torch.float64)
    assert isinstance(inputs, Tensor)
    spread = float((inputs - inputs.mean(0)).flatten(1).square().sum(1).mean().sqrt())
    if len(inputs) < 2 or bool((inputs == inputs[:1]).all()):
        return NotApplicable("This does not apply: all examples have the same input.")
    return State(subject.graph, inputs, REACH * spread, seed)


def advance(state: State) -> State:
    """Count walls on fresh segments of random direction around fresh points of both kinds."""
    generator = np.random.default_rng(seed_from("wall-density", state.seed, state.rounds))
    most = min(MOST_SEGMENTS, max(FEWEST_SEGMENTS, UNITS // max(1, state.graph.units)))
    # An example stands in one segment alone, so that those of a round are independent.
    count = max(1, min(most, len(state.inputs) // 3))
    order = torch.as_tensor(generator.permutation(len(state.inputs)))
    around = state.inputs[order[:count]]
    rest = order[count : 3 * count] if len(order) >= 3 * count else order[:2]
    pairs = state.inputs[rest.reshape(-1, 2)]
    centers = torch.cat([around, pairs.mean(1)])
    directions = torch.as_tensor(generator.standard_normal(centers.shape))
    norms = directions.flatten(1).norm(dim=1).reshape(-1, *[1] * (centers.dim() - 1))
    step = state.radius * directions / norms
    pieces = segment_pieces(state.graph, centers - step, centers + step)
    if isinstance(pieces, NotApplicable):
        raise RuntimeError(pieces.reason)
    walls = pieces.activation_pieces().numpy() - 1.0
    kinds = np.repeat([0, 1], [len(around), len(pairs)])
    found = np.stack([kinds, walls], 1)
    return replace(state, rounds=state.rounds + 1, walls=(*state.walls, found))


def read(state: State) -> Measurement:
    """Return walls a unit of length around and between examples, with t intervals."""
    rows = np.concatenate(state.walls)
    estimates = [
        intervals.mean_t(
            rows[rows[:, 0] == kind, 1] / (2 * state.radius),
            how="walls on segments of random direction, counted exactly, per length; mean",
            over="segments",
        )
        for kind in (0, 1)
    ]
    return Measurement.of(
        {
            "wall_density": Quantity.stacked(estimates, "place"),
            "radius": Quantity(
                np.array(state.radius), how=f"{REACH} of the examples' root mean square spread"
            ),
        },
        coords={"place": [AROUND, BETWEEN]},
        cites=INSTRUMENT.cites,
    )
