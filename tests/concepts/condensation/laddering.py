"""Families whose weights move by known powers of the width, and their measurement."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from whynet.concepts.condensation.theory.phase_boundary import scales
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.models.families import mlp
from whynet.models.retraining import Trainer
from whynet.models.subject import Subject

X = torch.tensor([[-1.0, 1.0], [-0.4, 1.0], [0.3, 1.0], [1.0, 1.0]])
Y = torch.tensor([[0.6], [-0.4], [0.5], [-0.3]])
UNITS, FITTED, MOST_STEPS = 200, 1e-4, 5000


def family(gamma: float, gamma_prime: float, dtype: torch.dtype) -> Callable[..., nn.Module]:
    """Two layers of rectified units whose starting deviations are powers of the width."""

    def build(width_factor: float = 1.0) -> nn.Module:
        units = round(UNITS * width_factor)
        outer, inner = scales(gamma, gamma_prime, units)
        module = nn.Sequential(nn.Linear(2, units, False), nn.ReLU(), nn.Linear(units, 1, False))
        first, last = module.parameters()
        nn.init.normal_(first, std=inner)
        nn.init.normal_(last, std=outer)
        return module.to(dtype)

    return build


def flow(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Descend until the data are fitted, gradients written out, in steps that never overshoot."""
    w, a = (p.detach().double().numpy() for p in model.parameters())
    x, y = inputs.double().numpy(), targets.double().numpy()[:, 0]
    squares = (x**2).sum(1)
    for _ in range(MOST_STEPS):
        active = x @ w.T > 0
        hidden = (x @ w.T) * active
        gap = hidden @ a[0] - y
        if (gap**2).mean() < FITTED:
            break
        trace = (hidden**2).sum() + ((active * a**2).sum(1) * squares).sum()
        step = 0.9 / trace
        a, w = a - step * gap @ hidden, w - step * (gap[:, None] * active * a).T @ x
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (w, a), strict=True):
            parameter.copy_(torch.as_tensor(value))


def subject_of(
    build: Callable[..., nn.Module],
    train: Callable[..., None],
    dtype: torch.dtype = torch.float64,
    data: tuple[Tensor, Tensor] = (X, Y),
    **changes: object,
) -> Subject:
    with torch.random.fork_rng(devices=[]):
        module = build()
    options = {"loss": "mse", "trainer": Trainer(build, train), **changes}
    rows = data[0].to(dtype), data[1].to(dtype) if data[1].is_floating_point() else data[1]
    return Subject(module, train=rows, dtype=dtype, **options)  # type: ignore[arg-type]


def measured(subject: Subject, rounds: int = 1, **options: object) -> Measurement:
    found = measure("weight-change", subject, rounds=rounds, options=options)
    assert isinstance(found, Measurement)
    return found


@cache
def phase(gamma: float, dtype: torch.dtype) -> tuple[Subject, Measurement]:
    subject = subject_of(family(gamma, 0.0, dtype), flow, dtype)
    return subject, measured(subject, 2, widths=(0.25, 1, 4), scales=(1,))


def descend(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def parity() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Signs of a product of two of ten entries: lazy networks need more rows than there are."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(2, (400, 10), generator=generator) * 2.0 - 1
    y = (x[:, 0] * x[:, 1]).gt(0).long()
    return (x[:40], y[:40]), (x[120:], y[120:])


def wide(width_factor: float = 1.0) -> nn.Module:
    return mlp.build(10, (round(64 * width_factor),), 2)


@cache
def parities() -> tuple[Subject, Measurement]:
    train, test = parity()
    subject = subject_of(wide, descend, torch.float32, train, test=test, loss="cross_entropy")
    return subject, measured(subject, widths=(1,), scales=(0.125, 4))
