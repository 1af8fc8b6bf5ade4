"""Networks put together at random keep their function under exact moves, in any order."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from tests.concepts.condensation.test_exact_moves import apart, around
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.condensation.exact_reduction import MOVES, reduce_exactly
from whynet.concepts.condensation.workplace import ROUND_OFF, Workplace
from whynet.models.free_widths import free_widths

ACTIVATIONS = (torch.relu, torch.tanh, torch.sigmoid, functional.leaky_relu, functional.gelu)


class Random(nn.Module):
    """Up to eight steps, each of a value before; the last three are read together."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.steps: list[tuple[str, int, int]] = []
        draw, widths = random.Random(seed), [4]
        for _ in range(draw.randint(3, 8)):
            name = draw.choice(("layer", "layer", *KINDS))
            first, second = draw.randrange(len(widths)), draw.randrange(len(widths))
            width = widths[first]
            if name == "layer":
                width, second = draw.choice((4, 6, 8)), len(self.layers)
                self.layers.append(_repeated(widths[first], width, draw))
            elif name == "normalize":
                second = len(self.layers)
                self.layers.append(_normalization(width))
            elif name == "join":
                width += widths[second]
            elif name == "slice":
                width = second = draw.randint(1, width)
            elif name == "add" and width != widths[second]:
                continue
            elif name in ("gate", "halves"):
                if width % 2:
                    continue
                width //= 2 if name == "gate" else 1
            self.steps.append((name, first, second))
            widths.append(width)
        self.layers.append(nn.Linear(sum(widths[-3:]), 3))

    def forward(self, inputs: Tensor) -> Tensor:
        values = [inputs]
        for name, first, second in self.steps:
            value = values[first]
            half = value.shape[1] // 2
            if name in ("layer", "normalize"):
                made = self.layers[second](value)
            elif name == "activate":
                made = ACTIVATIONS[second % len(ACTIVATIONS)](value)
            elif name == "join":
                made = torch.cat([value, values[second]], 1)
            elif name == "add":
                made = value + values[second]
            elif name == "shift":
                made = 2 * value + 1
            elif name == "slice":
                made = value[:, :second]
            elif name == "gate":
                made = ACTIVATIONS[second % len(ACTIVATIONS)](value[:, :half]) * value[:, half:]
            else:
                made = torch.cat([value[:, half:], torch.relu(value[:, :half])], 1)
            values.append(made)
        return self.layers[-1](torch.cat(values[-3:], 1))  # type: ignore[no-any-return]


KINDS = ("activate", "join", "add", "shift", "slice", "gate", "halves", "normalize")


def _repeated(inputs: int, outputs: int, draw: random.Random) -> nn.Linear:
    """Return a layer whose second half are multiples of the first, with constant units."""
    layer, half = nn.Linear(inputs, outputs), outputs // 2
    with torch.no_grad():
        for unit in range(half if draw.random() < 0.8 else 0):
            for tensor in (layer.weight, layer.bias):
                tensor[half + unit] = draw.choice((1.0, 2.0, -1.0, 0.5)) * tensor[unit]
        if draw.random() < 0.3:
            layer.weight[0] = 0
    return layer


def _normalization(width: int) -> nn.Module:
    module = nn.BatchNorm1d(width)
    module.running_mean.normal_()
    module.running_var.uniform_(0.5, 2)
    return module


def holds(seed: int) -> int:
    """Check one network, as it is and traced; returns how many units went."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Random(seed).double().eval()
        inputs = torch.randn(6, 4, dtype=torch.float64)
    order = list(MOVES)
    random.Random(seed).shuffle(order)
    removed = 0
    with torch.no_grad():
        for trace in (False, True):
            found = free_widths(module, lambda net: net(inputs[:2]), inputs[:2], trace=trace)
            small = copy.deepcopy(found.module)
            run = lambda: small(inputs[:2])  # noqa: B023, E731
            place = Workplace(small, run, ROUND_OFF[torch.float64], found.fixed)
            moves, _ = reduce_exactly(place, order)
            removed += sum(move.removed for move in moves)
            assert apart(module, small, around(inputs)) < 1e-11
    return removed


def test_some_random_networks_keep_their_function() -> None:
    assert sum(holds(seed) for seed in range(8)) > 0


@pytest.mark.endurance
def test_many_random_networks_keep_their_function() -> None:
    assert sum(holds(seed) for seed in range(8, 1000)) > 500
