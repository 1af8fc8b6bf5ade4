"""A layer of neurons with planted copies, on data drawn from a finite set of points."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, POPULATION, ROWS = 6, 3001, 400
DIRECTIONS, COPIES, OPPOSITE, DEAD, LINEAR = 8, 3, 2, 2, 1
"""Different random directions, copies of each, how many have an opposite, and units besides."""

_FAR = 30.0
"""A bias that no input of the population outweighs."""


def random_directions() -> ClosedForm:
    """Eight random directions, three copies each of different length, two negated, three more.

    Two of the three more never fire, one always does. Copies have cosine 1 on any data, others
    stay below the tolerances on any sample that is worth the name, so that groups are counts. The
    effective rank of the cosines is a finite sum over the population.
    """
    weights, biases = neurons()
    generator = np.random.default_rng(seed_from("random-directions", "points"))
    points = generator.standard_normal((POPULATION, FEATURES))

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        random = np.random.default_rng(seed_from("random-directions", draw))
        rows = random.integers(POPULATION, size=ROWS)
        width = len(biases)
        hidden, last = nn.Linear(FEATURES, width), nn.Linear(width, 2)
        with torch.no_grad():
            hidden.weight.copy_(torch.tensor(weights))
            hidden.bias.copy_(torch.tensor(biases))
            last.weight.copy_(torch.tensor(random.standard_normal((2, width))))
        module = nn.Sequential(hidden, nn.ReLU(), last)
        data = (torch.tensor(points[rows], dtype=dtype), torch.tensor(rows % 2))
        return Subject(module, train=data, dtype=dtype, name="random directions")

    groups = DIRECTIONS + OPPOSITE + LINEAR
    layer = ("layer", "0")
    truth: dict[Key, float] = {
        ("width", (layer,)): float(len(biases)),
        ("dead", (layer,)): float(DEAD),
        ("linear", (layer,)): float(LINEAR),
        ("compared", (layer,)): float(len(biases) - DEAD),
        ("effective_rank", (layer,)): _rank(points @ weights.T + biases),
        ("output_change_without_dead", ()): 0.0,
    }
    for tolerance in (0.95, 0.99):
        place = (layer, ("tolerance", tolerance))
        truth[("distinct", place)] = float(groups)
        truth[("opposite_pairs", place)] = float(OPPOSITE)
    return ClosedForm(subject, {"neuron-similarity": truth}, over_examples=True)


def neurons() -> tuple[np.ndarray, np.ndarray]:
    """Return weights `[units, features]` and biases `[units]`, in random order."""
    generator = np.random.default_rng(seed_from("random-directions"))
    directions = generator.standard_normal((DIRECTIONS, FEATURES + 1))
    planted = np.concatenate([directions, -directions[:OPPOSITE]])
    copies = np.repeat(planted, COPIES, axis=0)
    copies *= generator.uniform(0.5, 2.0, (len(copies), 1))
    others = 0.5 * generator.standard_normal((DEAD + LINEAR, FEATURES + 1))
    others[:, -1] = [-_FAR] * DEAD + [_FAR] * LINEAR
    rows = generator.permutation(np.concatenate([copies, others])).astype(np.float32).astype(float)
    return rows[:, :-1], rows[:, -1]


def _rank(inputs: np.ndarray) -> float:
    """Participation ratio of the cosines of the units that ever fire, over all points."""
    fires = inputs[:, (inputs > 0).any(0)]
    moments = fires.T @ fires
    length = np.sqrt(np.diag(moments))
    return float(fires.shape[1] ** 2 / ((moments / np.outer(length, length)) ** 2).sum())
