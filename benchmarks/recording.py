"""What recording costs: the time of a training run with a recorder over that without.

The promise: with the default share of a fifth, a run of some seconds takes at most half as long
again (a fifth of the whole time, and the first and the last step, which are always measured).
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import whynet
from whynet.training.builtin import builtin_module

REPEATS, PROMISE = 3, 1.5
STEPS = {"digits-mlp": 10_000, "digits-cnn": 2_000, "digits-transformer": 1_500}


def setting(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.optim.Optimizer]:
    module = builtin_module(name)
    (inputs, targets), _ = module.data()
    torch.manual_seed(0)
    model = module.build().train()
    rows, labels = torch.as_tensor(inputs), torch.as_tensor(targets)
    if name == "digits-transformer":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return model, rows, labels, optimizer


def seconds(name: str, steps: int, make: Callable[..., Any] | None) -> tuple[float, int]:
    """Train, and return the time and how many steps were measured."""
    model, rows, labels, optimizer = setting(name)
    started = time.perf_counter()
    log = None if make is None else make(model, train=(rows, labels), optimizer=optimizer)
    for step in range(1, steps + 1):
        chosen = torch.randint(len(labels), (64,))
        loss = nn.functional.cross_entropy(model(rows[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if log is not None:
            log(step, {"loss": loss})
    points = 0 if log is None else len(log.trajectory().steps)
    return time.perf_counter() - started, points


def main() -> int:
    torch.set_num_threads(1)
    broken = False
    print("| network | steps | seconds without | with over without | steps measured |")
    print("|---|---|---|---|---|")
    names = sys.argv[1:] or list(STEPS)
    for name in names:
        plain, ratios, points = [], [], 0
        for _ in range(REPEATS):  # interleaved
            without, _ = seconds(name, STEPS[name], None)
            recorded, points = seconds(name, STEPS[name], whynet.Recorder)
            plain.append(without)
            ratios.append(recorded / without)
        middle = statistics.median(ratios)
        broken |= not math.isfinite(middle) or middle > PROMISE
        print(
            f"| {name} | {STEPS[name]:,} | {statistics.median(plain):.1f} | {middle:.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {points} |"
        )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
