"""Ridge regression: what leaving out rows does is known without an approximation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.seeds import seed_from
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, ROWS, TESTED, RIDGE = 4, 60, 200, 3.0
NOISE = 0.05
"""Of the weights of the network trained again, by the seed and by the rows."""


def ridge_rows() -> ClosedForm:
    """A linear network at the minimum of a penalized squared error; rows left out by refitting."""
    points, targets = population()
    weight = ridge(points[:ROWS], targets[:ROWS])

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        return _subject(dtype, weight, None)

    truth: dict[Key, float] = {}
    for row in range(0, ROWS, 5):
        kept = np.delete(np.arange(ROWS), row)
        without = ridge(points[kept], targets[kept])
        now, after = (
            float((points[row] @ w - targets[row]) ** 2) for w in (weight.astype(float), without)
        )
        truth[("self_influence", (("row", row),))] = after - now
        truth[("loss", (("row", row), ("when", "left out")))] = after
    return ClosedForm(subject, {"self-influence": truth}, over_examples=False)


def retrained_ridge() -> ClosedForm:
    """The same, trained again to the minimum, plus noise of the weights that a seed draws."""
    points, targets = population()
    weight = ridge(points[:ROWS], targets[:ROWS])

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        return _subject(dtype, weight, trainer(draw))

    truth: dict[Key, float] = {("removed", ()): ROWS // 10, ("pairs", ()): 3.0}
    return ClosedForm(subject, {"removal-effect": truth}, over_examples=True)


def population() -> tuple[np.ndarray, np.ndarray]:
    """Return points and targets of the training rows, then of the test rows, as float32."""
    generator = np.random.default_rng(seed_from("ridge-rows"))
    points = generator.standard_normal((ROWS + TESTED, FEATURES))
    noise = generator.standard_normal(ROWS + TESTED)
    targets = points @ np.array([1.0, -0.5, 0.25, 0.0]) + 0.5 * noise
    targets[:3] += 4.0
    return points.astype(np.float32).astype(float), targets.astype(np.float32).astype(float)


def ridge(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Minimize the sum of squared errors plus half the ridge times the square of the weights."""
    matrix = 2 * points.T @ points + RIDGE * np.eye(FEATURES)
    return np.asarray(np.linalg.solve(matrix, 2 * points.T @ targets))


def trainer(draw: int) -> Trainer:
    """Return a training function that fits, and then moves the weights by noise of its own."""

    def build() -> nn.Module:
        return nn.Linear(FEATURES, 1, bias=False)

    def train(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> None:
        points, wanted = inputs.double().numpy(), targets.double().reshape(-1).numpy()
        generator = np.random.default_rng(
            seed_from("retrained-ridge", draw, seed, str(float(wanted.sum())))
        )
        moved = ridge(points, wanted) + NOISE * generator.standard_normal(FEATURES)
        with torch.no_grad():
            model.weight.copy_(torch.tensor(moved)[None])  # type: ignore[operator]

    return Trainer(build, train, label=("retrained-ridge", str(draw)))


def _subject(dtype: torch.dtype, weight: np.ndarray, again: Trainer | None) -> Subject:
    points, targets = population()
    module = nn.Linear(FEATURES, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight)[None])
    if dtype == torch.float64:
        module = module.double()
        with torch.no_grad():
            module.weight.copy_(torch.tensor(weight)[None])
    x, y = torch.tensor(points, dtype=dtype), torch.tensor(targets, dtype=dtype)
    return Subject(
        module,
        train=(x[:ROWS], y[:ROWS]),
        test=(x[ROWS:], y[ROWS:]),
        loss="mse",
        dtype=dtype,
        name="ridge",
        trainer=again,
    )
