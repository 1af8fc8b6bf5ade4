"""Is the last layer of a network the maximum-margin classifier on its own features?"""

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
from whynet.concepts.implicit_bias.theory.class_margins import class_margins
from whynet.core.field_test import Broken, Check, FieldTest
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.scores import has_one_label, labels_of
from whynet.models.subject import Subject

FIELD_TEST = FieldTest(
    asks="Is its last layer the maximum-margin classifier on the features it reads?",
    predicts="direction of the outputs on unseen rows",
    items="test examples",
    needs=("train-data", "test-data", "classification", "deterministic"),
    assumptions={
        "tail": "a loss with an exponential tail, cross-entropy",
        "linear": "outputs that are linear in the weights of the last layer",
        "separable": "training rows that the last layer separates",
        "unregularized": "nothing but the loss pulling on the last layer",
    },
    control=Broken(
        "unequal-margins",
        "equal margins",
        "The same problem on the same rows asks each row for a margin of its own, a random factor "
        "of e^±2; its solution separates all rows as well, and is not the one of largest margin.",
    ),
    cites=("soudry2018",),
    cost="a quadratic program on the last features: seconds",
)

SPREAD = 2.0
"""Standard deviation of the logarithm of the margins that the control asks for."""

RIVAL = "least squares on the same features"

Array = NDArray[Any]


def check_on(subject: Subject, seed: int) -> tuple[Check, ...] | NotApplicable:
    """Check loss, last layer, and whether it separates the training rows."""
    loss = subject.loss.name
    if loss not in ("cross_entropy", "bce"):
        return (Check("tail", "not met", f"the loss is {loss!r}."),)
    checks = [Check("tail", "met", f"the loss is {loss!r}.")]
    layer = last_layer(subject)
    if isinstance(layer, NotApplicable):
        return (*checks, Check("linear", "not met", layer.reason))
    outputs, targets = subject.outputs("train")
    if not has_one_label(subject.loss, outputs):
        return NotApplicable("This does not apply: an example carries more than one label.")
    if (refused := unaffordable(subject, layer)) is not None:
        return refused
    checks.append(Check("linear", "met", in_words(layer)))
    labels = labels_of(targets, outputs, subject.loss)
    wrong = int((subject.loss.predictions(outputs) != labels).sum())
    if wrong:
        found = f"{wrong:,} of {len(labels):,} training rows are on the wrong side."
        return (*checks, Check("separable", "not met", found))
    return (
        *checks,
        Check("separable", "met", f"all {len(labels):,} training rows are on the right side."),
        Check("unregularized", "cannot be checked", "what else pulled in training is not known."),
    )


def predict_on(subject: Subject, seed: int, *, broken: bool = False) -> Array:
    """Return the outputs of the maximum-margin classifier on unseen rows, centered and scaled.

    It is solved on the features of the training rows and their labels; the weights of the last
    layer are not looked at.
    """
    rows, labels, classes = _training(subject)
    demanded = None
    if broken:
        generator = np.random.default_rng(seed_from("max-margin-logistic", seed, "margins"))
        demanded = np.exp(SPREAD * generator.standard_normal(len(rows)))
    weights = class_margins(rows, labels, classes, demanded).weights
    return directed(_as_outputs(read_rows(subject, "test")[0] @ weights.T, subject))


def measure_on(subject: Subject, seed: int) -> Array:
    """Return the outputs of the network on unseen rows, centered over classes and scaled."""
    return directed(flat(read_rows(subject, "test")[1].outputs))


def another_on(subject: Subject, other: Subject, seed: int) -> Array:
    """Return the same of another seed."""
    return measure_on(other, seed)


def rivals_on(subject: Subject, seed: int) -> Mapping[str, Array]:
    """Return the outputs of least squares on the same features and labels."""
    rows, labels, classes = _training(subject)
    targets = np.eye(classes)[labels] - 1 / classes
    weights = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return {RIVAL: directed(_as_outputs(read_rows(subject, "test")[0] @ weights, subject))}


def directed(outputs: Array) -> Array:
    """Take away what all classes share, and the size: theory says the direction alone."""
    centered = outputs - outputs.mean(1, keepdims=True) if outputs.shape[1] > 1 else outputs
    size = float(np.sqrt((centered**2).sum(1).mean()))
    return np.asarray(centered / size if size > 0 else centered)


def _training(subject: Subject) -> tuple[Array, Array, int]:
    """Return features and labels of the training rows, and the number of classes."""
    rows, found = read_rows(subject, "train")
    labels = labels_of(found.targets, found.outputs, subject.loss).numpy().reshape(-1)
    layer = last_layer(subject)
    assert isinstance(layer, LastLayer)
    return rows, labels, max(2, len(layer.weights))


def _as_outputs(scores: Array, subject: Subject) -> Array:
    """Turn scores of two classes into the one logit of a network that has one."""
    layer = last_layer(subject)
    assert isinstance(layer, LastLayer)
    return scores if len(layer.weights) > 1 else scores[:, 1:] - scores[:, :1]
