"""How the cost of curvature grows with parameters and with data.

Four-layer ReLU networks on made-up rows, float32: CPU seconds of one thread for a gradient, for a
Hessian product whose graph is kept and one whose is not, for the five largest eigenvalues and for
the trace; the growth of each as a power of the parameters, and of the rows; the largest memory.

    OMP_NUM_THREADS=1 python benchmarks/curvature_cost.py [--widths 64 256 1024]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from whynet.concepts.curvature.spectra import spectrum
from whynet.concepts.curvature.traces import trace
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import gradient, hessian
from whynet.derivatives.subject_objective import objective_from, plan_for
from whynet.models.subject import Subject

INPUTS, CLASSES = 64, 10
NAMES = ("gradient", "product, kept", "product, not kept", "five largest", "trace, 30 products")


def subject_of(width: int, rows: int) -> Subject:
    """A network of 64-width-width-width-10 on rows that are drawn."""
    torch.manual_seed(0)
    sizes = (INPUTS, width, width, width)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Linear(width, CLASSES))
    data = torch.randn(rows, INPUTS), torch.arange(rows) % CLASSES
    return Subject(module, train=data, batch_size=256)


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """The least CPU seconds of a call."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)


def measured(width: int, rows: int) -> tuple[int, list[float]]:
    """Parameters, then seconds in the order of NAMES and the largest memory in GB."""
    subject = subject_of(width, rows)
    plan = plan_for(subject)
    assert isinstance(plan, Plan)
    objective = objective_from(subject)
    kept, anew = hessian(objective, plan), hessian(objective, plan, kept=0)
    vector = torch.randn(kept.size)
    kept.matvec(vector)
    times = [
        seconds(lambda: gradient(objective)),
        seconds(lambda: kept.matvec(vector)),
        seconds(lambda: anew.matvec(vector)),
        seconds(lambda: spectrum(subject, k=5, smallest=0), 1),
        seconds(lambda: trace(subject), 1),
    ]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return kept.size, [*times, memory]


def alone(width: int, rows: int) -> tuple[int, list[float]]:
    """The same in a process of its own, so that memory is its own."""
    command = [sys.executable, __file__, "--one", str(width), str(rows)]
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(words[0]), [float(word) for word in words[1:]]


def table(title: str, cases: Sequence[tuple[int, int]], by_rows: bool) -> None:
    """Print a line a case, and the slopes from the last two."""
    print(
        f"{title}\n{'parameters':>12} {'rows':>7} " + " ".join(f"{n:>18}" for n in NAMES) + "  GB"
    )
    lines = []
    for width, rows in cases:
        size, values = alone(width, rows)
        lines.append((rows, size, values))
        numbers = " ".join(f"{value:18.4f}" for value in values[:-1])
        print(f"{size:12,} {rows:7,} {numbers} {values[-1]:5.2f}", flush=True)
    (r0, p0, first), (r1, p1, last) = lines[-2:]
    grown = np.log(r1 / r0) if by_rows else np.log(p1 / p0)
    slopes = np.log(np.array(last[:-1]) / np.array(first[:-1])) / grown
    print(f"{'last power':>20} " + " ".join(f"{slope:18.2f}" for slope in slopes))


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--rows", nargs="+", type=int, default=[256, 1024, 4096])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.one:
        size, values = measured(*asked.one)
        print(size, *values)
        return 0
    table("512 rows, wider and wider", [(width, 512) for width in asked.widths], False)
    table("width 256, more and more rows", [(256, rows) for rows in asked.rows], True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
