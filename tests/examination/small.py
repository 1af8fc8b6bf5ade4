"""A tiny subject for the examination's own tests, and instruments that only count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn

from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject


@cache
def small_subject() -> Subject:
    """A 4–8–3 network after a few steps, 72 training and 60 test rows, initial weights known."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(132, 4, generator=generator)
    y = (x[:, :3] + 0.5 * torch.randn(132, 3, generator=generator)).argmax(1)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    start = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[:72]), y[:72]).backward()
        optimizer.step()
    return Subject(network, train=(x[:72], y[:72]), test=(x[72:], y[72:]), initial=start)


class Clock:
    """A clock that only instruments move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Counting:
    """An instrument whose round takes a set time and whose value is a function of the rounds."""

    clock: Clock
    cost: float
    most: int = 50
    value: Callable[[int], float] = float
    log: list[tuple[str, int]] = field(default_factory=list)
    name: str = ""
    fails_at: int = 0
    INSTRUMENT: Any = None

    def __post_init__(self) -> None:
        self.INSTRUMENT = Instrument(
            title="", unit="", needs=(), cost="", cites=(), closed_form="", rounds=self.most
        )

    def start(self, subject: Any, seed: int) -> Any:
        return NotApplicable("no.") if self.cost < 0 else 0

    def advance(self, state: int) -> int:
        self.clock.now += self.cost
        if state + 1 == self.fails_at:
            raise ArithmeticError("at this round")
        self.log.append((self.name, state + 1))
        return state + 1

    def read(self, state: int) -> Measurement:
        return Measurement.of({"rounds": Quantity(self.value(state))})
