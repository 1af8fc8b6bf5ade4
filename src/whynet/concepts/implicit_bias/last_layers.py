"""The last linear layer of a network as a linear model on the features that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whynet.core.outcome import NotApplicable
from whynet.models.features import Features, features, find_head
from whynet.models.subject import Split, Subject

Array = NDArray[Any]

MOST_ROWS = 5000
"""Training rows, and test rows, that are looked at; more training rows are refused."""

MOST_WEIGHTS = 20_000
"""Weights of the last layer."""


@dataclass(frozen=True)
class LastLayer:
    """The last linear layer and what it reads; its bias is the weight of a feature that is 1.

    Attributes:
        path: dotted name (foreign text).
        weights: `[outputs, features]`, float64, with the bias as the last column where there is
            one.
        biased: whether there is a bias.

    """

    path: str
    weights: Array
    biased: bool


def last_layer(subject: Subject) -> LastLayer | NotApplicable:
    """Find the last layer of a network, or say why there is none."""
    head = find_head(subject, subject.any_split, made=False)
    if isinstance(head, NotApplicable):
        return head
    bias = getattr(subject.module.get_submodule(head.path), "bias", None)
    if bias is None:
        return LastLayer(head.path, head.weight, False)
    column = bias.detach().double().cpu().numpy()[:, None]
    return LastLayer(head.path, np.concatenate([head.weight, column], axis=1), True)


def read_rows(subject: Subject, split: Split) -> tuple[Array, Features]:
    """Return what the last layer reads, `[rows, features]` with the ones of its bias, and more.

    Of more than `MOST_ROWS` rows a seeded subset, the same for every network.
    """
    layer = last_layer(subject)
    head = find_head(subject, split, made=False)
    assert isinstance(layer, LastLayer) and not isinstance(head, NotApplicable)
    found = features(subject, head, split, MOST_ROWS)
    if not layer.biased:
        return found.rows, found
    return np.concatenate([found.rows, np.ones((len(found.rows), 1))], axis=1), found


def in_words(layer: LastLayer) -> str:
    """Say what makes the outputs, a full sentence."""
    count = layer.weights.shape[1] - layer.biased
    bias = " and a constant" if layer.biased else ""
    return f"a linear layer that reads {count:,} features{bias} makes the outputs."


def unaffordable(subject: Subject, layer: LastLayer) -> NotApplicable | None:
    """Say where rows or weights are too many for an exact solution."""
    rows = subject.examples("train").count
    if rows > MOST_ROWS or layer.weights.size > MOST_WEIGHTS:
        return NotApplicable(
            f"This does not apply: {rows:,} training rows and {layer.weights.size:,} weights of "
            f"the last layer are too many for an exact solution ({MOST_ROWS:,} and "
            f"{MOST_WEIGHTS:,} are allowed)."
        )
    return None


def flat(outputs: torch.Tensor) -> Array:
    """Return outputs or targets as `[rows, outputs]` in float64."""
    return np.asarray(outputs.double().numpy().reshape(len(outputs), -1))
