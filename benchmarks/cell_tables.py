"""A table of a million cells, held in memory and written in pieces: seconds and peak memory.

The promise is that the same table is written within less memory than it has, part by part while the
plane is cut. Each row is a process of its own, the first of which imports and compiles alone.

    python benchmarks/cell_tables.py [--memory 64M]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import whynet
from whynet.core.budget import parse_bytes
from whynet.core.outcome import NotApplicable

sys.path.insert(0, str(Path(__file__).parent))
from plane_cells import network

SCALE = 0.31


def one(kind: str, memory: int) -> None:
    """Cut the plane in one way, and print cells, CPU seconds, seconds and the peak of memory."""
    torch.set_num_threads(1)
    small = whynet.regions.subdivide(network(2, 8, 1), whynet.regions.Plane.box(-1, 1))
    assert isinstance(small, whynet.regions.PlaneRegions)
    before = peak()
    module, plane = network(2, *[128] * 16, 1, std=2.0), whynet.regions.Plane.box(-SCALE, SCALE)
    count, table = 1, 0.0
    begun, busy = time.perf_counter(), time.process_time()
    if kind == "memory":
        held = whynet.regions.subdivide(module, plane, max_cells=4_000_000)
        assert isinstance(held, whynet.regions.PlaneRegions)
        assert held.complete
        count, table = (
            held.count,
            sum(a.nbytes for a in vars(held.cells).values() if isinstance(a, np.ndarray)),
        )
    elif kind == "pieces":
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "cells.zarr")
            written = whynet.regions.write_cells(module, plane, place, memory=memory)
            assert not isinstance(written, NotApplicable)
            assert written.complete
            count = written.count
            table = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    print(
        f"{kind}: {count:,} cells, {busy:.1f} CPU s, {seconds:.1f} s, table {table / 1e6:.0f} MB, "
        f"peak {peak():.2f} GB, of which {before:.2f} before"
    )


def peak() -> float:
    """Return the largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", default="64M", help="bound of the run in pieces")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, parse_bytes(arguments.memory))
        return 0
    for kind in ("memory", "pieces"):
        words = [sys.executable, __file__, "--one", kind, "--memory", arguments.memory]
        subprocess.run(words, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
