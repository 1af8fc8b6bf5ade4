"""A small convolutional network on handwritten digits."""

from __future__ import annotations

from torch import nn

from whynet.core.builtin import BuiltIn
from whynet.models.families import convolutional
from whynet.training.bundled_data import Pair, digits
from whynet.training.supervised import Recipe, scaled

SUBJECT = BuiltIn(
    title="Convolutional network with two stages on handwritten digits",
    family="convolutional",
    loss="cross_entropy",
    data="scikit-learn digits, 1437 training and 360 test images of 8 × 8 pixels in [0, 1]",
)

RECIPE = Recipe("sgd", learning_rate=0.05, momentum=0.9, batch_size=64, epochs=30)


def data() -> tuple[Pair, Pair]:
    """Return training and test data: images `[rows, 1, 8, 8]`, labels 0 to 9."""
    return digits((1, 8, 8))


def build(width_factor: float = 1.0) -> nn.Module:
    """Return the network with weights drawn from torch's global generator."""
    return convolutional.build((1, 8, 8), (scaled(16, width_factor), scaled(32, width_factor)), 10)
