"""By how much the right class leads: quantiles of the margin on training and test data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.losses import Loss
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Subject

INSTRUMENT = Instrument(
    title="margins: how far the right class leads the best wrong one",
    unit="logits",
    needs=("classification",),
    cost="one forward pass over the data",
    cites=("zhang2017",),
    closed_form="logistic-labels",
)

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class State:
    """The subject, and the margins of its splits once the one round has run."""

    subject: Subject
    margins: dict[str, np.ndarray]


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Check that every example has one label."""
    split = next((s for s in ("test", "train") if getattr(subject, s) is not None), None)
    if split is None:
        return NotApplicable("This does not apply: neither training nor test data were given.")
    if not has_one_label(subject.loss, subject.outputs(split)[0]):  # type: ignore[arg-type]
        return NotApplicable("This does not apply: an example carries more than one label.")
    return State(subject, {})


def advance(state: State) -> State:
    """Compute the margin of every example."""
    subject = state.subject
    margins = {}
    for split in ("train", "test"):
        if getattr(subject, split) is not None:
            outputs, targets = subject.outputs(split)
            scored = labels_of(targets, outputs, subject.loss).reshape(-1) != IGNORED
            if not bool(scored.any()):
                continue
            leads = margin(subject.loss, outputs[scored], targets[scored])
            margins[split] = leads.double().numpy()
    return State(subject, margins)


def margin(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logit of the right class minus the best other one; differentiable, `[examples]`.

    For one logit z of a binary task it is z for class 1 and -z for class 0.
    """
    labels = labels_of(targets, outputs, loss)
    if loss.task == "binary classification":
        return (outputs.reshape(len(outputs)) * (2 * labels.reshape(-1) - 1)).to(outputs.dtype)
    right = outputs.gather(1, labels[:, None])[:, 0]
    others = outputs.scatter(1, labels[:, None], -torch.inf).amax(1)
    return right - others


def quantiles(values: np.ndarray, level: float = 0.95) -> Quantity:
    """Quantiles with distribution-free intervals from order statistics.

    The ends are the order statistics whose ranks enclose a Binomial(n, q) count with probability
    at least `level`; where the sample is too small for that, they are its extremes and the kind
    is `indicative`.
    """
    ordered, n = np.sort(values), len(values)
    q = np.asarray(LEVELS)
    low = stats.binom.ppf((1 - level) / 2, n, q).astype(int) - 1
    high = stats.binom.ppf((1 + level) / 2, n, q).astype(int)
    enclosed = bool(((low >= 0) & (high < n)).all())
    middle = np.quantile(ordered, q)
    lows, highs = ordered[np.clip(low, 0, n - 1)], ordered[np.clip(high, 0, n - 1)]
    return Quantity(
        middle,
        np.minimum(lows, middle),
        np.maximum(highs, middle),
        dims=("quantile",),
        unit="logits",
        kind="interval" if enclosed else "indicative",
        how="order statistics",
        over="examples",
    )


def read(state: State) -> Measurement:
    """Return quantiles of the margin for each split."""
    each = [quantiles(margins) for margins in state.margins.values()]
    weakest = "interval" if all(q.kind == "interval" for q in each) else "indicative"
    stacked = Quantity(
        np.stack([np.asarray(q.value) for q in each]),
        np.stack([np.asarray(q.low) for q in each]),
        np.stack([np.asarray(q.high) for q in each]),
        dims=("split", "quantile"),
        unit="logits",
        kind=weakest,  # type: ignore[arg-type]
        how="order statistics",
        over="examples",
    )
    return Measurement.of(
        {"margin": stacked},
        coords={"split": list(state.margins), "quantile": list(LEVELS)},
        cites=INSTRUMENT.cites,
    )
