"""What threads bring: the time of a gradient with all threads over the time with one.

The promise: where whynet takes one thread, all of them would not be twice as fast; where it takes
all, one would not be twice as fast. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn

from whynet.derivatives.products import gradient
from whynet.derivatives.subject_objective import objective_from
from whynet.models.subject import Subject
from whynet.models.threads import advised_threads, threads
from whynet.training.builtin import builtin_module

REPEATS, PROMISE = 5, 2.0


def builtin(name: str) -> Subject:
    module = builtin_module(name)
    train, _ = module.data()
    return Subject(module.build(), train=train, loss=module.SUBJECT.loss, name=name)


def wide(width: int) -> Subject:
    network = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1024, 64, generator=generator)
    return Subject(
        network, train=(inputs, (inputs[:, 0] > 0).long()), name=f"64–{width}–10 ReLU network"
    )


def seconds(subject: Subject, count: int) -> float:
    objective = objective_from(subject)
    with threads(count):
        gradient(objective)
        started = time.perf_counter()
        calls = 0
        while time.perf_counter() - started < 0.3:
            gradient(objective)
            calls += 1
        return (time.perf_counter() - started) / calls


def main() -> int:
    most = torch.get_num_threads()
    broken = False
    print(f"| network | threads taken | gradient with {most} threads over one |\n|---|---|---|")
    subjects = [builtin(name) for name in ("digits-mlp", "digits-cnn", "digits-transformer")]
    for subject in [*subjects, *(wide(width) for width in (512, 4096, 16384))]:
        taken = advised_threads(subject)
        ratios = [seconds(subject, most) / seconds(subject, 1) for _ in range(REPEATS)]
        middle = statistics.median(ratios)
        kept = middle > 1 / PROMISE if taken == 1 else middle < PROMISE
        broken |= not kept
        mark = "" if kept else " **broken**"
        print(
            f"| {subject.name} | {taken} | {middle:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
            f"{mark} |"
        )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
