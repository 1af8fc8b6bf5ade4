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
from whynet.models.data.examples import Examples
from whynet.models.data.token_counts import tokens_of
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Subject
from whynet.models.threads import affordable_rows
from whynet.models.token_vectors import TokenVectors, movable, token_vectors
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="gradients with respect to the input, and first-order distance to the decision boundary",
    unit="ratio",
    needs=("test-data", "movable-inputs", "deterministic"),
    cost="two gradients of every test row, one an output for regression; of fewer rows of tokens "
    "where the network is large",
    cites=("goodfellow2015",),
    closed_form="linear-classifier",
)

NORMS = ("l1", "l2")
"""Norms of a gradient; a change of size r in the dual norm (l∞, l2) moves by at most r times it."""

PASSES = 6
"""Forward passes that the gradients of loss and margin cost."""

MOST_OUTPUTS = 64

MOST_TOKENS = 1000
"""Tokens whose nearest other is looked for."""


@dataclass(frozen=True)
class State:
    """What stands before and after the one round.

    Attributes:
        subject: the network.
        gradients: per quantity `[examples, norms]`.
        distance: `[examples, norms]` to the decision boundary, to first order.
        apart: of tokens, median distance of a vector to the nearest other.
        notes: full sentences.

    """

    subject: Subject
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    distance: np.ndarray | None = None
    apart: float | None = None
    notes: tuple[str, ...] = ()


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Prepare; nothing is drawn, so the seed has no part in it."""
    return State(subject)


def advance(state: State) -> State:
    """Differentiate test rows with respect to their inputs, or to the vectors of their tokens."""
    subject = state.subject
    if not subject.examples("test").is_float:
        return _of_tokens(subject)
    return _differentiated(subject, subject.examples("test"))


def _of_tokens(subject: Subject) -> State:
    """Differentiate as many rows as are affordable, and see how far tokens are apart."""
    held = token_vectors(subject)
    assert isinstance(held, TokenVectors)
    count = subject.examples("test").count
    rows = affordable_rows(subject, PASSES, count)
    notes = [
        "The inputs are tokens, which cannot be moved a little: their vectors are, as the "
        "embedding layer gives them, and no token need have the vectors in between."
    ]
    places = [i * count // rows for i in range(rows)]
    if rows < count:
        notes.append(f"The network is large: {rows} of {count} test rows were differentiated.")
    found = _differentiated(subject, subject.examples("test").subset(places))
    return replace(found, apart=nearest_token(subject, held.table), notes=tuple(notes))


def nearest_token(subject: Subject, table: Tensor) -> float:
    """Return the median, over tokens of the test data, of the distance to the nearest other one.

    Args:
        subject: of tokens.
        table: vectors of all tokens, `[tokens, features]`.

    """
    seen: set[int] = set()
    for inputs, _ in subject.batches("test"):
        found = tokens_of(inputs)
        assert found is not None
        tokens, counted = found
        seen |= set((tokens if counted is None else tokens[counted]).flatten().tolist())
    ordered = sorted(seen)
    chosen = [ordered[i * len(ordered) // MOST_TOKENS] for i in range(MOST_TOKENS)]
    places = torch.tensor(ordered if len(ordered) <= MOST_TOKENS else chosen)
    every = table.detach().cpu().double()
    least = []
    size = max(1, 2**24 // len(every))
    for part in (places[i : i + size] for i in range(0, len(places), size)):
        gaps = torch.cdist(every[part], every)
        gaps[torch.arange(len(part)), part] = torch.inf
        least.append(gaps.amin(1))
    return float(torch.cat(least).median())


def _differentiated(subject: Subject, examples: Examples) -> State:
    outputs, _ = subject.outputs("test")
    labeled = "classification" in subject.loss.task and has_one_label(subject.loss, outputs)
    entries = int(np.prod(outputs.shape[1:]))
    pieces: dict[str, list[np.ndarray]] = {}
    margins = []
    batches = examples.batches(subject.batch_size, device=subject.device, dtype=subject.dtype)
    for inputs, targets in batches:
        with torch.enable_grad():
            start, forward = movable(subject, inputs)
            x = start.requires_grad_()
            out = forward(x)
            loss = subject.loss.per_example(out, targets)
            found = {"loss": _norms(_gradient(loss, x))}
            if labeled:
                margin = leads(subject, out, targets)
                found["margin"] = _norms(_gradient(margin, x))
                margins.append(margin.detach().double().cpu().numpy())
            elif subject.loss.task == "regression" and entries <= MOST_OUTPUTS:
                found["output"] = _jacobian_norms(out.reshape(len(out), -1), x)
        for name, values in found.items():
            pieces.setdefault(name, []).append(values)
    gradients = {name: np.concatenate(parts) for name, parts in pieces.items()}
    if not labeled:
        return State(subject, gradients)
    found_leads = np.concatenate(margins)
    scored = ~np.isnan(found_leads)
    gradients["margin"] = gradients["margin"][scored]
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = found_leads[scored][:, None] / gradients["margin"]
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


def leads(subject: Subject, outputs: Tensor, targets: Tensor) -> Tensor:
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
    if state.apart is not None:
        quantities["token_distance"] = Quantity(
            state.apart,
            unit="input units",
            how="Euclidean distance of a token's vector to the nearest other, median over tokens",
        )
    return Measurement.of(quantities, coords=coords, cites=INSTRUMENT.cites, notes=state.notes)


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
