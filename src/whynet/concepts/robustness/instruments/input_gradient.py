"""How steeply loss and decision depend on the input: gradients, and first-order distances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="gradients with respect to the input, and first-order distance to the decision boundary",
    unit="ratio",
    needs=("test-data", "float-inputs", "deterministic"),
    cost="two gradients of every test row, one an output for regression",
    cites=("goodfellow2015",),
    closed_form="linear-classifier",
)

NORMS = ("l1", "l2")
"""Norms of a gradient; a change of size r in the dual norm (l∞, l2) moves by at most r times it."""

MOST_OUTPUTS = 64


@dataclass(frozen=True)
class State:
    """The subject, and per quantity `[examples, norms]` once the one round has run."""

    subject: Subject
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    distance: np.ndarray | None = None


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Prepare; nothing is drawn, so the seed has no part in it."""
    return State(subject)


def advance(state: State) -> State:
    """Differentiate every test row with respect to its input."""
    subject = state.subject
    outputs, _ = subject.outputs("test")
    labeled = "classification" in subject.loss.task and has_one_label(subject.loss, outputs)
    entries = int(np.prod(outputs.shape[1:]))
    pieces: dict[str, list[np.ndarray]] = {}
    margins = []
    for inputs, targets in subject.batches("test"):
        with torch.enable_grad():
            x = inputs.detach().requires_grad_()
            out = subject.forward(subject.parameters, x)
            loss = subject.loss.per_example(out, targets)
            found = {"loss": _norms(_gradient(loss, x))}
            if labeled:
                margin = _margins(subject, out, targets)
                found["margin"] = _norms(_gradient(margin, x))
                margins.append(margin.detach().double().cpu().numpy())
            elif subject.loss.task == "regression" and entries <= MOST_OUTPUTS:
                found["output"] = _jacobian_norms(out.reshape(len(out), -1), x)
        for name, values in found.items():
            pieces.setdefault(name, []).append(values)
    gradients = {name: np.concatenate(parts) for name, parts in pieces.items()}
    if not labeled:
        return State(subject, gradients)
    leads = np.concatenate(margins)
    scored = ~np.isnan(leads)
    gradients["margin"] = gradients["margin"][scored]
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = leads[scored][:, None] / gradients["margin"]
    return State(subject, gradients, np.where(np.isnan(distance), np.inf, distance))


def _gradient(values: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(values.sum(), x, retain_graph=True, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def _norms(gradient: Tensor) -> np.ndarray:
    flat = gradient.detach().double().reshape(len(gradient), -1)
    return torch.stack([flat.abs().sum(1), flat.norm(dim=1)], dim=1).cpu().numpy()


def _jacobian_norms(outputs: Tensor, x: Tensor) -> np.ndarray:
    """Sum of absolute entries and Frobenius norm of every row's Jacobian."""
    each = np.stack([_norms(_gradient(outputs[:, k], x)) for k in range(outputs.shape[1])])
    return np.stack([each[:, :, 0].sum(0), np.sqrt((each[:, :, 1] ** 2).sum(0))], axis=1)


def _margins(subject: Subject, outputs: Tensor, targets: Tensor) -> Tensor:
    """Lead of the right class in logits; NaN where a row is not scored."""
    labels = labels_of(targets, outputs, subject.loss).reshape(-1)
    if subject.loss.task == "binary classification":
        return outputs.reshape(-1) * (2 * labels - 1)
    held = labels.clamp(min=0)[:, None]
    right = outputs.gather(1, held)[:, 0]
    margin = right - outputs.scatter(1, held, -torch.inf).amax(1)
    return torch.where(labels == IGNORED, torch.nan, margin)


def read(state: State) -> Measurement:
    """Return means and medians over the test examples."""
    quantities = {}
    for name, values in state.gradients.items():
        means = [_mean(column) for column in values.T]
        quantities[f"{name}_gradient"] = Quantity.stacked(means, "norm")
        medians = [median(column) for column in values.T]
        quantities[f"{name}_gradient_median"] = Quantity.stacked(medians, "norm")
    coords = {"norm": list(NORMS)}
    if state.distance is not None:
        middle = [median(column) for column in state.distance.T]
        coords["change"] = ["linf", "l2"]
        stacked = Quantity.stacked(middle, "change")
        quantities["distance"] = _finite(stacked)
    return Measurement.of(quantities, coords=coords, cites=INSTRUMENT.cites)


def _mean(values: np.ndarray) -> Estimate:
    """Mean with Student's t; `indicative` where Cochran's rule finds too few values.

    The rule (Cochran 1977, Sampling Techniques, 2.15) asks for more than 25 times the squared
    skewness; gradients of a loss that is nearly zero on most rows often fail it.
    """
    mean = intervals.mean_t(values, how="mean over examples", over="examples")
    skewness = float(stats.skew(values)) if np.ptp(values) > 0 else 0.0
    if len(values) > 25 * skewness**2:
        return mean
    return replace(mean, kind="indicative", how="mean over examples, too skewed for its t interval")


def median(values: np.ndarray, level: float = 0.95) -> Estimate:
    """Median with the distribution-free interval of two order statistics.

    Ranks enclose a Binomial(n, 1/2) count with probability at least `level`; with too few values
    for that, the bounds are the extremes and the kind is `indicative`. Not a number where the
    middle of the values is infinite.
    """
    ordered, n = np.sort(values), len(values)
    low = int(stats.binom.ppf((1 - level) / 2, n, 0.5)) - 1
    high = int(stats.binom.ppf((1 + level) / 2, n, 0.5))
    enclosed = low >= 0 and high < n
    lower, upper = float(ordered[(n - 1) // 2]), float(ordered[n // 2])
    if not np.isfinite([lower, upper]).all():
        return Estimate(np.nan, np.nan, np.nan, "indicative", how="order statistics")
    middle = (lower + upper) / 2
    return Estimate(
        middle,
        min(float(ordered[max(low, 0)]), middle),
        max(float(ordered[min(high, n - 1)]), middle),
        kind="interval" if enclosed else "indicative",
        how="order statistics",
        over="examples",
    )


def _finite(quantity: Quantity) -> Quantity:
    """Mark a median as missing where half of the gradients vanish."""
    value, low, high = (
        np.asarray(part, float) for part in (quantity.value, quantity.low, quantity.high)
    )
    there = np.isfinite(value)
    return Quantity(
        np.where(there, value, np.nan),
        np.where(there, low, np.nan),
        np.where(there, high, np.nan),
        dims=quantity.dims,
        unit="input units",
        kind=quantity.kind,
        over="examples",
        how="margin over gradient norm, median with order statistics; negative where it errs",
        missing="the margin does not change to first order for half of the examples",
    )
