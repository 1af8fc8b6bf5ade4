"""Whether a layer is condensed: how few directions hold what its units contribute.

A unit contributes the root mean square of what leaves its activation times the length of its
outgoing weights, so that a factor moved between the two changes nothing. Units are alike where
what enters their activations has a cosine near 1 on the data. The number of groups that hold
nearly all contributions (the effective neurons of Luo et al. 2021, arXiv:2007.07497) stands beside
the same number for random directions with the same contributions on the same inputs, and for the
layer before training where that is known: in few dimensions random directions are alike too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from whynet.concepts.condensation.random_layers import random_law
from whynet.concepts.condensation.workplace import called, outgoing_of
from whynet.core.seeds import seed_from
from whynet.models.channel_flow import channel_groups, reads_of
from whynet.models.channel_nodes import Multiplied
from whynet.models.neuron_moments import Record, find_layers, record
from whynet.models.subject import Subject
from whynet.numerics.directions import clusters, groups_holding, normalized

TOLERANCE: Final = 0.95
"""Cosine above which all pairs of a group are."""

SHARE: Final = 0.99
"""Of the contributions of a layer that the counted groups hold."""

DRAWS: Final = 40
"""Random layers: a 41st lies between their extremes with probability 39/41."""

CLEARLY_FEWER: Final = 0.75
"""Of the fewest that random layers and the layer before training have: below it is condensed."""


@dataclass(frozen=True)
class LayerDirections:
    """How few directions hold what the units of one layer contribute.

    Attributes:
        path: the layer (foreign text).
        width: its units.
        compared: those of them that are compared, and contribute anything.
        directions: groups of units alike that hold 99 % of the contributions.
        random: the same of 40 random layers, fewest and most; None where what the layer reads is
            not known.
        initial: the same before training; None where that is not known.

    """

    path: str
    width: int
    compared: int
    directions: int
    random: tuple[int, int] | None
    initial: int | None

    @property
    def condensed(self) -> bool | None:
        """Whether it is clearly fewer than every reference; None where there is none."""
        references = [] if self.random is None else [self.random[0]]
        references += [] if self.initial is None else [self.initial]
        if not references:
            return None
        return self.directions < CLEARLY_FEWER * min(references)


def layer_directions(subject: Subject, seed: int = 0) -> tuple[LayerDirections, ...]:
    """Count the directions of every hidden layer, on the training data.

    Args:
        subject: network and training data, in any precision; never changed.
        seed: of the random layers, and of the units compared where there are more than 512.

    Returns:
        One entry for each layer whose output reaches an activation, in the order of the network.

    Cost: two passes over at most 10,000 examples, one more before training, and 41 times a
    complete linkage of at most 512 units a layer.

    """
    now = _counted(subject, seed)
    before = {} if subject.initial is None else _counted(subject.initial, seed)
    found = []
    for path, (rec, amounts, count) in now.items():
        there = amounts > 0
        random = _random(rec, amounts[there], seed)
        initial = before[path][2] if path in before else None
        compared = int(there.sum())
        found.append(LayerDirections(path, rec.layer.width, compared, count, random, initial))
    return tuple(found)


def direction_counts(subject: Subject, seed: int = 0) -> dict[str, int]:
    """Return layer to its number of directions alone, as in `LayerDirections`.

    Cost: one pass over at most 10,000 examples, and a complete linkage a layer.
    """
    return {path: count for path, (_, _, count) in _counted(subject, seed).items()}


def _counted(subject: Subject, seed: int) -> dict[str, tuple[Record, np.ndarray, int]]:
    """Return, for every layer with any activity, its record, contributions and directions."""
    layers = find_layers(subject)
    if not layers:
        return {}
    lengths = _outgoing_lengths(subject)
    found = {}
    for rec in record(subject, layers, "train", seed):
        amounts = np.sqrt(np.diag(rec.activity_second))
        if rec.layer.path in lengths:
            amounts = amounts * lengths[rec.layer.path][rec.units]
        there = amounts > 0
        if there.any():
            cosines = normalized(rec.second[np.ix_(there, there)])
            count = groups_holding(clusters(cosines, (TOLERANCE,))[0], amounts[there], SHARE)
            found[rec.layer.path] = (rec, amounts, count)
    return found


def _outgoing_lengths(subject: Subject) -> dict[str, np.ndarray]:
    """Return the length of every unit's outgoing weights, of layers whose readers are known."""
    examples = subject.examples("train")
    rows = range(min(2, examples.count))
    inputs, _ = examples.take(rows, device=subject.device, dtype=subject.dtype)
    module = subject.module
    groups = channel_groups(module, lambda: called(module, inputs, subject.output))
    found = {}
    for group in groups:
        if group.refusal is not None or group.part:
            continue
        unit = torch.arange(group.width)
        parts = [outgoing_of(module, r, group.width).flatten(1) for r in group.readers]
        lengths = torch.cat(parts, 1).double().norm(dim=1).cpu().numpy()
        gated = any(isinstance(node, Multiplied) for node in reads_of(group))
        for layer in group.producers:
            outputs = layer.outputs
            if outputs is None or not (gated or group.whole):
                continue
            if torch.equal(outputs[: group.width], unit):  # gates first, or values
                found[layer.path] = lengths
    return found


def _random(rec: Record, amounts: np.ndarray, seed: int) -> tuple[int, int] | None:
    """Count the directions of random layers with the same contributions, where they are known."""
    law = random_law(rec)
    if law is None:
        return None
    generator = np.random.default_rng(seed_from("layer-directions", rec.layer.path, seed))
    counts = [
        groups_holding(clusters(cosines, (TOLERANCE,))[0], amounts, SHARE)
        for cosines in law.cosines(len(amounts), DRAWS, generator)
    ]
    return min(counts), max(counts)


def sentence(layer: LayerDirections) -> str:
    """Say in one sentence whether a layer is condensed, and beside what."""
    counted = (
        f"{layer.directions} of {layer.compared} directions hold {100 * SHARE:.0f} % of what its "
        "units contribute"
    )
    references = []
    if layer.random is not None:
        fewest, most = layer.random
        counts = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        references.append(f"of random ones {counts} do")
    if layer.initial is not None:
        references.append(f"before training {layer.initial} did")
    beside = ", ".join(references) or "no reference is known"
    verdict = {True: "is condensed", False: "is not condensed", None: "is not judged"}
    return f"`{layer.path}` {verdict[layer.condensed]}: {counted}; {beside}."


@dataclass(frozen=True, eq=False)
class Orientations:
    """Where the units of a layer point, and what each contributes.

    Attributes:
        path: the layer (foreign text).
        angles: `[units]`, radians, in the plane of the two directions that hold the most.
        amounts: `[units]`, contributions, of the largest.
        share: of the similarity weighted by contributions that this plane holds, from 0 to 1.

    """

    path: str
    angles: np.ndarray
    amounts: np.ndarray
    share: float


def orientations(subject: Subject, seed: int = 0) -> tuple[Orientations, ...]:
    """Place the units of every hidden layer by orientation and contribution.

    The plane is that of the two largest eigenvalues of the cosines, weighted by contributions; with
    two independent inputs of a layer it holds everything.

    Cost: one pass over at most 10,000 examples, and an eigendecomposition of at most 512 units a
    layer.
    """
    found = []
    for path, (rec, amounts, _) in _counted(subject, seed).items():
        there = amounts > 0
        root = np.sqrt(amounts[there])
        cosines = normalized(rec.second[np.ix_(there, there)])
        values, vectors = np.linalg.eigh(cosines * np.outer(root, root))
        plane = vectors[:, -2:][:, ::-1] / root[:, None] * np.sqrt(values[-2:][::-1].clip(0))
        if plane.shape[1] < 2:
            plane = np.concatenate([plane, np.zeros_like(plane)], 1)
        plane *= np.sign(plane[np.abs(plane).argmax(0), [0, 1]] + 1e-300)
        share = float(values[-2:].clip(0).sum() / max(values.clip(0).sum(), 1e-300))
        angles = np.arctan2(plane[:, 1], plane[:, 0])
        found.append(Orientations(path, angles, amounts[there] / amounts.max(), share))
    return tuple(found)
