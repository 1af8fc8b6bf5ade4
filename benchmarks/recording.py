"""What recording costs: the time of a training run with a recorder over that without.

    OMP_NUM_THREADS=1 python benchmarks/recording.py [NAME ...]

The promise: with the default share of a fifth, a run of some seconds takes at most half as long
again (a fifth of the whole time, and the first and the last step, which are always measured). With
everything that is recorded by default, and without the trace of the Hessian. Seconds are those of
the processor; a measured step is what the last one took, after plans were made and code compiled.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

import whynet
from whynet.training.builtin import builtin_module
from whynet.training.recorded import MEASURED

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


def seconds(name: str, steps: int, make: Callable[..., Any] | None) -> tuple[float, int, float]:
    """Train, and return the time, how many steps were measured, and what the last of them took."""
    model, rows, labels, optimizer = setting(name)
    started = time.process_time()
    log = None if make is None else make(model, train=(rows, labels), optimizer=optimizer)
    for step in range(1, steps + 1):
        chosen = torch.randint(len(labels), (64,))
        loss = nn.functional.cross_entropy(model(rows[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if log is not None:
            log(step, {"loss": loss})
    before = time.process_time()
    points = 0 if log is None else len(log.trajectory().steps)
    now = time.process_time()
    return now - started, points, now - before


def main() -> int:
    torch.set_num_threads(1)
    broken = False
    print(
        "| network | steps | recorded | seconds without | with over without | steps measured | ms |"
    )
    print("|---|---|---|---|---|---|---|")
    names = sys.argv[1:] or list(STEPS)
    kinds = {"all": None, "without the trace": tuple(name for name in MEASURED if name != "trace")}
    for name in names:
        plain: list[float] = []
        found: dict[str, list[tuple[float, int, float]]] = {kind: [] for kind in kinds}
        for _ in range(REPEATS):  # interleaved
            plain.append(seconds(name, STEPS[name], None)[0])
            for kind, wanted in kinds.items():
                make = whynet.Recorder
                recorder = make if wanted is None else partial(make, quantities=wanted)
                found[kind].append(seconds(name, STEPS[name], recorder))
        for kind, runs in found.items():
            ratios = [run[0] / without for run, without in zip(runs, plain, strict=True)]
            middle = statistics.median(ratios)
            broken |= not math.isfinite(middle) or middle > PROMISE
            print(
                f"| {name} | {STEPS[name]:,} | {kind} | {statistics.median(plain):.1f} "
                f"| {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {runs[-1][1]} "
                f"| {1e3 * statistics.median(run[2] for run in runs):.0f} |"
            )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
