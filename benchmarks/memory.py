"""The memory of a Hessian product is bounded by the batch size, not by the amount of data.

Each size runs in a process of its own, which reports by how much its peak resident memory rose
above what it held once network and data were there (Linux: the peak is reset before the product).
Promise: 8 times the rows need at most 1.5 times the increment.

    python benchmarks/memory.py [--rows 2048] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

FACTOR, PROMISE = 8, 1.5
FEATURES, WIDTH, CLASSES, BATCH = 64, 2048, 10, 256


def memory(name: str) -> float:
    """Return a figure of this process in MiB: `VmRSS` for now, `VmHWM` for the peak."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("this benchmark reads /proc, which only Linux has")
    return int(found[1]) / 1024


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
    subject = Subject(mlp.build(FEATURES, (WIDTH,), CLASSES), train=data, batch_size=BATCH)
    plan = plan_for(subject)
    if isinstance(plan, NotApplicable):
        raise SystemExit(plan.reason)
    operator = hessian(objective_from(subject), plan, kept=1)
    vector = torch.randn(operator.size)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory("VmRSS")
    for _ in range(2):
        operator.matvec(vector)
    return {"held": before, "increment": memory("VmHWM") - before}


def in_process(rows: int) -> dict[str, float]:
    """Run one size in a fresh process."""
    # Freed blocks go back to the system at once, so that what came before the product hides none
    # of its memory.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run(
        [sys.executable, __file__, "--inside", str(rows)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    """Print both increments and their ratio; returns 1 where it breaks the promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2048)
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
