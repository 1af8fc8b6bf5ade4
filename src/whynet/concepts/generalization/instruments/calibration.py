"""Whether probabilities mean what they say: overconfidence, temperature, reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="calibration on test data: overconfidence, best temperature, reliability curve",
    unit="fraction",
    needs=("test-data", "classification"),
    cost="one forward pass over the test data",
    cites=("guo2017", "kumar2019"),
    closed_form="logistic-labels",
)

FOLDS = 5
BINS = 10
SURE, SUSPECTS = 0.9, 10
"""Confidence from which a prediction counts as sure, and how many sure mistakes are named."""

_TEMPERATURES = (1e-3, 1e3)


@dataclass(frozen=True)
class State:
    """Logits and labels of the scored test rows, and what the one round computed from them."""

    logits: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    quantities: dict[str, Quantity] | None = None
    bins: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Collect logits and labels; binary logits z become the pair (0, z)."""
    outputs, targets = subject.outputs("test")
    if not has_one_label(subject.loss, outputs):
        return NotApplicable("This does not apply: an example carries more than one label.")
    labels = labels_of(targets, outputs, subject.loss).numpy().reshape(-1)
    scored = labels != IGNORED
    labels, logits = labels[scored], outputs.double().numpy()[scored]
    if len(labels) < 2 * FOLDS:
        return NotApplicable(f"This does not apply: {len(labels)} test rows are too few.")
    if subject.loss.task == "binary classification":
        logits = np.stack([np.zeros(len(logits)), logits.reshape(-1)], axis=1)
    return State(logits, labels, np.flatnonzero(scored))


def advance(state: State) -> State:
    """Compute everything; nothing is drawn, folds are by position."""
    logits, labels = state.logits, state.labels
    probabilities = special.softmax(logits, axis=1)
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == labels).astype(float)
    before = _losses(logits, labels, 1.0)
    after = _out_of_fold(logits, labels)
    quantities = {
        "overconfidence": Quantity.from_estimate(
            intervals.paired_difference(
                confidence,
                right,
                unit="fraction",
                how="mean confidence minus accuracy, t interval",
                over="examples",
            )
        ),
        "temperature": Quantity.from_estimate(temperature(logits, labels)),
        "loss": Quantity.from_estimate(
            intervals.mean_t(before, unit="nats", how="mean log-loss", over="examples")
        ),
        "loss_at_temperature": Quantity.from_estimate(
            intervals.mean_t(
                after,
                unit="nats",
                how=f"log-loss at a temperature fitted on other rows ({FOLDS} folds)",
                over="examples",
            )
        ),
        "loss_saved": Quantity.from_estimate(
            intervals.paired_difference(
                before,
                after,
                unit="nats",
                how="log-loss saved by the temperature, paired, out of fold",
                over="examples",
            )
        ),
    }
    quantities |= _sure(confidence, right, state.rows)
    reliability, bins = _reliability(confidence, right)
    return State(logits, labels, state.rows, quantities | reliability, bins)


def _sure(confidence: np.ndarray, right: np.ndarray, names: np.ndarray) -> dict[str, Quantity]:
    """Count mistakes among sure predictions, and name the rows of the surest ones."""
    sure = confidence >= SURE
    if not sure.any():
        return {}
    wrong = np.flatnonzero(sure & (right == 0))
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:SUSPECTS]
    rows = np.full(SUSPECTS, np.nan)
    rows[: len(order)] = names[order]
    return {
        "sure_mistakes": Quantity.from_estimate(
            intervals.proportion(
                len(wrong),
                int(sure.sum()),
                over="examples",
                how=f"share wrong among predictions of confidence {SURE} and more, Clopper-Pearson",
            )
        ),
        "sure_mistakes_promised": Quantity(
            float((1 - confidence[sure]).mean()),
            unit="fraction",
            how="share wrong that their confidence allows for",
        ),
        "surest_mistakes": Quantity(
            rows,
            dims=("place",),
            how="test rows of the surest mistakes, the surest first",
            missing="there are fewer of them",
        ),
    }


def temperature(logits: np.ndarray, labels: np.ndarray) -> Estimate:
    """Temperature that minimizes the log-loss, with a sandwich interval on the log scale.

    Args:
        logits: `[examples, classes]`.
        labels: `[examples]`, class indices.

    Returns:
        The temperature T by which logits are divided; where classes are separated without an
        error the loss has no minimum, T runs to its smallest value 0.001 and the kind is
        `indicative`.

    """
    log_t = np.log(_TEMPERATURES[0]) if _separated(logits, labels) else _fit(logits, labels)
    inverse = np.exp(-log_t)
    p = special.softmax(logits * inverse, axis=1)
    scaled = logits * inverse
    expected = (p * scaled).sum(1)
    # First and second derivative of the log-loss in log T, example by example.
    slope = scaled[np.arange(len(labels)), labels] - expected
    variance = (p * scaled**2).sum(1) - expected**2
    bend = float((variance - slope).mean())
    inside = np.log(_TEMPERATURES[0]) + 0.01 < log_t < np.log(_TEMPERATURES[1]) - 0.01
    error = slope.std(ddof=1) / np.sqrt(len(labels)) / bend if bend > 0 else np.inf
    half = 1.96 * error if np.isfinite(error) else 5.0
    half = min(half, 20.0)
    return Estimate(
        float(np.exp(log_t)),
        float(np.exp(log_t - half)),
        float(np.exp(log_t + half)),
        kind="interval" if inside and len(labels) >= 30 else "indicative",
        how="minimum of the log-loss, sandwich interval on the log scale",
        over="examples",
    )


def _separated(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Whether every right class leads, so that the loss falls for ever as T does."""
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return bool((logits[rows, labels] > others.max(1)).all())


def _fit(logits: np.ndarray, labels: np.ndarray) -> float:
    low, high = np.log(_TEMPERATURES)
    found = optimize.minimize_scalar(
        lambda log_t: float(_losses(logits, labels, float(np.exp(log_t))).mean()),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(found.x)


def _losses(logits: np.ndarray, labels: np.ndarray, at: float) -> np.ndarray:
    scaled = logits / at
    chosen = scaled[np.arange(len(labels)), labels]
    return np.asarray(special.logsumexp(scaled, axis=1) - chosen)


def _out_of_fold(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Losses at the temperature of the other folds; at 1 where these are separated."""
    fold = np.arange(len(labels)) % FOLDS
    losses = np.empty(len(labels))
    for k in range(FOLDS):
        inside = fold == k
        others = logits[~inside], labels[~inside]
        at = 1.0 if _separated(*others) else float(np.exp(_fit(*others)))
        losses[inside] = _losses(logits[inside], labels[inside], at)
    return losses


def _reliability(confidence: np.ndarray, right: np.ndarray) -> tuple[dict[str, Quantity], int]:
    """Accuracy in bins of equal mass of confidence, and the plug-in calibration error."""
    bins = max(1, min(BINS, len(right) // 20))
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    shares = [intervals.proportion(int(right[p].sum()), len(p), over="examples") for p in parts]
    means = np.array([confidence[p].mean() for p in parts])
    sizes = np.array([len(p) for p in parts]) / len(right)
    gaps = np.abs(means - [share.value for share in shares])
    error = float((sizes * gaps).sum())
    # Binomial noise in the bins alone gives this much, since |gap| cannot average out.
    noise = float(
        (
            sizes
            * np.sqrt(
                [s.value * (1 - s.value) / len(p) for s, p in zip(shares, parts, strict=True)]
            )
        ).sum()
    )
    return {
        "bin_accuracy": Quantity.stacked(shares, "bin"),
        "bin_confidence": Quantity(means, dims=("bin",), unit="fraction", how="mean confidence"),
        "calibration_error": Quantity(
            error,
            max(error - 2 * noise, 0.0),
            error + 2 * noise,
            unit="fraction",
            kind="indicative",
            how=f"mean gap over {bins} bins of equal mass; biased upward by "
            "about the noise in the bins",
            over="examples",
        ),
    }, bins


def read(state: State) -> Measurement:
    """Return the quantities of the one round."""
    assert state.quantities is not None
    return Measurement.of(
        state.quantities, coords={"bin": np.arange(state.bins)}, cites=INSTRUMENT.cites
    )
