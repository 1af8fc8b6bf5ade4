"""A small transformer on handwritten digits, with patches of 2 × 2 pixels as tokens."""

from __future__ import annotations

from torch import nn

from whynet.core.builtin import BuiltIn
from whynet.models.families import transformer
from whynet.training.bundled_data import Pair, digits
from whynet.training.supervised import Recipe, scaled

SUBJECT = BuiltIn(
    title="Transformer with two blocks on handwritten digits, 2 × 2 patches as tokens",
    family="transformer",
    loss="cross_entropy",
    data="scikit-learn digits, 1437 training and 360 test images of 8 × 8 pixels in [0, 1]",
)

RECIPE = Recipe("adam", learning_rate=2e-3, weight_decay=0.1, batch_size=64, epochs=60)


def data() -> tuple[Pair, Pair]:
    """Return training and test data: images `[rows, 1, 8, 8]`, labels 0 to 9."""
    return digits((1, 8, 8))


def build(width_factor: float = 1.0) -> nn.Module:
    """Return the network with weights drawn from torch's global generator."""
    return transformer.build((1, 8, 8), 2, 10, width=scaled(24, width_factor, 4), depth=2, heads=4)
