"""The memory of a Hessian product is bounded by the batch size, not by the amount of data.

Each size runs in a process of its own, which reports by how much its peak resident memory rose
above what it held once network and data were there. Promise: 8 times the rows need at most 1.5
times the increment.

    python benchmarks/memory.py [--rows 16384] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

FACTOR, PROMISE = 8, 1.5
FEATURES, WIDTH, CLASSES, BATCH = 64, 1024, 10, 512


def peak() -> int:
    """Return the peak resident memory of this process, in bytes (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def increment(rows: int) -> dict[str, float]:
    """Run two Hessian products on so many rows; return the rise of the peak, in MiB."""
    import torch

    from whynet.core.outcome import NotApplicable
    from whynet.derivatives.products import hessian
    from whynet.derivatives.subject_objective import objective_from, plan_for
    from whynet.models.families import mlp
    from whynet.models.subject import Subject

    torch.manual_seed(0)
    data = torch.randn(rows, FEATURES), torch.randint(CLASSES, (rows,))
    subject = Subject(mlp.build(FEATURES, (WIDTH, WIDTH), CLASSES), train=data, batch_size=BATCH)
    plan = plan_for(subject)
    if isinstance(plan, NotApplicable):
        raise SystemExit(plan.reason)
    operator = hessian(objective_from(subject), plan, kept=1)
    vector = torch.randn(operator.size)
    before = peak()
    for _ in range(2):
        operator.matvec(vector)
    return {"held": before / 2**20, "increment": (peak() - before) / 2**20}


def in_process(rows: int) -> dict[str, float]:
    """Run one size in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--inside", str(rows)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    """Print both increments and their ratio; returns 1 where it breaks the promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        print(json.dumps(increment(asked.inside)))
        return 0
    few, many = [], []
    for _ in range(asked.repeats):
        few.append(in_process(asked.rows)["increment"])
        many.append(in_process(FACTOR * asked.rows)["increment"])
    ratios = [big / small for big, small in zip(many, few, strict=True)]
    middle = statistics.median(ratios)
    for rows, found in ((asked.rows, few), (FACTOR * asked.rows, many)):
        print(
            f"{rows:8,d} rows: {statistics.median(found):.0f} MiB above the start "
            f"({min(found):.0f} to {max(found):.0f} over {len(found)} repeats)"
        )
    print(f"ratio {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return 0 if middle <= PROMISE else 1


if __name__ == "__main__":
    raise SystemExit(main())
