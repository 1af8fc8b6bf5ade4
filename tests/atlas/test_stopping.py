"""Killed or interrupted at any moment, the same command goes on and ends with the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.atlas.runs import CLAIM, children, digest, drive, finished, run, until, workers_of

from whynet.atlas.execution import Execution

AXES: dict[str, Any] = {"size": [50, 80], "shift": [0.0, 1.0], "pause": [0.02], "seeds": 24}
CELLS = 2 * 2 * 2 * 24


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("clean") / "store"
    assert not run(out, **AXES).failed
    return digest(out)


def killed(folder: Path, times: int, clean: str) -> None:
    """Kill drivers of one store, alone and with their group, at random moments of their work."""
    chance, mid_run = random.Random(times), 0
    for count in range(times):
        before = finished(folder)
        if before == CELLS:  # all done: start anew, elsewhere
            assert digest(folder) == clean
            folder = folder.with_name(f"{folder.name}-{count}")
            before = 0
        driver = drive(folder, AXES, workers=1 + count % 2)
        if count % 4:
            # A moment after it began to work; else any, starting up included.
            until(partial(began, driver, folder, before))
        time.sleep(chance.uniform(0.0, 1.0 if count % 4 else 4.0))
        kill = os.killpg if count % 3 else os.kill
        if driver.poll() is None:
            kill(driver.pid, signal.SIGKILL)
            mid_run += before < finished(folder) < CELLS
        driver.communicate()
        until(partial(alone, driver), 10)
    assert mid_run >= times // 4
    driver = drive(folder, AXES, workers=2)
    assert driver.communicate()[1] == "" and driver.returncode == 0
    assert digest(folder) == clean


def began(driver: subprocess.Popen[str], folder: Path, before: int) -> bool:
    """Say whether a driver has finished a cell, or ended."""
    return finished(folder) > before or driver.poll() is not None


def alone(driver: subprocess.Popen[str]) -> bool:
    """Say whether no worker has outlived its driver."""
    return not workers_of(driver.pid)


def test_killed_at_random_moments(tmp_path: Path, clean: str) -> None:
    killed(tmp_path / "store", 3, clean)


@pytest.mark.endurance
def test_killed_at_a_hundred_random_moments(tmp_path: Path, clean: str) -> None:
    killed(tmp_path / "store", 100, clean)


@pytest.mark.parametrize(
    ("number", "code", "workers", "to_group"),
    [
        (signal.SIGINT, 130, 1, False),
        (signal.SIGTERM, 143, 2, False),
        (signal.SIGINT, 130, 2, True),
        (signal.SIGTERM, 143, 2, True),
    ],
)
def test_a_signal_stops_it_within_five_seconds(
    tmp_path: Path, number: int, code: int, workers: int, to_group: bool
) -> None:
    axes = {**AXES, "pause": [0.5]}
    driver = drive(tmp_path, axes, workers=workers)
    until(lambda: finished(tmp_path) > 0 or driver.poll() is not None)
    sent = time.monotonic()
    (os.killpg if to_group else os.kill)(driver.pid, number)
    _, said = driver.communicate(timeout=30)
    assert time.monotonic() - sent < 5 and driver.returncode == code and said == ""
    assert not workers_of(driver.pid) and 0 < finished(tmp_path) < CELLS
    digest(tmp_path)


def test_a_signal_stops_cells_that_hang(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"size": [50], "shift": [1.0], "fault": ["hang"], "seeds": 4}
    driver = drive(tmp_path, axes, workers=2)
    assert driver.stdout is not None
    for line in driver.stdout:
        if "predicting: 2 of 2" in line:
            break
    time.sleep(0.5)
    sent = time.monotonic()
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=30)
    assert time.monotonic() - sent < 5 and driver.returncode == 130 and not workers_of(driver.pid)


def test_an_interrupt_in_this_process_leaves_no_children(tmp_path: Path) -> None:
    before = children()

    def stop(done: int, cells: int, what: str) -> None:
        if done:
            raise KeyboardInterrupt

    record = run(tmp_path, execution=Execution(workers=2), progress=stop, **AXES)
    assert record.interrupted and children() == before and CLAIM.startswith("/")
