"""What the store of the atlas costs: time a cell and a group, bytes a cell, and 10,000 cells.

A cell here has 5 arrays of 40 numbers in all. Prints a table; promises nothing, so it cannot fail.
Beside the store stands a plain append with `fdatasync`, what the disk itself takes a commit.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from whynet.atlas.journal import JOURNAL, Identity, Journal, Record
from whynet.atlas.pack import pack, read_view
from whynet.atlas.tables import table_of
from whynet.core.claim import Grid

CELLS, REPEATS = 10_000, 5
IDENTITY = Identity("benchmark", 1)


def records(keys: list[str], seed: int = 0) -> list[Record]:
    draw = np.random.default_rng(seed)
    return [
        Record(
            key,
            "done",
            {
                "loss": draw.normal(size=32),
                "drift": draw.normal(size=5),
                "steps": draw.integers(0, 1000, ()),
                "reached": draw.random() < 0.5,
                "slope": draw.normal(size=()),
            },
            group="a" * 16,
            seconds=1.0,
        )
        for key in keys
    ]


def predictions(keys: list[str]) -> list[Record]:
    return [Record(key, "done", {"limit": np.zeros(()), "slope": np.ones(5)}) for key in keys]


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def commits(folder: Path, group: int, count: int) -> list[float]:
    keys = [f"cell {number}" for number in range(group * count)]
    made = records(keys)
    with Journal.open(folder, IDENTITY) as journal:
        journal.predict(predictions(keys))
        return [
            seconds(lambda start=start: journal.commit(made[start : start + group]))  # type: ignore[misc]
            for start in range(0, len(keys), group)
        ]


def appends(folder: Path, count: int) -> list[float]:
    with (folder / "plain").open("wb", buffering=0) as stream:

        def append() -> None:
            stream.write(bytes(16_384))
            os.fdatasync(stream.fileno())

        return [seconds(append) for _ in range(count)]


def spread(values: list[float], unit: float = 1.0) -> str:
    middle = statistics.median(values) * unit
    return f"{middle:.3g} [{min(values) * unit:.3g}, {max(values) * unit:.3g}]"


def whole(folder: Path, count: int) -> dict[str, float]:
    """Return seconds of each step of a run of so many cells in groups of 64."""
    grid = Grid("benchmark", 1, {"width": (10, 20, 40, 80, 160), "rate": (0.1, 0.2)}, count // 10)
    keys = [cell.key for cell in grid.cells()]
    made, before = records(keys), predictions(keys)
    taken = {}
    with Journal.open(folder, IDENTITY) as journal:
        taken["predict"] = seconds(lambda: journal.predict(before))

        def write() -> None:
            for start in range(0, len(keys), 64):
                journal.commit(made[start : start + 64])

        taken["write"] = seconds(write)
    taken["bytes"] = (folder / JOURNAL).stat().st_size / len(keys)
    taken["open"] = seconds(lambda: Journal.open(folder, IDENTITY).close())
    with Journal.open(folder, IDENTITY) as journal:
        taken["finished"] = seconds(journal.finished)
        taken["read"] = seconds(lambda: journal.read(keys))
        taken["check"] = seconds(journal.check)
        values = {key: record.values for key, record in journal.read(keys).items()}
        limits = journal.predictions(keys)
        tables = (table_of(grid, values, {}), table_of(grid, limits, {}))
        taken["tables"] = seconds(lambda: table_of(grid, values, {}))
        taken["pack"] = seconds(lambda: pack(journal, folder, {"claim": tables}))
        taken["read view"] = seconds(lambda: read_view(folder / "results.zarr"))
    view = [path for path in (folder / "results.zarr").rglob("*") if path.is_file()]
    taken["view bytes"] = sum(path.stat().st_size for path in view) / len(keys)
    return taken


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CELLS
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        print("| what | milliseconds, median and range |\n|---|---|")
        print(f"| plain append of 16 KiB and fdatasync | {spread(appends(top, 200), 1e3)} |")
        for group in (1, 16, 64):
            times = commits(top / f"group-{group}", group, 100)
            print(f"| commit of a group of {group} | {spread(times, 1e3)} |")
            print(f"| of it per cell | {spread(times, 1e3 / group)} |")
        runs = [whole(top / f"whole-{number}", count) for number in range(REPEATS)]
    print(f"\n| {count:,} cells in groups of 64 | median and range of {REPEATS} |\n|---|---|")
    for step in runs[0]:
        unit = " a cell" if "bytes" in step else ", seconds"
        print(f"| {step}{unit} | {spread([run[step] for run in runs])} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
