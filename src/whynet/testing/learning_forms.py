"""Training functions whose test error is known for every number of rows, steps and every width."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.seeds import seed_from
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key
from whynet.testing.label_forms import logistic_labels

OUTPUTS, ROWS, TESTED, POPULATION = 8, 160, 300, 2001
STEPS, RATE, WIDTH = 40, 0.02, 16
START, JITTER = 0.5, 0.8
"""Standard deviations of the initial bias, and of the jitter of a network of width one."""

Log = Callable[[int, dict[str, Any]], None]


class ShrunkenMean(nn.Module):
    """Answers every input by one bias that is trained and a jitter that is not."""

    def __init__(self, width: float = WIDTH) -> None:
        super().__init__()
        self.bias = nn.Parameter(START * torch.randn(OUTPUTS))
        self.jitter = nn.Parameter(JITTER * torch.randn(OUTPUTS) / width**0.5, requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the same outputs for every row."""
        return (self.bias + self.jitter) + 0 * inputs[:, :1]


def build(width_factor: float = 1.0) -> nn.Module:
    """Build it; the jitter falls with the root of the width, and averages nothing else."""
    return ShrunkenMean(WIDTH * width_factor)


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    steps_factor: float = 1.0,
    learning_rate_factor: float = 1.0,
    log: Log | None = None,
) -> None:
    """Descend half the squared distance from bias to the mean target, step by step."""
    assert isinstance(model, ShrunkenMean)
    goal, rate = targets.mean(0), RATE * learning_rate_factor
    with torch.no_grad():
        for step in range(1, round(STEPS * steps_factor) + 1):
            if log is not None:
                log(step, {"loss": float(((model.bias - goal) ** 2).sum())})
            model.bias.add_(rate * (goal - model.bias))


@dataclass(frozen=True)
class Curve:
    """The expected scores of `ShrunkenMean`, over seeds, parts of the training rows and tests.

    Attributes:
        train: `[rows, outputs]`, all training targets.
        test: `[population, outputs]`, what test targets are drawn from.

    """

    train: np.ndarray
    test: np.ndarray

    def loss(
        self, rows: float = 1.0, width: float = 1.0, steps: float = 1.0, rate: float = 1.0
    ) -> float:
        """Return the expected squared error at factors on rows, width, steps and step size.

        With m of N rows without replacement the mean varies by S²/m (1 - m/N); of the initial
        bias a share q = (1 - rate)^steps is left.
        """
        left = (1 - RATE * rate) ** round(STEPS * steps)
        count = round(rows * ROWS)
        drawn = self.train.var(0, ddof=1).mean() / count * (1 - count / ROWS)
        missed = ((self.test - (1 - left) * self.train.mean(0)) ** 2).mean()
        jitter = JITTER**2 / (WIDTH * width)
        return float(missed + (1 - left) ** 2 * drawn + left**2 * START**2 + jitter)

    def error(self, **factors: float) -> float:
        """Return 1 - R² instead."""
        return self.loss(**factors) / float(self.test.var(0).mean())


def curve() -> Curve:
    """Return the targets, rounded to float32: noisy ones to train on, nearly clean ones to test."""
    random = np.random.default_rng(seed_from("shrunken-mean"))
    center = random.standard_normal(OUTPUTS)
    noisy = center + 2 * random.standard_normal((ROWS, OUTPUTS))
    clean = center + 0.5 * random.standard_normal((POPULATION, OUTPUTS))
    return Curve(*(part.astype(np.float32).astype(float) for part in (noisy, clean)))


def trained_again(dtype: torch.dtype, draw: int, rows: int = TESTED) -> Subject:
    """Return one network with its training function; test rows, seeds and parts go by the draw."""
    known = curve()
    random = np.random.default_rng(seed_from("shrunken-mean", draw))
    train_y = torch.tensor(known.train[random.permutation(ROWS)], dtype=dtype)
    test_y = torch.tensor(known.test[random.integers(POPULATION, size=rows)], dtype=dtype)
    module = ShrunkenMean()
    with torch.no_grad():
        module.bias.copy_(torch.tensor(known.train.mean(0)))
        module.jitter.zero_()
    return Subject(
        module,
        train=(torch.zeros(ROWS, 1, dtype=dtype), train_y),
        test=(torch.zeros(rows, 1, dtype=dtype), test_y),
        loss="mse",
        dtype=dtype,
        name="shrunken mean",
        trainer=Trainer(build, train, label=("shrunken-mean", str(draw))),
    )


def shrunken_mean() -> ClosedForm:
    """The rows of each part, and the error of the network as it is."""
    known = curve()
    bias = known.train.mean(0).astype(np.float32).astype(float)
    own = float(((known.test - bias) ** 2).mean() / known.test.var(0).mean())
    truth: dict[Key, float] = {("own_error", ()): own}
    for share in (0.125, 0.25, 0.5, 1.0):
        truth[("rows", (("factor", share),))] = share * ROWS
    return ClosedForm(trained_again, {"learning-curve": truth}, over_examples=True)


def logistic_labels_changed() -> ClosedForm:
    """`logistic-labels`, whose logits a temperature mends by an amount that is known."""
    form = logistic_labels()

    def of_draw(instrument: str, draw: int) -> dict[Key, float]:
        saved = form.of_draw("calibration", draw)[("loss_saved", ())]
        return {("loss_change", (("change", "temperature"),)): -saved}

    return dataclasses.replace(form, truth={"interventions": {}}, of_draw=of_draw)
