"""Two networks on the same examples: paired differences, changed answers, distance of outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.generalization.instruments.fit import Scores
from whynet.core.estimate import Estimate
from whynet.models.losses import Loss
from whynet.models.scores import IGNORED, labels_of
from whynet.numerics import intervals

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

MOST_FLIPS = 20
"""Rows that are listed."""

KINDS = ("fixed", "broken", "changed_wrong")
"""Of changed answers: wrong to right, right to wrong, wrong to another wrong one."""


@dataclass(frozen=True)
class Flip:
    """One example that the two networks answer differently.

    Attributes:
        row: its place in the data, from 0.
        label: its class.
        first: what the first network says.
        second: what the second one says.
        confidence: the smaller of the two confidences.
        kind: of `KINDS`.

    """

    row: int
    label: int
    first: int
    second: int
    confidence: float
    kind: str


@dataclass(frozen=True)
class Answers:
    """Predictions of two networks beside the labels, `[examples, positions]` each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def scored(self) -> Flags:
        """Which positions carry a label."""
        return np.asarray(self.labels != IGNORED)

    def kinds(self) -> dict[str, Flags]:
        """Return which positions changed, in all and by kind."""
        differ = (self.first != self.second) & self.scored
        ours, theirs = self.first == self.labels, self.second == self.labels
        return {
            "churn": differ,
            "fixed": differ & theirs,
            "broken": differ & ours,
            "changed_wrong": differ & ~ours & ~theirs,
        }


def answers(loss: Loss, first: Tensor, second: Tensor, targets: Tensor) -> Answers:
    """Collect predictions and labels; several labels or positions of an example are columns."""
    rows = len(first)
    one, two, labels = (
        part.reshape(rows, -1).numpy()
        for part in (
            loss.predictions(first), loss.predictions(second), labels_of(targets, first, loss)
        )
    )  # fmt: skip
    return Answers(one, two, labels)


def changes(found: Answers) -> dict[str, Estimate]:
    """Return shares of examples: answered differently (`churn`), its kinds, and `agreement`.

    Clopper-Pearson where an example has one label, else Student's t over examples of the share
    of positions.
    """
    scored = found.scored
    count = scored.sum(1)
    kept = count > 0
    shares: dict[str, Estimate] = {}
    for name, flags in found.kinds().items():
        if scored.shape[1] == 1:
            shares[name] = intervals.proportion(int(flags[kept].sum()), int(kept.sum()))
        else:
            shares[name] = intervals.mean_t(
                flags.sum(1)[kept] / count[kept],
                unit="fraction",
                how="mean over examples of the share of positions",
                over="examples",
            )
    churn = shares["churn"]
    shares["agreement"] = Estimate(
        1 - churn.value, 1 - churn.high, 1 - churn.low, churn.kind, churn.level, churn.unit,
        churn.how, churn.over,
    )  # fmt: skip
    return shares


def independent_agreement(first: Estimate, second: Estimate, classes: int) -> Estimate:
    """Return the agreement of two classifiers whose errors are independent.

    Both are right with the product of the accuracies; both wrong, they agree by one over the
    number of wrong classes. The bar spans the ends of the two intervals, and is a hint.

    Args:
        first: accuracy of one.
        second: accuracy of the other.
        classes: number of classes, at least 2.

    """

    def at(a: float, b: float) -> float:
        return a * b + (1 - a) * (1 - b) / max(classes - 1, 1)

    corners = [at(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]
    return Estimate(
        at(first.value, second.value), min(corners), max(corners), "indicative",
        first.level, "fraction", "from the two accuracies, errors independent", "examples",
    )  # fmt: skip


def differences(first: Scores, second: Scores) -> dict[str, Estimate]:
    """Return second minus first on the same examples: loss, and accuracy or R² and RMSE."""
    found = {
        "loss_difference": intervals.paired_difference(
            second.loss, first.loss, how="paired, Student's t", over="examples"
        )
    }
    if first.right is not None and second.right is not None:
        if first.one_label:
            found["accuracy_difference"] = intervals.paired_difference_of_proportions(
                second.right > 0.5, first.right > 0.5, how="paired, Tango's score"
            )
        else:
            found["accuracy_difference"] = intervals.paired_difference(
                second.right, first.right, unit="fraction", how="paired, Student's t",
                over="examples",
            )  # fmt: skip
    if first.squared_error is not None and second.squared_error is not None:
        ours, theirs = _root(first.squared_error), _root(second.squared_error)
        found["rmse_difference"] = intervals.mean_t(
            theirs - ours, how="paired, Student's t on the influence", over="examples"
        )
        spread = 0.0 if first.deviation is None else float(first.deviation.mean())
        if spread > 0:
            found["r_squared_difference"] = _explained(first, second, spread)
    return found


def _root(squares: Floats) -> Floats:
    """Return values whose mean is the root of the mean square, and whose spread is its error."""
    root = float(squares.mean()) ** 0.5
    return np.asarray(root / 2 + squares / (2 * root)) if root > 0 else np.zeros_like(squares)


def _explained(first: Scores, second: Scores, spread: float) -> Estimate:
    assert first.squared_error is not None
    assert second.squared_error is not None
    assert first.deviation is not None
    gain = first.squared_error - second.squared_error
    ratio = float(gain.mean()) / spread
    influence = ratio + (gain - ratio * first.deviation) / spread
    return intervals.mean_t(influence, how="paired, Student's t on the influence", over="examples")


def output_distance(loss: Loss, first: Tensor, second: Tensor) -> Estimate:
    """Return the distance of two networks' outputs, relative to the spread of the outputs.

    Root of the mean square difference over the root mean square of both: 0 for equal functions,
    the root of 2 for unrelated ones of equal spread. Logits of classes are centered for every
    example, since a shift of all of them changes nothing; other outputs by their common mean.
    Student's t on the influence of the ratio of mean squares.
    """
    one, two = (part.double().reshape(len(part), -1) for part in (first, second))
    if loss.task == "classification":
        one, two = (_centered(part, first.shape[-1]) for part in (one, two))
    else:
        middle = (one.mean(0) + two.mean(0)) / 2
        one, two = one - middle, two - middle
    apart = ((one - two) ** 2).mean(1).numpy()
    size = ((one**2 + two**2) / 2).mean(1).numpy()
    how = "root of the t interval of the ratio of mean squares"
    whole = float(size.mean())
    if whole == 0.0:
        return Estimate(0.0, 0.0, 0.0, "exact", how=how, over="examples")
    ratio = float(apart.mean()) / whole
    square = intervals.mean_t(ratio + (apart - ratio * size) / whole, over="examples")
    low, high = (max(end, 0.0) ** 0.5 for end in (square.low, square.high))
    return Estimate(
        min(max(ratio**0.5, low), high), low, high, square.kind, square.level, "", how, "examples"
    )


def _centered(rows: Tensor, classes: int) -> Tensor:
    by_class = rows.reshape(len(rows), -1, classes)
    return (by_class - by_class.mean(-1, keepdim=True)).reshape(len(rows), -1)


def flips(loss: Loss, found: Answers, first: Tensor, second: Tensor) -> tuple[Flip, ...]:
    """Return the changed answers of which both networks are surest, at most 20.

    Only where every example has one label.
    """
    if found.labels.shape[1] != 1:
        return ()
    sure = np.minimum(_confidence(loss, first), _confidence(loss, second))
    kinds = found.kinds()
    rows = np.flatnonzero(kinds["churn"][:, 0])
    order = rows[np.argsort(-sure[rows], kind="stable")][:MOST_FLIPS]
    return tuple(
        Flip(
            int(row),
            int(found.labels[row, 0]),
            int(found.first[row, 0]),
            int(found.second[row, 0]),
            float(sure[row]),
            next(kind for kind in KINDS if kinds[kind][row, 0]),
        )
        for row in order
    )


def _confidence(loss: Loss, outputs: Tensor) -> Floats:
    wide = outputs.double()
    if loss.task == "classification":
        sure = torch.softmax(wide, -1).amax(-1)
    else:
        sure = torch.sigmoid(wide.reshape(len(wide), -1)[:, 0].abs())
    return np.asarray(sure.numpy())
