"""Facts about a network and its data, by name; instruments state which they need."""

from __future__ import annotations

from typing import Final

TAGS: Final[dict[str, str]] = {
    "test-data": "it needs test data, and none were given",
    "train-data": "it needs training data, and none were given",
    "classification": "it is about class labels, and this task has none",
    "regression": "it is about real-valued targets, and this task has class labels",
    "float-inputs": "it moves inputs continuously, and these inputs are tokens or structured",
    "token-inputs": "it swaps tokens, and no embedding layer of the network reads tokens",
    "movable-inputs": "it moves inputs continuously, and these are neither real numbers nor tokens "
    "that one embedding layer reads",
    "deterministic": "two calls of the network on the same input differ, even in evaluation mode",
    "trainable": "no parameter is trainable (all are frozen or there are none)",
    "piecewise-linear": "the network is not piecewise linear",
    "retrainable": "no training function is known (give --train-with file.py:train)",
    "trajectory": "no record of training is known (give --trajectory, or --train-with a function "
    "that takes log)",
    "initialization": "the network's initial weights are not known (give --init-weights)",
}
"""Tag to the sentence that stands in a report where the tag is missing."""
