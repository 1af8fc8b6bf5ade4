"""A fully connected ReLU network on handwritten digits, trained until it fits them."""

from __future__ import annotations

from torch import nn

from whynet.core.builtin import BuiltIn
from whynet.models.families import mlp
from whynet.training.bundled_data import Pair, digits
from whynet.training.supervised import Recipe, scaled

SUBJECT = BuiltIn(
    title="64–128–10 ReLU network on handwritten digits",
    family="mlp",
    loss="cross_entropy",
    data="scikit-learn digits, 1437 training and 360 test images of 8 × 8 pixels in [0, 1]",
)

RECIPE = Recipe("sgd", learning_rate=0.1, momentum=0.9, batch_size=64, epochs=60)


def data() -> tuple[Pair, Pair]:
    """Return training and test data: inputs `[rows, 64]`, labels 0 to 9."""
    return digits((64,))


def build(width_factor: float = 1.0) -> nn.Module:
    """Return the network with weights drawn from torch's global generator."""
    return mlp.build(64, (scaled(128, width_factor),), 10)
