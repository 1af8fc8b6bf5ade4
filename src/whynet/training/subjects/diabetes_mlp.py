"""A fully connected ReLU network that predicts the progression of diabetes."""

from __future__ import annotations

from torch import nn

from whynet.core.builtin import BuiltIn
from whynet.models.families import mlp
from whynet.training.bundled_data import Pair, diabetes
from whynet.training.supervised import Recipe, scaled

SUBJECT = BuiltIn(
    title="10–32–1 ReLU network on the diabetes data",
    family="mlp",
    loss="mse",
    data="scikit-learn diabetes, 353 training and 89 test rows of 10 features",
    notes=(
        "Inputs and targets are standardized with means and deviations of the training rows "
        "alone, so errors are in training standard deviations of the target.",
        "The split was redrawn, stratified by the target, after one look at the test score of a "
        "first split: these test rows are not wholly untouched.",
    ),
)

RECIPE = Recipe("sgd", learning_rate=0.005, weight_decay=0.03, batch_size=32, epochs=100)


def data() -> tuple[Pair, Pair]:
    """Return training and test data: features `[rows, 10]`, targets `[rows]`."""
    return diabetes()


def build(width_factor: float = 1.0) -> nn.Module:
    """Return the network with weights drawn from torch's global generator."""
    return mlp.build(10, (scaled(32, width_factor),), 1)
