"""Classifiers of clustered inputs, and what their top eigenvectors have to do with the classes.

The Gauss-Newton matrix of the cross-entropy is a second moment, G = (1/n) Σ v v' over rows i and
classes k, of v_ik = √p_ik J_i'(e_k − p_i) with the probabilities p and the Jacobian J of the logits
(Papyan 2019, arXiv:1901.08244, and 2020, arXiv:2008.11865): p_ik-weighted gradients of the loss of
row i, had its label been k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jacrev

from whynet.core.claim import Cell
from whynet.training.ensemble import Below, Optimization, train_ensemble

Array = NDArray[Any]
Stacked = dict[str, Tensor]

RATE: Final = 0.02
ENOUGH: Final = 0.1
"""Loss at which training ends, over the logarithm of the number of classes."""

UNSHARED: Final = ("groups", "labels", "width", "steps")
"""Parameters that the inputs do not depend on."""


@dataclass(frozen=True)
class Overlaps:
    """Mean squared cosines of eigenvectors with directions of group means.

    Attributes:
        top: of the Gauss-Newton matrix, those of the C largest eigenvalues; C the classes.
        following: of it, the next C.
        hessian: of the Hessian, those of the C largest eigenvalues.
        random: the same as `hessian`, for groups of the same sizes drawn at random.
        loss: mean cross-entropy over its value at equal probabilities.
        share: of the trace of the Gauss-Newton matrix, in its C largest eigenvalues.

    """

    top: float
    following: float
    hessian: float
    random: float
    loss: float
    share: float


def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the logits of one hidden layer of tanh."""
    hidden = torch.tanh(inputs @ parameters["w"] + parameters["b"])
    return hidden @ parameters["v"] + parameters["c"]


def _drawn(cell: Cell) -> tuple[Array, Array, dict[str, Array]]:
    """Return inputs `[rows, inputs]`, labels `[rows]` and the start of a cell."""
    classes, rows, size, width = (
        int(cell.number(name)) for name in ("classes", "rows", "inputs", "width")
    )
    generator = np.random.default_rng(cell.seed_for("data", shared=UNSHARED))
    labels = np.arange(rows) % classes
    centers = cell.number("separation") * generator.standard_normal((classes, size))
    inputs = (centers[labels] + generator.standard_normal((rows, size))) / size**0.5
    if cell.parameters["labels"] == "random":
        labels = generator.permutation(labels)
    generator = np.random.default_rng(cell.seed_for("start", shared=("groups", "labels", "steps")))
    start = {
        "w": generator.standard_normal((size, width)) / size**0.5,
        "b": np.zeros(width),
        "v": generator.standard_normal((width, classes)) / width**0.5,
        "c": np.zeros(classes),
    }
    return inputs - inputs.mean(0), labels, start


def overlaps_of(cells: Sequence[Cell]) -> list[Overlaps]:
    """Train the classifiers of a group to the same loss, and compare eigenvectors with means."""
    drawn = [_drawn(cell) for cell in cells]
    inputs = torch.from_numpy(np.stack([d[0] for d in drawn]))
    labels = torch.from_numpy(np.stack([d[1] for d in drawn]))
    start = {n: torch.from_numpy(np.stack([d[2][n] for d in drawn])) for n in drawn[0][2]}
    classes = int(cells[0].number("classes"))
    result = train_ensemble(
        forward,
        start,
        inputs,
        labels,
        torch.nn.functional.cross_entropy,
        Optimization("adam", RATE),
        steps=int(cells[0].number("steps")),
        stop=Below("loss", ENOUGH * float(np.log(classes))),
        schedule=(),
        per_member=("inputs", "targets"),
    )
    found = []
    for place, cell in enumerate(cells):
        own = {name: value[place] for name, value in result.parameters.items()}
        generator = np.random.default_rng(cell.seed_for("groups", shared=("groups", "labels")))
        shuffled = labels[place][torch.from_numpy(generator.permutation(labels.shape[1]))]
        by_class = cell.parameters["groups"] == "classes"
        groups = labels[place] if by_class else shuffled
        found.append(compared(own, inputs[place], labels[place], groups, shuffled))
    return found


def compared(
    parameters: Stacked, inputs: Tensor, labels: Tensor, groups: Tensor, random: Tensor
) -> Overlaps:
    """Compare top eigenvectors of a network's matrices with the directions of group means.

    Dense: some (rows × classes + parameters) × parameters numbers.

    Args:
        parameters: of one network.
        inputs: `[rows, inputs]`.
        labels: `[rows]`, classes from 0.
        groups: `[rows]`, over which gradients are averaged.
        random: `[rows]`, other groups.

    """
    sizes = [value.numel() for value in parameters.values()]
    flat = torch.cat([value.flatten() for value in parameters.values()])
    count = parameters["c"].numel()

    def logits(point: Tensor) -> Tensor:
        pairs = zip(parameters.items(), torch.split(point, sizes), strict=True)
        return forward({name: part.reshape(v.shape) for (name, v), part in pairs}, inputs)

    def loss(point: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits(point), labels)

    vectors = weighted_gradients(logits(flat), jacrev(logits)(flat))
    table = vectors.flatten(0, 1)
    values, basis = torch.linalg.eigh(table.T @ table / len(inputs))
    top = torch.linalg.eigh(jacrev(jacrev(loss))(flat))[1][:, -count:]
    span, other = mean_directions(vectors, groups), mean_directions(vectors, random)
    return Overlaps(
        overlap(span, basis[:, -count:]),
        overlap(span, basis[:, -2 * count : -count]),
        overlap(span, top),
        overlap(other, top),
        float(loss(flat)) / float(np.log(count)),
        float(values[-count:].sum() / values.sum()),
    )


def weighted_gradients(logits: Tensor, jacobian: Tensor) -> Tensor:
    """Return v, `[rows, classes, parameters]`; (1/n) Σ v v' is the Gauss-Newton matrix.

    Args:
        logits: `[rows, classes]`.
        jacobian: of the logits, `[rows, classes, parameters]`.

    """
    chances = logits.softmax(-1)
    eye = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    errors = chances.sqrt()[:, :, None] * (eye - chances[:, None, :])
    return torch.einsum("ikc,icp->ikp", errors, jacobian)


def mean_directions(vectors: Tensor, groups: Tensor) -> Tensor:
    """Return the leading directions of group means, orthonormal rows `[classes, parameters]`.

    The means over each group of v_ik, for each k, are classes² vectors; the directions are their
    `classes` first right singular vectors.
    """
    count = vectors.shape[1]
    means = torch.cat([vectors[groups == group].mean(0) for group in range(count)])
    directions: Tensor = torch.linalg.svd(means, full_matrices=False)[2][:count]
    return directions


def overlap(rows: Tensor, columns: Tensor) -> float:
    """Return the mean squared cosine of two subspaces of equal dimension, 0 to 1."""
    return float((rows @ columns).square().sum() / columns.shape[1])
