"""One step of gradient descent on two linear layers: every power of the width is known."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor, nn

from whynet.core.seeds import seed_from
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

UNITS, FEATURES, TARGET = 8, 2, 3.0
BEST = 2**1.5
"""Factor on the step size that fits the target at the width 1."""

NOISE = 0.15
"""Of log2 of the step size, of every seed and width on its own."""


def build(width_factor: float = 1.0) -> nn.Module:
    """Return v·(W x) with v of norm 1, so that outputs have one distribution at all widths."""
    units = round(UNITS * width_factor)
    first, last = nn.Linear(FEATURES, units, bias=False), nn.Linear(units, 1, bias=False)
    with torch.no_grad():
        nn.init.normal_(first.weight, std=1 / math.sqrt(FEATURES))
        last.weight.copy_(torch.randint(2, (1, units)) * 2.0 - 1).div_(math.sqrt(units))
    return nn.Sequential(first, last)


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    seed: int,
    learning_rate_factor: float = 1.0,
    steps_factor: float = 1.0,
) -> None:
    """Take one step on the first layer, of a size that is proportional to the width."""
    first, last = model.parameters()
    units = len(first)
    noise = np.random.default_rng(seed_from("one-step-widths", seed, units)).standard_normal()
    step = learning_rate_factor * units / UNITS * 2 ** (NOISE * float(noise)) / (2 * BEST)
    with torch.no_grad():
        gap = (model(inputs) - targets).mean()
        first.sub_(step * 2 * gap * last.T * inputs.mean(0))


def one_step_widths() -> ClosedForm:
    """On one input x of norm 1 with target y, a step η moves W x by 2η(y − f)v and f by 2η(y − f).

    With η proportional to the width n and v² = 1/n, root mean square changes grow as n^½ and n,
    and the best step size falls as 1/n; log|f − y| and the noise have one distribution at every
    width, so that least-squares slopes have these means exactly.
    """
    x = torch.tensor([[0.6, 0.8]]).repeat(4, 1)
    y = torch.full((4, 1), TARGET)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_from("one-step-widths", draw))
            module = build()
        return Subject(
            module, train=(x, y), test=(x, y), loss="mse", dtype=dtype, name="one step",
            trainer=Trainer(build, train, label=("one-step-widths",)),
        )  # fmt: skip

    truth: dict[Key, float] = {
        ("slope", (("layer", "0"),)): 0.5,
        ("slope", (("layer", "1"),)): 1.0,
        ("rate_slope", ()): -1.0,
    }
    truth |= {
        ("parameters", (("width", factor),)): UNITS * factor * (FEATURES + 1)
        for factor in (0.5, 1.0, 2.0, 4.0)
    }
    return ClosedForm(subject, {"coordinate-check": truth}, over_examples=False)


SCALES = (0.25, 1.0, 4.0)
WIDER = 4
"""Factor on the units of this form, so that logarithms of lengths are close to normal."""


def build_wider(width_factor: float = 1.0) -> nn.Module:
    """Return the same network with more units."""
    return build(WIDER * width_factor)


def step_once(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Take one step of gradient descent on the first layer, of one size at all widths."""
    first, last = model.parameters()
    with torch.no_grad():
        gap = (model(inputs) - targets).mean()
        first.sub_(0.1 * gap * last.T * inputs.mean(0))


def one_step_starts() -> ClosedForm:
    """On one input x of norm 1 a step moves W by a multiple of v xᵀ, of norm 1 before scaling.

    Its length has one distribution at all widths n, and W is a Gaussian vector of 2n entries: the
    mean logarithm of its length is that of a constant plus ψ(n)/2, and of the sine of its angle
    to v xᵀ (ψ(n - 1/2) - ψ(n))/2, since the cosine's square is Beta(1/2, n - 1/2). Least-squares
    slopes in the width therefore have known means, the same for every scale of the start.
    """
    x = torch.tensor([[0.6, 0.8]]).repeat(4, 1)
    y = torch.full((4, 1), TARGET)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_from("one-step-starts", draw))
            module = build_wider()
        return Subject(
            module, train=(x, y), loss="mse", dtype=dtype, name="one step",
            trainer=Trainer(build_wider, step_once, label=("one-step-starts",)),
        )  # fmt: skip

    units = WIDER * UNITS * np.array([0.5, 1.0, 2.0])
    means = (digamma(units - 0.5) / 2 - digamma(units)) / math.log(2)
    law = float(np.polyfit(np.log2(units), means, 1)[0])
    truth: dict[Key, float] = {("furthest_slope", (("scale", c),)): law for c in SCALES}
    truth |= {("slope", (("layer", "0"), ("scale", c))): law for c in SCALES}
    truth |= {
        ("parameters", (("width", factor),)): WIDER * UNITS * factor * (FEATURES + 1)
        for factor in (0.5, 1.0, 2.0)
    }
    return ClosedForm(subject, {"weight-change": truth}, over_examples=False)
