"""The network linearized at its start: the kernel regression it converges to, and its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.measurement import Quantity
from whynet.derivatives.empirical_ntk import empirical_ntk
from whynet.derivatives.gradient_parts import Form
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.scores import IGNORED, labels_of
from whynet.models.subject import Split, Subject
from whynet.numerics import intervals
from whynet.numerics import kernel_matrices as matrices

MOST_FULL = 1500
"""Rows times outputs up to which the outputs are kept apart in the regression."""

MODELS = ("network", "linearized", "regularized")
OTHER_SEED = "other seed"
"""Label of the same network trained from another seed, where that is known."""


@dataclass(frozen=True)
class Scored:
    """The scored rows of a split and what is asked of them.

    Attributes:
        split: which data.
        rows: positions in the split.
        targets: `[rows, outputs]`: one-hot labels minus their mean over classes, -1 and 1 for
            one logit, or real targets.
        labels: `[rows]`; None in regression.

    """

    split: Split
    rows: np.ndarray
    targets: np.ndarray
    labels: np.ndarray | None

    def at(self, places: np.ndarray) -> Scored:
        """Return some of the rows."""
        labels = None if self.labels is None else self.labels[places]
        return Scored(self.split, self.rows[places], self.targets[places], labels)


@dataclass(frozen=True)
class Linearized:
    """Outputs `[rows, outputs]` of the linearized network on the test rows.

    Attributes:
        least: trained with the least ridge.
        chosen: with the ridge that serves rows left out best.
        ridge: that ridge, relative to the mean of the kernel's diagonal.
        full: whether the outputs were kept apart.

    """

    least: np.ndarray
    chosen: np.ndarray
    ridge: float
    full: bool


def scored_rows(network: Subject, split: Split) -> Scored:
    """Return the rows of a split that are scored, with targets for squared loss."""
    outputs, targets = network.outputs(split)
    if network.loss.task == "regression":
        values = targets.double().numpy().reshape(len(targets), -1)
        return Scored(split, np.arange(len(values)), values, None)
    labels = labels_of(targets, outputs, network.loss).numpy().reshape(-1)
    rows = np.flatnonzero(labels != IGNORED)
    labels = labels[rows]
    if network.loss.task == "binary classification":
        return Scored(split, rows, 2.0 * labels[:, None] - 1.0, labels)
    classes = outputs.shape[-1]
    return Scored(split, rows, np.eye(classes)[labels] - 1 / classes, labels)


def stratified(train: Scored, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw places without replacement, with the shares of the classes kept (as far as rows go)."""
    total = len(train.rows)
    if size >= total:
        return np.arange(total)
    if train.labels is None:
        return np.sort(generator.permutation(total)[:size])
    names, counts = np.unique(train.labels, return_counts=True)
    exact = counts * size / total
    share = np.floor(exact).astype(int)
    share[np.argsort(share - exact, kind="stable")[: size - share.sum()]] += 1
    drawn = [
        generator.permutation(np.flatnonzero(train.labels == name))[:take]
        for name, take in zip(names, share, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


@dataclass(frozen=True)
class Tangents:
    """The kernel of a network before training, and where its outputs start.

    Attributes:
        kernel: of the training rows, `[n, n]`; with `full` `[n outputs, n outputs]`.
        cross: of test and training rows, `[m, n]`; with `full` `[m outputs, n outputs]`.
        start: outputs on the training rows, `[n, outputs]`.
        offset: outputs on the test rows, `[m, outputs]`.
        full: whether the outputs are kept apart.

    """

    kernel: np.ndarray
    cross: np.ndarray
    start: np.ndarray
    offset: np.ndarray
    full: bool


def tangents(
    initial: Subject, plan: NtkPlan, inputs: tuple[Any, Any], train: Scored, test: Scored
) -> Tangents:
    """Compute the kernel of a network at its start; arguments as of `linearized`."""
    outputs = plan.outputs
    full = len(train.rows) * outputs <= MOST_FULL and outputs > 1
    kept: Form | None = "full" if full else None
    kernel = empirical_ntk(initial, inputs[0], form=kept, plan=plan).cpu().numpy()
    cross = empirical_ntk(initial, inputs[1], inputs[0], form=kept, plan=plan).cpu().numpy()
    start, offset = (
        initial.outputs(part.split)[0].numpy().reshape(-1, outputs)[part.rows]
        for part in (train, test)
    )
    if full:
        size = len(train.rows) * outputs
        kernel, cross = kernel.reshape(size, size), cross.reshape(-1, size)
    return Tangents(kernel, cross, start, offset, full)


def linearized(
    initial: Subject, plan: NtkPlan, inputs: tuple[Any, Any], train: Scored, test: Scored
) -> tuple[Linearized, np.ndarray]:
    """Train the network linearized at its start by squared loss, to the end.

    Its outputs are f0(x) + K(x, X) (K(X, X) + ridge)^-1 (y - f0(X)).

    Args:
        initial: the network before training, in float64.
        plan: how to compute its kernel.
        inputs: of the training and of the test rows.
        train: the training rows.
        test: the test rows.

    Returns:
        its outputs on the test rows, and the kernel of the training rows averaged over outputs.

    """
    held = tangents(initial, plan, inputs, train, test)
    residual = train.targets - held.start
    fitted = matrices.regression(
        held.kernel, held.cross, residual.reshape(-1, 1) if held.full else residual
    )
    kernel = held.kernel
    if held.full:
        size, outputs = residual.shape
        kernel = np.einsum("icjc->ij", kernel.reshape(size, outputs, size, outputs)) / outputs
    least, chosen = (
        held.offset + part.reshape(held.offset.shape) for part in (fitted.least, fitted.chosen)
    )
    return Linearized(least, chosen, fitted.ridge, held.full), kernel


def compare(
    subject: Subject,
    networks: tuple[Subject, Subject],
    fit: Linearized,
    test: Scored,
    other: np.ndarray | None = None,
) -> tuple[dict[str, Quantity], tuple[str, ...]]:
    """Score network and linearized network on the test rows, and the lead of the first, paired.

    Args:
        subject: the network as it was given.
        networks: it now and before training, in float64.
        fit: the linearized network.
        test: the test rows.
        other: outputs of another seed on all test data, where known: its score, its agreement
            with the network, and by how much the linearized networks agree more, paired.

    """
    now, before = (
        network.outputs("test")[0].numpy().reshape(-1, fit.least.shape[1])[test.rows]
        for network in networks
    )
    models: tuple[str, ...] = MODELS
    outputs: tuple[np.ndarray, ...] = (now, fit.least, fit.chosen)
    if other is not None:
        models, outputs = (
            (*MODELS, OTHER_SEED),
            (*outputs, other.reshape(-1, now.shape[1])[test.rows]),
        )
    scores = _squares if test.labels is None else _shares
    found = scores(subject, outputs, test)
    spread = max(float(np.sqrt(((f - f.mean(0)) ** 2).mean())) for f in (now, before))
    found["output_change"] = Quantity(
        float(np.sqrt(((now - before) ** 2).mean())) / max(spread, 1e-12),
        how="root mean square change of outputs in training over their larger spread",
        over="the test data",
    )
    found["ridge"] = Quantity(
        fit.ridge, how="ridge of the regularized one over the mean of the kernel's diagonal"
    )
    return found, models


def _shares(subject: Subject, outputs: tuple[np.ndarray, ...], test: Scored) -> dict[str, Quantity]:
    """Accuracies, agreement and paired leads."""
    shape = subject.outputs("test")[0].shape[1:]

    def answers(values: np.ndarray) -> np.ndarray:
        shaped: Tensor = torch.from_numpy(values).reshape(len(values), *shape)
        return np.asarray(subject.loss.predictions(shaped).numpy().reshape(-1))

    given = [answers(values) for values in outputs]
    right = [one == test.labels for one in given]
    same = [given[0] == other for other in given[1:]]
    count = len(test.rows)
    accuracy = [intervals.proportion(int(r.sum()), count, over="test examples") for r in right]
    agree = [
        intervals.proportion(
            int(one.sum()),
            count,
            how="share of rows with the same answer, Clopper-Pearson",
            over="test examples",
        )
        for one in same
    ]
    difference = intervals.paired_difference_of_proportions
    leads = [difference(right[0], other, over="test examples") for other in right[1:]]
    more = [difference(one, same[-1], over="test examples") for one in same[:2] if len(same) > 2]
    return {"accuracy": Quantity.stacked(accuracy, "model")} | _named(agree, leads, more)


def _named(
    agreement: list[Estimate], leads: list[Estimate], more: list[Estimate]
) -> dict[str, Quantity]:
    """Name agreements, leads, and by how much each agrees more than another seed does."""
    named = {
        "agreement": agreement[0],
        "agreement_regularized": agreement[1],
        "lead_over_linearized": leads[0],
        "lead_over_regularized": leads[1],
    }
    if more:
        named |= {
            "agreement_other_seed": agreement[2],
            "lead_over_other_seed": leads[2],
            "agreement_beyond_seed": more[0],
            "agreement_regularized_beyond_seed": more[1],
        }
    return {name: Quantity.from_estimate(estimate) for name, estimate in named.items()}


def _squares(
    subject: Subject, outputs: tuple[np.ndarray, ...], test: Scored
) -> dict[str, Quantity]:
    """Return the same for squared error, by shares of explained variance."""
    deviation = ((test.targets - test.targets.mean(0)) ** 2).mean(1)
    errors = [((values - test.targets) ** 2).mean(1) for values in outputs]
    apart = [((outputs[0] - other) ** 2).mean(1) for other in outputs[1:]]
    scores = [_explained(error, deviation, "R²") for error in errors]
    leads = [
        _ratio(error - errors[0], deviation, "paired difference of R²") for error in errors[1:]
    ]
    how = "1 - squared distance of the outputs over the targets' variance"
    agreement = [_explained(one, deviation, how) for one in apart]
    paired = "paired difference of agreement"
    more = [_ratio(apart[-1] - one, deviation, paired) for one in apart[:2] if len(apart) > 2]
    return {"r_squared": Quantity.stacked(scores, "model")} | _named(agreement, leads, more)


def _explained(error: np.ndarray, deviation: np.ndarray, how: str) -> Estimate:
    return _ratio(deviation - error, deviation, how)


def _ratio(top: np.ndarray, bottom: np.ndarray, how: str) -> Estimate:
    """Ratio of two means with a t interval of its influence."""
    spread = bottom.mean()
    ratio = top.mean() / spread
    return intervals.mean_t(
        ratio + (top - ratio * bottom) / spread,
        how=f"{how}, t interval of the ratio's influence",
        over="test examples",
    )
