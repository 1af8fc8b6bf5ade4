"""kill -9 at any moment: every committed cell stands, and the end is the same to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from tests.atlas.storing import GRID, IDENTITY, fill, measured, never_wrong, predicted
from tests.atlas.writer import MANY, resume

from whynet.atlas.journal import Journal
from whynet.atlas.pack import read_view
from whynet.atlas.tables import table_of

ROOT = Path(__file__).parents[2]
RUNS = {**os.environ, "PYTHONPATH": str(ROOT)}
WRITES = [sys.executable, "-m", "tests.atlas.writer"]
PACKS = """
import sys
from pathlib import Path
from tests.atlas.test_kills import views
from whynet.atlas.journal import Journal
from whynet.atlas.pack import pack
from tests.atlas.storing import IDENTITY
folder = Path(sys.argv[1])
both = views()
with Journal.open(folder, IDENTITY) as journal:
    print("ready", flush=True)
    for step in range(10**6):
        pack(journal, folder, both[step % 2])
"""


def killed(words: list[str], after: float) -> list[str]:
    """Run a process, kill it so many seconds after it is ready, and return what it said."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=RUNS) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read()
        return said[: said.rfind("\n") + 1].splitlines()


def many_kills(folder: Path, count: int, seed: int) -> None:
    clean = resume(folder / "clean", 40)
    started = time.monotonic()
    assert resume(folder / "timed") == clean
    whole = time.monotonic() - started
    draw, in_the_run = random.Random(seed), 0
    for trial in range(count):
        store = folder / f"trial-{trial}"
        said = killed([*WRITES, str(store)], draw.uniform(0, whole))
        ended = "end" in said
        in_the_run += not ended
        # How long a run takes changes with what else the machine does: keep kills inside it.
        whole *= 0.7 if ended else 1.1
        committed = set(said) - {"end"}
        if store.exists():
            with Journal.open(store, IDENTITY) as journal:
                finished = never_wrong(journal, MANY)
                assert committed <= finished and len(finished - committed) <= 1
                assert journal.damages == []
                assert finished <= set(journal.predictions(MANY))
        assert resume(store, 40) == clean
        assert not list(store.glob(".whynet-*"))
    assert in_the_run > count // 3, "most kills came after the end"


def test_killed_at_random_moments(tmp_path: Path) -> None:
    many_kills(tmp_path, 15, 0)


@pytest.mark.endurance
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    many_kills(tmp_path, 100, 1)


def test_killed_over_and_over_the_same_store_ends_the_same(tmp_path: Path) -> None:
    clean = resume(tmp_path / "clean", 40)
    draw, committed = random.Random(2), set()
    for _ in range(5):
        committed |= set(killed([*WRITES, str(tmp_path / "s")], draw.uniform(0, 0.2))) - {"end"}
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        assert committed <= never_wrong(journal, MANY)
    assert resume(tmp_path / "s") == clean


def views() -> list[dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    keys = [cell.key for cell in GRID.cells()]
    tables = [
        (
            table_of(GRID, {key: measured(key).values for key in some}, {}),
            table_of(GRID, {key: predicted(key).values for key in keys}, {}),
        )
        for some in (keys, keys[:20])
    ]
    return [{"claim": pair} for pair in tables]


def kill_packing(folder: Path, count: int) -> None:
    fill(folder)
    both, draw, seen = views(), random.Random(3), set()
    for _ in range(count):
        killed([sys.executable, "-c", PACKS, str(folder)], draw.uniform(0, 0.5))
        if (folder / "results.zarr").exists():
            identity, tables = read_view(folder / "results.zarr")
            assert identity == IDENTITY
            found = [tables["claim"][0].identical(view["claim"][0]) for view in both]
            assert sum(found) == 1
            seen.add(found[0])
    with Journal.open(folder, IDENTITY) as journal:
        assert never_wrong(journal) == {cell.key for cell in GRID.cells()}
        from whynet.atlas.pack import pack

        pack(journal, folder, both[0])
    assert seen == {True, False} or count < 10
    assert not list(folder.glob(".whynet-*"))


def test_killed_while_packing_there_is_the_old_view_or_the_new_one(tmp_path: Path) -> None:
    kill_packing(tmp_path, 3)


@pytest.mark.endurance
def test_killed_fifty_times_while_packing(tmp_path: Path) -> None:
    kill_packing(tmp_path, 50)
