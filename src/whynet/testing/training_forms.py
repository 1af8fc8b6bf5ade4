"""Linear regression by gradient descent: every number of its training is known by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.core.seeds import seed_from
from whynet.models.data.examples import Examples
from whynet.models.features import bounded
from whynet.models.retraining import Log, Trainer
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

FEATURES, ROWS, RECORDED = 6, 420, 256
STEPS, RATE, MOMENTUM, DECAY = 5, 0.05, 0.5, 0.1
JUDGED = (1, 4, 5)
"""Steps at which intervals are judged; the instrument measures 0, 1, 2, 4 and 5."""


def linear_training() -> ClosedForm:
    """Squared error of a linear function, from zero, by heavy ball on all rows at once.

    The rows are drawn anew for each draw, and so are those of them that are recorded. The
    gradient of a row is 2 (w x - y) x and the Hessian twice the second moment of x.
    """

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        x, y = rows_of(draw)
        data = torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)
        trainer = Trainer(lambda: linear(dtype), descend)
        return Subject(
            linear(dtype), train=data, loss="mse", dtype=dtype, trainer=trainer, name="line"
        )

    return ClosedForm(
        subject, {"training-record": {}}, over_examples=True, of_draw=lambda name, draw: truth(draw)
    )


def rows_of(draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw inputs of unequal scales, and targets `[rows, 1]` with noise."""
    generator = np.random.default_rng(seed_from("linear-training", draw))
    x = generator.standard_normal((ROWS, FEATURES)) * np.linspace(0.5, 2.0, FEATURES)
    noise = 2 * generator.standard_normal(ROWS)
    return x, (x.sum(1) + noise).reshape(ROWS, 1)


def linear(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a linear function that is zero everywhere."""
    module = nn.Linear(FEATURES, 1, bias=False, dtype=dtype)
    nn.init.zeros_(module.weight)
    return module


def descend(model: nn.Module, inputs: Tensor, targets: Tensor, log: Log | None = None) -> None:
    """Train by heavy ball with weight decay, on all rows at once."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY
    )  # fmt: skip
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss = functional.mse_loss(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if log is not None:
            log(step, {"loss": loss, "optimizer": optimizer, "batch_size": len(inputs)})


def weights(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Return the weights at steps 0, 1, …, in float64."""
    w, velocity, path = np.zeros(FEATURES), np.zeros(FEATURES), []
    for _ in range(STEPS + 1):
        path.append(w)
        slope = 2 * x.T @ (x @ w - y[:, 0]) / len(x) + DECAY * w
        velocity = MOMENTUM * velocity + slope
        w = w - RATE * velocity
    return path


def recorded(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that a recorder of seed 0 measures on."""
    numbered = Examples.from_arrays(torch.arange(ROWS, dtype=torch.float64)[:, None], y)
    chosen, _ = bounded(numbered, RECORDED, "recorder", 0).take(range(RECORDED))
    assert isinstance(chosen, Tensor)
    places = chosen[:, 0].long().numpy()
    return x[places], y[places]


def truth(draw: int) -> dict[Key, float]:
    """Compute what a record of this draw holds, without whynet's own code."""
    x, y = rows_of(draw)
    seen_x, seen_y = recorded(x, y)
    path = weights(x, y)
    curvature = 2 * seen_x.T @ seen_x / RECORDED + DECAY * np.eye(FEATURES)
    largest = float(np.linalg.eigvalsh(curvature)[-1])
    limit = 2 * (1 + MOMENTUM) / RATE
    found: dict[Key, float] = {}
    losses = [((x @ w - y[:, 0]) ** 2).mean() for w in path]
    for step in JUDGED:
        w, label = path[step], (("step", step),)
        slopes = 2 * (x @ w - y[:, 0])[:, None] * x
        mean = slopes.mean(0)
        seen = 2 * seen_x.T @ (seen_x @ w - seen_y[:, 0]) / RECORDED
        earlier = max(s for s in (0, 1, 2) if s <= step / 2)
        numbers = {
            "loss": losses[step],
            "noise_scale": slopes.var(0, ddof=1).sum() / (mean @ mean),
            "weight_norm": np.linalg.norm(w),
            "distance_from_start": np.linalg.norm(w),
            "gradient_norm": np.linalg.norm(seen),
            "sharpness": largest,
            "trace": float(np.trace(curvature)),
            "stability_limit": limit,
            "sharpness_over_limit": largest / limit,
            "learning_rate": RATE,
            "loss_change": losses[step] - losses[earlier],
            "batch_size": ROWS,
        }
        found |= {(name, label): float(value) for name, value in numbers.items()}
    return found
