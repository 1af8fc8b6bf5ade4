"""Products with the Hessian and the Gauss-Newton matrix, in gradients of the same loss.

Promises: a Hessian product at most 1.9 gradients where the first-order graph is kept and 2.6 where
not, a Gauss-Newton product at most 2, a block of eight vectors at most 1.3 a column. A gradient is
PyTorch's on batches of 512 rows that lie in memory. CPU seconds of one thread, interleaved; the
peers, in a Python of their own, are measured in the same run against a gradient of their own.

    MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=2000000000 OMP_NUM_THREADS=1 \\
        python benchmarks/curvature_products.py [--repeats 9] [--peer PYTHON] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

from curvature_networks import cpu_seconds, networks, plain_gradient
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import gauss_newton, hessian
from whynet.derivatives.subject_objective import objective_from, plan_for
from whynet.models.subject import Subject

ROWS = 512
PROMISES = {
    "Hessian, kept": 1.9,
    "Hessian, not kept": 2.6,
    "Gauss-Newton, kept": 2.0,
    "Gauss-Newton, not kept": 2.0,
    "Hessian, block of 8": 1.3,
    "Gauss-Newton, block of 8": 1.3,
}


def main() -> int:
    """Print a line a product; returns 1 where a median breaks its promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--peer", help="a Python with curvlinops and hessian-eigenthings")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    holds = True
    for name, module, data in networks():
        if asked.names and name not in asked.names:
            continue
        subject = Subject(module, train=data, batch_size=ROWS)
        plan = plan_for(subject)
        assert isinstance(plan, Plan)
        objective = objective_from(subject)
        size = sum(p.numel() for p in module.parameters())
        vector, block = torch.randn(size), torch.randn(size, 8)
        calls = {"gradient": plain_gradient(module, data, ROWS)}
        for words, make in (("Hessian", hessian), ("Gauss-Newton", gauss_newton)):
            kept, anew = make(objective, plan, kept=99), make(objective, plan, kept=0)
            calls[f"{words}, kept"] = partial(kept.matvec, vector)
            calls[f"{words}, not kept"] = partial(anew.matvec, vector)
            calls[f"{words}, block of 8"] = partial(kept.matmat, block)
        found = cpu_seconds(calls, asked.repeats)
        gradient = found.pop("gradient")
        print(f"{name}: {size:,} parameters, gradient {1e3 * min(gradient):.1f} ms")
        for words, promise in PROMISES.items():
            per = 8 if "block" in words else 1
            ratios = [a / b / per for a, b in zip(found[words], gradient, strict=True)]
            middle = statistics.median(ratios)
            holds &= middle <= promise
            print(
                f"  {words:26s} {middle:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
                f"{'' if middle <= promise else f'   above {promise}'}"
            )
        if asked.peer:
            here = Path(__file__).parent
            command = [asked.peer, here / "curvature_peers.py", name, str(asked.repeats)]
            path = os.pathsep.join([str(here), str(here.parent / "src")])
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
