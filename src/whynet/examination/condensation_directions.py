"""Directions of a network's layers for the page of a smaller network, also along a training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from whynet.concepts.condensation.certificate import directions_of
from whynet.concepts.condensation.direction_figures import (
    Course,
    amplitude_orientation,
    directions_over_training,
)
from whynet.concepts.condensation.layer_directions import orientations
from whynet.core.question import Figure
from whynet.models.load.weights import load_weights
from whynet.models.subject import Subject
from whynet.pages.words import visible

MOST_LAYERS: Final = 4
"""Layers whose units are drawn."""

Checkpoint = tuple[str, list[dict[str, Any]]]
"""Name of a checkpoint, and what `directions_of` says of every layer with its weights."""


def directions_at(subject: Subject, paths: Sequence[str], seed: int) -> list[Checkpoint]:
    """Count the directions of every layer with the weights of each file, in their order.

    Raises:
        InputError: a file does not fit the network.

    """
    found = []
    for path in paths:
        module = copy.deepcopy(subject.module)
        load_weights(path, module, "--checkpoints")
        found.append((Path(path).stem, directions_of(subject.alone(module), seed)))
    return found


def direction_figures(
    subject: Subject, checkpoints: Sequence[Checkpoint], seed: int
) -> list[Figure]:
    """Draw where the units of the large network point, and how many directions there were."""
    layers = orientations(subject, seed)[:MOST_LAYERS]
    figures = []
    if layers:
        figures.append(
            Figure(
                "amplitude-orientation",
                partial(
                    amplitude_orientation,
                    layers=[
                        (visible(la.path, 40), la.angles, la.amounts, la.share) for la in layers
                    ],
                ),
                "What every unit of the network as it came contributes, of the largest, against "
                "where it points in the plane of the two directions that most of the units' "
                "similarity lies in (how much: above each picture). In a condensed layer units "
                "stand in few lines.",
                f"Contributions and orientations of the units of {len(layers)} layers.",
                0.9 + 1.5 * len(layers),
            )
        )
    if len(checkpoints) > 1:
        figures.append(_over_training(checkpoints))
    return figures


def _over_training(checkpoints: Sequence[Checkpoint]) -> Figure:
    paths = [layer["path"] for layer in checkpoints[-1][1]]
    held = [{layer["path"]: layer for layer in layers} for _, layers in checkpoints]
    there = [path for path in paths if all(path in layers for layers in held)][:MOST_LAYERS]
    courses = [
        Course(
            visible(path, 24),
            [layers[path]["directions"] for layers in held],
            [
                None if layers[path]["random"] is None else tuple(layers[path]["random"])
                for layers in held
            ],
        )
        for path in there
    ]
    names = [visible(name, 16) for name, _ in checkpoints]
    words = "; ".join(f"{one.name}: {', '.join(map(str, one.counts))}" for one in courses)
    return Figure(
        "directions-over-training",
        partial(directions_over_training, checkpoints=names, layers=courses),
        "Directions that hold 99 % of what a layer's units contribute, at checkpoints of the "
        "training; shaded: as many random directions with the same contributions.",
        f"Directions at each checkpoint. {words}.",
    )
