"""The scored training rows of a network, and the derivatives of their losses in its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.core.seeds import seed_from
from whynet.models.scores import IGNORED, labels_of
from whynet.models.subject import Subject
from whynet.numerics.left_out import softmax_root

LEAST_ROWS, MOST_ROWS = 10, 5000
"""Training rows: fewer are refused; of more, a seeded subset is used."""


@dataclass(frozen=True)
class ScoredRows:
    """The scored rows in float64.

    Attributes:
        network: the network in float64.
        rows: their positions in the training data.
        outputs: `[rows, outputs]`.
        targets: `[rows, outputs]`: probabilities, 0 or 1 for one logit, or real targets.
        labels: `[rows]`; None in regression.
        gradient: `[rows, outputs]`, of a row's loss in its outputs.
        root: `[rows, outputs, outputs]`, R with R R' the second derivatives.

    """

    network: Subject
    rows: np.ndarray
    outputs: Tensor
    targets: Tensor
    labels: np.ndarray | None
    gradient: Tensor
    root: Tensor

    def inputs(self, places: np.ndarray) -> Any:
        """Return the inputs of rows at some places."""
        data = self.network.examples("train")
        return data.take(self.rows[places], device=self.network.device, dtype=self.network.dtype)[0]


def scored_rows(network: Subject) -> ScoredRows:
    """Return the scored rows with first and second derivatives of their losses."""
    given, targets = network.outputs("train")
    outputs = given.reshape(len(given), -1)
    count = outputs.shape[1]
    task = network.loss.task
    if task == "regression":
        rows = _chosen(np.arange(len(given)))
        outputs, wanted = outputs[rows], targets.double().reshape(len(targets), -1)[rows]
        gradient = 2 / count * (outputs - wanted)
        root = torch.eye(count, dtype=outputs.dtype).expand(len(rows), -1, -1) * (2 / count) ** 0.5
        return ScoredRows(network, rows, outputs, wanted, None, gradient, root)
    labels = labels_of(targets, given, network.loss).numpy().reshape(-1)
    rows = _chosen(np.flatnonzero(labels != IGNORED))
    outputs, labels = outputs[rows], labels[rows]
    if task == "binary classification":
        wanted = targets.double().reshape(-1, 1)[rows]
        chances = torch.sigmoid(outputs)
        root = (chances * (1 - chances)).sqrt()[:, :, None]
    else:
        hard = targets.shape != given.shape
        one_hot = torch.nn.functional.one_hot(torch.as_tensor(labels), count).double()
        wanted = one_hot if hard else targets.double()[rows]
        chances = outputs.softmax(1)
        root = softmax_root(chances)
    return ScoredRows(network, rows, outputs, wanted, labels, chances - wanted, root)


def _chosen(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= MOST_ROWS:
        return rows
    generator = np.random.default_rng(seed_from("left-out rows", "subset"))
    return np.sort(generator.permutation(rows)[:MOST_ROWS])


def is_linear(rows: ScoredRows) -> bool:
    """Whether loss and outputs are such that one Newton step is exact, by a random direction."""
    network = rows.network
    if network.loss.task != "regression":
        return False
    generator = torch.Generator().manual_seed(seed_from("left-out rows", "direction"))
    shift = {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
        for name, value in network.parameters.items()
    }
    inputs = rows.inputs(np.arange(min(50, len(rows.rows))))
    with torch.no_grad():
        ahead, here, back = (
            network.forward({n: w + step * shift[n] for n, w in network.parameters.items()}, inputs)
            for step in (1, 0, -1)
        )
    bend = (ahead + back - 2 * here).abs().max()
    return bool(bend <= 1e-9 * (ahead - back).abs().max())


def chance_of(outputs: Tensor, labels: np.ndarray) -> np.ndarray:
    """Return the probability of a label in every row of logits; one logit is a binary task."""
    if outputs.shape[1] == 1:
        sign = torch.as_tensor(2.0 * labels - 1.0, dtype=outputs.dtype)
        return np.asarray(torch.sigmoid(sign * outputs[:, 0]).numpy())
    chosen = outputs.softmax(1)[torch.arange(len(outputs)), torch.as_tensor(labels)]
    return np.asarray(chosen.numpy())
