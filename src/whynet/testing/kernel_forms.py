"""Networks whose neural tangent kernel and linearized network are known by hand."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import torch
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, WIDTH, ROWS, DRAWN = 5, 12, 320, 256
TRUTH_DRAWS = 2000
"""Draws that the truth is a mean over: its error is an eighth of that of thirty draws."""

POPULATION, TRAINED, TESTED, CLASSES = 3001, 60, 300, 3
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

Weights = tuple[np.ndarray, np.ndarray]


def relu_kernel() -> ClosedForm:
    """Two layers of ReLU units on 320 rows, of which an instrument draws 256.

    The kernel of sum_j a_j relu(w_j x) is known, see `two_layer_kernel`; the truth is the mean
    over 2000 draws of 256 rows, 128 of either class.
    """
    generator = np.random.default_rng(seed_from("relu-kernel"))
    inputs = generator.standard_normal((ROWS, FEATURES))
    labels = np.arange(ROWS) % 2
    inputs[:, 0] += labels
    start, end = (_weights(generator, scale) for scale in (0.5, 1.0))

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        rows = (torch.tensor(inputs, dtype=dtype), torch.tensor(labels, dtype=dtype))
        test = (rows[0][:40], rows[1][:40])
        return Subject(
            two_layers(end), train=rows, test=test, loss="bce", initial=two_layers(start),
            dtype=dtype, name="two layers",
        )  # fmt: skip

    @cache
    def truth() -> dict[Key, float]:
        now, before = (two_layer_kernel(inputs, *weights) for weights in (end, start))
        return _drawn_truth(now, before, labels * 2.0 - 1)

    @cache
    def spectrum() -> dict[Key, float]:
        return _spectrum_truth(inputs, end, labels)

    return ClosedForm(
        subject,
        {"lazy-or-rich": {}, "kernel-spectrum": {}},
        over_examples=False,
        of_draw=lambda name, draw: truth() if name == "lazy-or-rich" else spectrum(),
    )


def two_layer_kernel(inputs: np.ndarray, hidden: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Kernel of sum_j a_j relu(w_j x): sum_j relu relu' + a_j^2 [fires] [fires'] x x'."""
    before = inputs @ hidden.T
    fires = (before > 0).astype(float)
    active = before * fires
    return np.asarray(active @ active.T + ((fires * last**2) @ fires.T) * (inputs @ inputs.T))


def two_layers(weights: Weights) -> nn.Sequential:
    """Return the network without biases that has these weights."""
    hidden = nn.Linear(weights[0].shape[1], len(weights[0]), bias=False)
    last = nn.Linear(len(weights[0]), 1, bias=False)
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(weights[0]))
        last.weight.copy_(torch.tensor(weights[1])[None])
    return nn.Sequential(hidden, nn.ReLU(), last)


def _weights(generator: np.random.Generator, scale: float) -> Weights:
    """Draw weights that float32 holds exactly."""
    hidden = scale * generator.standard_normal((WIDTH, FEATURES))
    last = scale * generator.standard_normal(WIDTH)
    return hidden.astype(np.float32).astype(float), last.astype(np.float32).astype(float)


def _drawn_truth(now: np.ndarray, before: np.ndarray, targets: np.ndarray) -> dict[Key, float]:
    generator = np.random.default_rng(seed_from("relu-kernel", "truth"))
    found = []
    for _ in range(TRUTH_DRAWS):
        places = np.concatenate(
            [
                generator.choice(np.flatnonzero(targets == side), DRAWN // 2, replace=False)
                for side in (-1.0, 1.0)
            ]
        )
        one, two = (kernel[np.ix_(places, places)] for kernel in (now, before))
        y = targets[places]
        ratio = np.trace(one) / np.trace(two)
        # y and its shuffles have mean zero, so that centering leaves y' K y alone.
        flat = [k - k.mean(0) - k.mean(0)[:, None] + k.mean() for k in (one, two)]
        sizes = [np.sqrt((kernel**2).sum()) for kernel in flat]
        other = generator.permutation(y)
        found.append(
            [
                1 - (flat[0] * flat[1]).sum() / (sizes[0] * sizes[1]),
                ratio,
                *(y @ k @ y / (DRAWN * s) for k, s in zip((one, two), sizes, strict=True)),
                *(other @ k @ other / (DRAWN * s) for k, s in zip((one, two), sizes, strict=True)),
            ]
        )
    means = np.mean(found, axis=0)
    names = ("now", "initialization")
    truth: dict[Key, float] = {
        ("shape_drift", ()): float(means[0]),
        ("trace_ratio", ()): float(means[1]),
    }
    for place, name in enumerate(names):
        truth[("alignment", (("weights", name),))] = float(means[2 + place])
        truth[("shuffled_alignment", (("weights", name),))] = float(means[4 + place])
    return truth


def _spectrum_truth(inputs: np.ndarray, weights: Weights, labels: np.ndarray) -> dict[Key, float]:
    """Return the mean over draws of what `kernel-spectrum` says, from the features themselves.

    The kernel is a Gram matrix of the rows' gradients, which are written out here; its eigenvalues
    are those of the smaller matrix of their products. Its rank is below the number of rows, so
    that its condition is round-off.
    """
    hidden, last = weights
    before = inputs @ hidden.T
    fires = (before > 0).astype(float)
    upper = before * fires
    lower = ((fires * last)[:, :, None] * inputs[:, None, :]).reshape(len(inputs), -1)
    both = np.concatenate([lower, upper], axis=1)
    onehot = np.eye(2)[labels]
    generator = np.random.default_rng(seed_from("relu-kernel", "spectrum"))
    found = []
    for _ in range(TRUTH_DRAWS):
        places = np.concatenate(
            [
                generator.choice(np.flatnonzero(labels == side), DRAWN // 2, replace=False)
                for side in (0, 1)
            ]
        )
        rows, y = both[places], labels[places] * 2.0 - 1
        small = rows.T @ rows
        values = np.linalg.eigvalsh(small)[::-1]
        centered = rows - rows.mean(0)
        size = np.linalg.norm(centered.T @ centered) * DRAWN
        other = generator.permutation(DRAWN)
        raw = onehot[places]
        norm = np.linalg.norm(small) * np.linalg.norm(raw.T @ raw)
        found.append(
            [
                *(values[:5] / DRAWN),
                values.sum() ** 2 / (values**2).sum(),
                (lower[places] ** 2).sum() / (rows**2).sum(),
                (upper[places] ** 2).sum() / (rows**2).sum(),
                ((y @ centered) ** 2).sum() / size,
                ((raw.T @ rows) ** 2).sum() / norm,
                ((y[other] @ centered) ** 2).sum() / size,
                ((raw[other].T @ rows) ** 2).sum() / norm,
            ]
        )
    means = np.mean(found, axis=0)
    keys: list[Key] = [("eigenvalue", (("rank", rank),)) for rank in range(1, 6)]
    keys += [("effective_rank", ())]
    keys += [("layer_share", (("layer", layer),)) for layer in ("0", "2")]
    for name in ("alignment", "shuffled_alignment"):
        keys += [(name, (("kernel", kernel),)) for kernel in ("centered", "uncentered")]
    return dict(zip(keys, (float(value) for value in means), strict=True))


def linear_network() -> ClosedForm:
    """A linear classifier, which is its own linearization, on test rows from a finite set.

    Its kernel is x x' + 1 for every class, so that the linearized network is ridge regression on
    the features and a constant, with the initial scores as offset. Its training function sets the
    weights to others that are known, so that another seed has known answers.
    """
    generator = np.random.default_rng(seed_from("linear-network"))
    points = generator.standard_normal((POPULATION, FEATURES)).astype(np.float32).astype(float)
    rule = generator.standard_normal((FEATURES, CLASSES))
    noisy = points @ rule + generator.standard_normal((POPULATION, CLASSES))
    labels = noisy.argmax(1)
    start, end = (
        0.3 * generator.standard_normal((FEATURES + 1, CLASSES)).astype(np.float32).astype(float)
        for _ in range(2)
    )
    end[:FEATURES] += rule.astype(np.float32)
    start, end = (part.astype(np.float32).astype(float) for part in (start, end))
    other = end + 0.3 * generator.standard_normal(end.shape).astype(np.float32)
    other = other.astype(np.float32).astype(float)
    trained = np.arange(TRAINED)
    trainer = Trainer(partial(_linear, start), lambda model, inputs, targets: _linear(other))

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        rows = np.random.default_rng(seed_from("linear-network", draw)).integers(
            POPULATION, size=TESTED
        )
        train, test = (
            (torch.tensor(points[part], dtype=dtype), torch.tensor(labels[part]))
            for part in (trained, rows)
        )
        return Subject(
            _linear(end), train=train, test=test, initial=_linear(start), dtype=dtype,
            trainer=trainer, name="linear",
        )  # fmt: skip

    truth = _linear_truth(points, labels, start, (end, other))
    return ClosedForm(subject, {"lazy-or-rich": truth}, over_examples=True)


def _linear(weights: np.ndarray) -> nn.Linear:
    module = nn.Linear(FEATURES, CLASSES)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weights[:FEATURES].T))
        module.bias.copy_(torch.tensor(weights[FEATURES]))
    return module


def ridge_regression(x: np.ndarray, residual: np.ndarray, ridge: float) -> np.ndarray:
    """Weights by the normal equations; the ridge is relative to the mean squared length."""
    scale = float((x**2).sum(1).mean())
    return np.asarray(np.linalg.solve(x.T @ x + ridge * scale * np.eye(x.shape[1]), x.T @ residual))


def best_ridge(x: np.ndarray, residual: np.ndarray) -> float:
    """Ridge with the least squared error on rows left out, each fitted anew without it."""
    scale = float((x**2).sum(1).mean())
    errors = []
    for ridge in RIDGES:
        error = 0.0
        for i in range(len(x)):
            kept = np.arange(len(x)) != i
            own = ridge * scale / float((x[kept] ** 2).sum(1).mean())
            error += float(
                ((x[i] @ ridge_regression(x[kept], residual[kept], own) - residual[i]) ** 2).sum()
            )
        errors.append(error)
    return RIDGES[int(np.argmin(errors))]


def _linear_truth(
    points: np.ndarray, labels: np.ndarray, start: np.ndarray, ends: Weights
) -> dict[Key, float]:
    """Shares in the whole population, of the network and of the one from another seed."""
    x = np.concatenate([points, np.ones((POPULATION, 1))], axis=1)
    residual = np.eye(CLASSES)[labels[:TRAINED]] - 1 / CLASSES - x[:TRAINED] @ start
    fitted = [
        start + ridge_regression(x[:TRAINED], residual, ridge)
        for ridge in (RIDGES[0], best_ridge(x[:TRAINED], residual))
    ]
    answers = [(x @ weights).argmax(1) for weights in (ends[0], *fitted, ends[1])]
    share = [float((given == labels).mean()) for given in answers]
    same = [float((answers[0] == given).mean()) for given in answers]
    models = ("network", "linearized", "regularized", "other seed")
    truth: dict[Key, float] = {
        ("accuracy", (("model", name),)): value for name, value in zip(models, share, strict=True)
    }
    return truth | {
        ("agreement", ()): same[1],
        ("agreement_regularized", ()): same[2],
        ("agreement_other_seed", ()): same[3],
        ("agreement_beyond_seed", ()): same[1] - same[3],
        ("agreement_regularized_beyond_seed", ()): same[2] - same[3],
        ("lead_over_linearized", ()): share[0] - share[1],
        ("lead_over_regularized", ()): share[0] - share[2],
        ("lead_over_other_seed", ()): share[0] - share[3],
        ("shape_drift", ()): 0.0,
        ("trace_ratio", ()): 1.0,
    }
