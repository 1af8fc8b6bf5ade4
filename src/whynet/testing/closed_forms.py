"""Subjects whose true numbers are known: where instruments and their intervals are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch

from whynet.models.subject import Subject

Key = tuple[str, tuple[tuple[str, object], ...]]
"""A quantity and its labels: `("accuracy", (("split", "test"),))`."""


@dataclass(frozen=True)
class ClosedForm:
    """A subject with known answers.

    Attributes:
        subject: makes it in a precision; the second argument is the number of the draw of its
            examples, for closed forms whose intervals are over examples.
        truth: instrument to what its quantities are in truth.
        over_examples: whether coverage is judged over draws of the examples (the instrument's
            seed fixed) or over seeds of the instrument (the examples fixed).

    """

    subject: Callable[[torch.dtype, int], Subject]
    truth: Mapping[str, Mapping[Key, float]]
    over_examples: bool
    of_draw: Callable[[str, int], Mapping[Key, float]] = lambda instrument, draw: {}


@cache
def closed_forms() -> dict[str, ClosedForm]:
    """Return all closed forms, by the name that instruments give."""
    from whynet.testing.bound_forms import noisy_halfspace
    from whynet.testing.class_forms import gaussian_classes
    from whynet.testing.condensation_forms import random_directions
    from whynet.testing.curvature_forms import quadratic, wide_quadratic
    from whynet.testing.influence_forms import retrained_ridge, ridge_rows
    from whynet.testing.kernel_forms import relu_kernel
    from whynet.testing.label_forms import logistic_labels
    from whynet.testing.landscape_forms import turned_copies
    from whynet.testing.learning_forms import logistic_labels_changed, shrunken_mean
    from whynet.testing.region_forms import hinges
    from whynet.testing.regression_forms import finite_regression
    from whynet.testing.robustness_forms import linear_classifier
    from whynet.testing.size_forms import two_layer_classes
    from whynet.testing.token_forms import token_bag
    from whynet.testing.training_forms import linear_training
    from whynet.testing.width_forms import one_step_starts, one_step_widths

    return {
        "logistic-labels": logistic_labels(),
        "logistic-labels-changed": logistic_labels_changed(),
        "shrunken-mean": shrunken_mean(),
        "finite-regression": finite_regression(),
        "quadratic": quadratic(),
        "wide-quadratic": wide_quadratic(),
        "random-directions": random_directions(),
        "hinges": hinges(),
        "relu-kernel": relu_kernel(),
        "linear-classifier": linear_classifier(),
        "token-bag": token_bag(),
        "noisy-halfspace": noisy_halfspace(),
        "gaussian-classes": gaussian_classes(),
        "two-layer-classes": two_layer_classes(),
        "linear-training": linear_training(),
        "turned-copies": turned_copies(),
        "one-step-widths": one_step_widths(),
        "one-step-starts": one_step_starts(),
        "ridge-rows": ridge_rows(),
        "retrained-ridge": retrained_ridge(),
    }
