"""What a network would say of each training row had it been left out, by one Newton step.

The network is linearized in its weights where it ended, and its loss replaced by its second-order
expansion in the outputs of the rows that stay; the damping is that of `damping.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.generalization.damping import (
    BALANCED,
    WORST_CONDITION,
    Damping,
    calibrated,
    conditioned,
    pulled,
    tenth_of,
)
from whynet.concepts.generalization.scored_training_rows import (
    LEAST_ROWS,
    MOST_ROWS,
    ScoredRows,
    is_linear,
    scored_rows,
)
from whynet.core.outcome import NotApplicable
from whynet.derivatives.damped_gauss_newton import (
    HELD,
    InDirections,
    InWeights,
    Jacobians,
    Solver,
)
from whynet.derivatives.empirical_ntk import plan_ntk
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.scores import has_one_label
from whynet.models.subject import Subject
from whynet.numerics.left_out import without_row

FEW_PARAMETERS = 1500
"""Up to which the Gauss-Newton matrix is written out."""

GRADIENTS = 2**31
"""Numbers of gradients that are computed, or else only the last layer is moved."""

ONE_BY_ONE = 5000
"""Gradients of single outputs, where they cannot be taken together."""

LISTED = 20
"""Suspects that are listed."""

Way = tuple[NtkPlan, str]
"""How gradients are computed, and the only layer that is moved; "" where all are."""

_DONE: WeakKeyDictionary[Subject, LeftOut] = WeakKeyDictionary()
_WAYS: WeakKeyDictionary[Subject, tuple[Way, ...]] = WeakKeyDictionary()


@dataclass(frozen=True)
class LeftOut:
    """Every scored training row with and without itself.

    Attributes:
        rows: their positions in the training data.
        outputs: `[rows, outputs]`, what the network says.
        without: `[rows, outputs]`, what it would say.
        targets: `[rows, outputs]`: probabilities, 0 or 1 for one logit, or real targets.
        labels: `[rows]`; None in regression.
        leverage: `[rows]`.
        damping: how strongly the weights are held.
        layer: the only layer that was moved; empty where all were.
        neglected: share of the curvature that was left out.
        exact: whether one Newton step is exact: squared error, outputs linear in the weights,
            at the minimum of a penalized loss.

    """

    rows: np.ndarray
    outputs: Tensor
    without: Tensor
    targets: Tensor
    labels: np.ndarray | None
    leverage: np.ndarray
    damping: Damping
    layer: str
    neglected: float
    exact: bool

    @property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Losses of the rows, now and left out."""
        return self._loss(self.outputs), self._loss(self.without)

    @property
    def self_influence(self) -> np.ndarray:
        """By how much the loss of each row rises where it is left out."""
        now, without = self.losses
        return np.asarray(without - now)

    def _loss(self, outputs: Tensor) -> np.ndarray:
        if self.labels is None:
            return np.asarray((outputs - self.targets).square().mean(1).numpy())
        if outputs.shape[1] == 1:
            terms = torch.nn.functional.softplus(outputs) - self.targets * outputs
            return np.asarray(terms[:, 0].numpy())
        return np.asarray(-(self.targets * outputs.log_softmax(1)).sum(1).numpy())

    @property
    def answers(self) -> tuple[np.ndarray, np.ndarray]:
        """Classes the network names, now and left out; the task must have classes."""
        now, without = (
            (found[:, 0] > 0).long() if found.shape[1] == 1 else found.argmax(1)
            for found in (self.outputs, self.without)
        )
        return np.asarray(now.numpy()), np.asarray(without.numpy())

    @property
    def memorized(self) -> np.ndarray:
        """Places of the rows that are right now and would be wrong left out."""
        now, without = self.answers
        return np.flatnonzero((now == self.labels) & (without != self.labels))

    @property
    def suspects(self) -> np.ndarray:
        """Places of the rows whose labels the others contradict, largest loss left out first.

        Those that would be wrong left out, at most a tenth of all rows; in regression the twenty
        with the largest losses left out.
        """
        order = np.argsort(-self.losses[1], kind="stable")
        most = max(1, len(self.rows) // 10)
        if self.labels is None:
            return np.asarray(order[: min(LISTED, most)])
        wrong = self.answers[1] != self.labels
        return np.asarray(order[wrong[order]][:most])


def left_out(subject: Subject) -> LeftOut:
    """Return what leaving out each training row would do to its own outputs; once a subject.

    The subject must not be refused by `refusal`. Cost: gradients of every output on every row
    twice; and for each row and output the square of the number of directions.
    """
    if subject not in _DONE:
        rows = scored_rows(subject.in_precision(torch.float64))
        tried = (_moved(rows, plan, layer) for plan, layer in _ways(subject))
        _DONE[subject] = next(found for found in tried if found is not None)
    return _DONE[subject]


def refusal(subject: Subject) -> NotApplicable | None:
    """Say why rows cannot be left out one by one, or None where they can."""
    if subject.loss.task == "other":
        return NotApplicable("This does not apply: the loss is neither of classes nor of squares.")
    outputs = subject.outputs("train")[0]
    if subject.loss.task != "regression" and not has_one_label(subject.loss, outputs):
        return NotApplicable("This does not apply: an example carries more than one label.")
    rows, count = min(len(outputs), MOST_ROWS), outputs[0].numel()
    if rows * count**2 > HELD:
        return NotApplicable(
            f"This does not apply: {count:,} outputs are too many to be weighed against each "
            f"other on {rows:,} rows."
        )
    if rows < LEAST_ROWS:
        return NotApplicable(f"This does not apply: fewer than {LEAST_ROWS} training rows.")
    if not _ways(subject):
        return NotApplicable(
            "This does not apply: the gradients of all outputs on the training rows are too many, "
            "and no last linear layer was found."
        )
    return None


def _ways(subject: Subject) -> tuple[Way, ...]:
    """Return the ways that can be afforded, the best first; the last of them surely fits."""
    if subject not in _WAYS:
        data = subject.examples("train")
        rows = min(data.count, MOST_ROWS)
        network = subject.in_precision(torch.float64)
        few = data.take(range(min(3, rows)), device=network.device, dtype=network.dtype)[0]
        plan = plan_ntk(network, few)
        slow = bool(plan.rest) and not plan.batched and rows * plan.outputs > ONE_BY_ONE
        numbers = rows * plan.row_numbers
        found: list[Way] = []
        if not slow and numbers <= (GRADIENTS if plan.layers else HELD):
            found.append((plan, ""))
        if plan.layers:
            last = plan.layers[-1]
            found.append((plan.only(last), last))
        _WAYS[subject] = tuple(found)
    return _WAYS[subject]


def _moved(rows: ScoredRows, plan: NtkPlan, layer: str) -> LeftOut | None:
    """Leave out every row, moving the parameters of a plan; None where it does not fit."""
    network = rows.network
    names = [name for name in network.parameters if not layer or _within(name, layer)]
    damping = pulled(rows, names)
    jacobians = Jacobians(network, plan, rows.inputs, rows.root, rows.gradient)
    retrain = damping.cosine < BALANCED and network.trainer is not None
    tenth = tenth_of(rows) if retrain else np.zeros(0, dtype=int)
    solver: Solver
    if sum(network.parameters[name].numel() for name in names) <= FEW_PARAMETERS:
        solver = InWeights(jacobians)
    else:
        least = 0.0 if retrain else damping.value
        try:
            solver = InDirections(jacobians, least, WORST_CONDITION, tenth)
        except MemoryError:
            return None
    damping = calibrated(rows, solver, damping, tenth) if len(tenth) else damping
    damping = conditioned(damping, solver.largest)
    curvature = rows.root @ rows.root.transpose(1, 2)
    change, leverage = without_row(solver.blocks(damping.value), curvature, rows.gradient)
    return LeftOut(
        rows.rows,
        rows.outputs,
        rows.outputs + change,
        rows.targets,
        rows.labels,
        leverage.numpy(),
        damping,
        layer,
        solver.neglected,
        damping.rule == "pull" and damping.cosine > 1 - 1e-6 and not layer and is_linear(rows),
    )


def _within(name: str, layer: str) -> bool:
    return name.rpartition(".")[0] == layer
