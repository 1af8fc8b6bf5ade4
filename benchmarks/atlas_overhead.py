"""What the atlas costs beside the experiment: per cell and per group, and 10,000 cells in all.

The claim is trivial: what is measured is the machinery. Promise: serial, 10,000 cells of groups
of 64 take at most a minute, journal, tables and view included.

With `growth`, larger and larger grids instead, each in a process of its own, and from the last two
what a cell costs in seconds, memory and bytes on disk, and what 10 million would.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from whynet.atlas.execution import Execution
from whynet.atlas.run import claim

GROUP, PROMISE = 64, 60.0
CLAIM = f'''"""Nothing to do."""

import numpy as np

from whynet.core.claim import Claim, Judgement, Parameter

CLAIM = Claim(
    title="Nothing",
    statement="0 = 0",
    kind="theorem",
    cites=(),
    answers=("capacity",),
    assumptions={{}},
    parameters=(Parameter("width", "int", "nothing", 1, 10000),),
    presets={{"small": {{"width": (1,), "seeds": (1,)}}}},
    controls=(),
    group={GROUP},
)


def predict(cells):
    return [{{"x": np.zeros(3)}} for cell in cells]


def experiment(cells):
    return [{{"x": np.zeros(3)}} for cell in cells]


def judge(measured, predicted):
    return Judgement("supported", "It is so.")


def draw(figure, measured, predicted):
    pass
'''


GROWTH = (10_000, 40_000, 160_000)
MANY = 10_000_000


def seconds(
    file: Path, cells: int, execution: Execution, sizes: dict[str, int] | None = None
) -> tuple[float, float, float]:
    """Run so many cells; returns seconds to the first group, between groups, and for the rest."""
    told: list[float] = []
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        record = claim(f"{file}:CLAIM").run(
            out=out,
            width=list(range(1, 101)),
            seeds=cells // 100,
            execution=execution,
            progress=lambda *words: told.append(time.perf_counter()),
        )
        ended = time.perf_counter()
        if sizes is not None:
            for path in Path(out).rglob("*"):
                kind = "journal" if "journal" in path.name else "tables and view"
                if path.is_file():
                    sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
        assert not record.failed and record.verdict.state == "supported"
    return told[1] - started, told[-1] - told[1], ended - told[-1]


def grown(cells: int) -> dict[str, float]:
    """Run so many cells in this process; returns seconds, bytes, and the peak of memory."""
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nothing.py"
        file.write_text(CLAIM)
        _, between, rest = seconds(file, cells, Execution(), sizes)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"groups, s": between, "tables, view and pages, s": rest, "memory": peak, **sizes}


def growth() -> int:
    rows: list[dict[str, float]] = []
    print("| cells | " + " | ".join(["groups, s", "rest, s", "peak, MB", "disk, MB"]) + " |")
    print("|---|---|---|---|---|")
    for cells in GROWTH:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(grown, (cells,))
        rows.append(row)
        disk = sum(row.get(k, 0) for k in ("journal", "tables and view"))
        print(
            f"| {cells:,} | {row['groups, s']:.1f} | {row['tables, view and pages, s']:.1f} "
            f"| {row['memory'] / 1e6:.0f} | {disk / 1e6:.1f} |",
            flush=True,
        )
    step = GROWTH[-1] - GROWTH[-2]
    each = {key: (rows[-1][key] - rows[-2][key]) / step for key in rows[-1]}
    print("\na cell more: " + json.dumps({k: float(f"{v:.3g}") for k, v in each.items()}))
    print(f"{MANY:,} cells: " + json.dumps({k: float(f"{MANY * v:.3g}") for k, v in each.items()}))
    return 0


def main() -> int:
    if sys.argv[1:] == ["growth"]:
        return growth()
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    groups = -(-cells // GROUP)
    print(f"{cells:,} cells in {groups:,} groups\n")
    print("| how | first group, s | groups, s | ms a group | ms a cell | tables and view, s |")
    print("|---|---|---|---|---|---|")
    total = 0.0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "nothing.py"
        file.write_text(CLAIM)
        ways: dict[str, Execution] = {"serial": Execution(), "pool of 2": Execution(workers=2)}
        try:
            ways["Dask, 2 workers"] = Execution(scheduler=local(stack, folder))
        except ImportError:
            print("(no Dask)")
        for name, execution in ways.items():
            first, between, rest = seconds(file, cells, execution)
            if not total:
                total = first + between + rest
            # Each group is predicted and run: two jobs and two transactions.
            print(
                f"| {name} | {first:.1f} | {between:.1f} | {1e3 * between / (groups - 1):.1f} "
                f"| {1e3 * between / cells:.2f} | {rest:.1f} |"
            )
    return int(total > PROMISE)


def local(stack: ExitStack, folder: str) -> str:
    import distributed

    cluster: Any = stack.enter_context(
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None,
            local_directory=folder,
        )
    )  # fmt: skip
    return str(cluster.scheduler_address)


if __name__ == "__main__":
    sys.exit(main())
