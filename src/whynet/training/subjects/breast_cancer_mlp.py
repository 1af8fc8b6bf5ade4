"""A fully connected ReLU network with one logit on the Wisconsin breast cancer data."""

from __future__ import annotations

from torch import nn

from whynet.core.builtin import BuiltIn
from whynet.models.families import mlp
from whynet.training.bundled_data import Pair, breast_cancer
from whynet.training.supervised import Recipe, scaled

SUBJECT = BuiltIn(
    title="30–32–1 ReLU network on the Wisconsin breast cancer data",
    family="mlp",
    loss="bce",
    data="scikit-learn breast cancer, 455 training and 114 test rows of 30 features",
    notes=("Inputs are standardized with means and deviations of the training rows alone.",),
)

RECIPE = Recipe("sgd", learning_rate=0.02, weight_decay=0.01, batch_size=32, epochs=40)


def data() -> tuple[Pair, Pair]:
    """Return training and test data: features `[rows, 30]`, labels 0 (malignant) and 1."""
    return breast_cancer()


def build(width_factor: float = 1.0) -> nn.Module:
    """Return the network with weights drawn from torch's global generator."""
    return mlp.build(30, (scaled(32, width_factor),), 1)
