"""A store of cells whose numbers follow from their keys, and the images a crash leaves of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from whynet.atlas.journal import JOURNAL, Identity, Journal, Record
from whynet.core.claim import Cell, Grid

CLAIM, VERSION = "numbers-from-keys", 1
IDENTITY = Identity(CLAIM, VERSION)
GRID = Grid(CLAIM, VERSION, {"width": (10, 20, 40), "rate": (0.1, 0.5), "data": ("a", "b")}, 4)
KEYS = [cell.key for cell in GRID.cells()]


def numbers(key: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))


def predicted(key: str) -> Record:
    return Record(key, "done", {"limit": np.asarray(numbers(key).normal()), "sure": np.True_})


def measured(key: str, seconds: float = 0.5) -> Record:
    drawn = numbers(key)
    values = {
        "loss": drawn.normal(size=12),
        "steps": np.asarray(drawn.integers(0, 2**40)),
        "reached": drawn.random(3) < 0.5,
        "map": drawn.normal(size=(2, 5)),
    }
    return Record(key, "done", values, group="g", seconds=seconds)


def fill(folder: Path, keys: Iterable[str] = KEYS, group: int = 8) -> None:
    """Write predictions, then cells in groups."""
    with Journal.open(folder, IDENTITY) as journal:
        write(journal, list(keys), group)


def write(journal: Journal, keys: list[str], group: int = 8) -> None:
    journal.predict([predicted(key) for key in keys])
    for start in range(0, len(keys), group):
        journal.commit([measured(key) for key in keys[start : start + group]])


def same(record: Record, wanted: Record) -> bool:
    return record.values.keys() == wanted.values.keys() and all(
        record.values[name].dtype == np.asarray(value).dtype
        and record.values[name].shape == np.asarray(value).shape
        and record.values[name].tobytes() == np.asarray(value).tobytes()
        for name, value in wanted.values.items()
    )


def never_wrong(journal: Journal, keys: list[str] = KEYS) -> set[str]:
    """Return the finished keys, once each number that can be read is what was written."""
    finished = journal.finished()
    assert finished <= set(keys)
    held = journal.read(keys)
    assert {key for key, record in held.items() if record.state == "done"} == finished
    for key, record in held.items():
        assert record.state == "failed" or same(record, measured(key)), key
    for key, values in journal.predictions(keys).items():
        assert same(Record(key, "done", values), predicted(key)), key
    return finished


def crash_image(folder: Path, target: Path) -> Path:
    """Copy what a kill would leave at this moment; the shared memory does not outlive it."""
    target.mkdir(parents=True)
    for name in (JOURNAL, f"{JOURNAL}-wal"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    return target


def cells() -> list[Cell]:
    return GRID.cells()
