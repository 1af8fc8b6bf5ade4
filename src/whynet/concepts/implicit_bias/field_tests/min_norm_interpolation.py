"""Is the last layer of a network the interpolator nearest to where it started?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whynet.concepts.implicit_bias.last_layers import (
    LastLayer,
    flat,
    in_words,
    last_layer,
    read_rows,
    unaffordable,
)
from whynet.concepts.implicit_bias.theory.minimum_norm import nearest_interpolator
from whynet.core.field_test import Broken, Check, FieldTest
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.subject import Subject

FIELD_TEST = FieldTest(
    asks="Is its last layer the interpolator nearest to where it started?",
    predicts="outputs on unseen rows",
    items="test examples",
    needs=("train-data", "test-data", "regression", "initialization", "deterministic"),
    assumptions={
        "squares": "squared loss",
        "linear": "outputs that are linear in the weights of the last layer",
        "overparametrized": "at least as many independent features as training rows",
        "interpolates": "outputs that equal the targets of the training rows",
        "still": "features that stay where they started",
        "unregularized": "nothing but the loss pulling on the last layer",
    },
    control=Broken(
        "another-interpolator",
        "nearest",
        "The nearest interpolator moved on by as much as it is from the start, in a random "
        "direction that unseen rows see and training rows do not: it fits these as exactly.",
    ),
    cites=("zhang2017", "gunasekar2018"),
    cost="a pseudoinverse of the last features: a second",
)

INTERPOLATES = 0.01
"""Root mean square error on the training rows over the targets' spread."""

STILL = 0.05
"""Root mean square change of the features over their size."""

RANK = 1e-6
"""Singular values, over the largest, that count."""

Array = NDArray[Any]


def check_on(subject: Subject, seed: int) -> tuple[Check, ...] | NotApplicable:
    """Check loss, last layer, number of features, fit, and how far the features moved."""
    if subject.loss.name != "mse":
        return (Check("squares", "not met", f"the loss is {subject.loss.name!r}."),)
    checks = [Check("squares", "met", "the loss is 'mse'.")]
    layer = last_layer(subject)
    if isinstance(layer, NotApplicable):
        return (*checks, Check("linear", "not met", layer.reason))
    if (refused := unaffordable(subject, layer)) is not None:
        return refused
    checks.append(Check("linear", "met", in_words(layer)))
    rows, found = read_rows(subject, "train")
    rank = int(np.linalg.matrix_rank(rows, tol=RANK * np.linalg.norm(rows, 2)))
    words = f"the features of {len(rows):,} training rows have rank {rank:,}."
    checks.append(Check("overparametrized", "met" if rank == len(rows) else "not met", words))
    if rank < len(rows):
        return tuple(checks)
    targets = flat(found.targets)
    miss = _size(flat(found.outputs) - targets) / max(_size(targets - targets.mean(0)), 1e-300)
    words = f"they miss the targets by {100 * miss:.2g} % of their spread."
    checks.append(Check("interpolates", "met" if miss <= INTERPOLATES else "not met", words))
    if miss > INTERPOLATES:
        return tuple(checks)
    initial = subject.initial
    if initial is None:
        return NotApplicable("This does not apply: the network before training is not known.")
    moved = _size(rows - read_rows(initial, "train")[0]) / _size(rows)
    words = f"they moved by {100 * moved:.2g} % of their size."
    checks.append(Check("still", "met" if moved <= STILL else "not met", words))
    rest = Check("unregularized", "cannot be checked", "what else pulled in training is unknown.")
    return (*checks, rest) if moved <= STILL else tuple(checks)


def _size(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def predict_on(subject: Subject, seed: int, *, broken: bool = False) -> Array:
    """Return the outputs of the nearest interpolator on unseen rows.

    From the features of the training rows, their targets and the last layer at the start; its
    trained weights are not looked at.
    """
    rows, found = read_rows(subject, "train")
    initial = subject.initial
    assert initial is not None
    layer = last_layer(initial)
    assert isinstance(layer, LastLayer)
    start = layer.weights
    ends = nearest_interpolator(rows, flat(found.targets).T, start)
    new = read_rows(subject, "test")[0]
    if broken:
        generator = np.random.default_rng(seed_from("min-norm-interpolation", seed, "unseen"))
        drawn = generator.standard_normal((len(ends), len(new))) @ new
        unseen = drawn - (drawn @ np.linalg.pinv(rows)) @ rows
        lengths = np.linalg.norm(unseen, axis=1, keepdims=True)
        # Where unseen rows lie in the span of the training rows, what is left is round-off.
        lengths[lengths <= RANK * np.linalg.norm(drawn, axis=1, keepdims=True)] = 0.0
        far = np.linalg.norm(ends - start, axis=1, keepdims=True)
        ends = ends + np.divide(unseen * far, lengths, out=np.zeros_like(unseen), where=lengths > 0)
    return np.asarray(new @ ends.T)


def measure_on(subject: Subject, seed: int) -> Array:
    """Return the outputs of the network on unseen rows."""
    return flat(read_rows(subject, "test")[1].outputs)


def another_on(subject: Subject, other: Subject, seed: int) -> Array:
    """Return the same of another seed."""
    return measure_on(other, seed)


def rivals_on(subject: Subject, seed: int) -> Mapping[str, Array]:
    """Return none."""
    return {}
