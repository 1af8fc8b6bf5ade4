"""Jobs and outcomes as plain data: what goes to a worker, and what comes back."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np

from whynet import __version__
from whynet.atlas.groups import Group
from whynet.atlas.journal import Record
from whynet.atlas.registry import ClaimEntry
from whynet.atlas.rows import decode, describe, header_of
from whynet.core.claim import Cell, Value
from whynet.core.errors import InputError

Task = Literal["predict", "experiment"]

MOST_REASON: Final = 4000
"""Characters kept of why a group failed; each of its cells carries them."""


@dataclass(frozen=True)
class Job:
    """A group to be predicted or run, anywhere.

    Attributes:
        task: the function of the claim's file that is called.
        reference: module of the catalogue, or `/where/my_claim.py:CLAIM`.
        source: SHA-256 of a user's file; None for the catalogue.
        text: what is in that file, so that a worker needs no access to it.
        group: id of the group.
        cells: in canonical order.
        release: version of whynet that is to run it.

    """

    task: Task
    reference: str
    source: str | None
    text: bytes | None
    group: str
    cells: tuple[Cell, ...]
    release: str = __version__

    def to_bytes(self) -> bytes:
        """Return the job as JSON; the same numbers come out of it to the bit."""
        content = {
            "task": self.task,
            "reference": self.reference,
            "source": self.source,
            "text": None if self.text is None else self.text.decode("latin-1"),
            "group": self.group,
            "claim": self.cells[0].claim,
            "version": self.cells[0].version,
            "cells": [[dict(cell.parameters), cell.seed] for cell in self.cells],
            "release": self.release,
        }
        return json.dumps(content, allow_nan=False).encode("ascii")

    @staticmethod
    def from_bytes(content: bytes) -> Job:
        """Return the job that `to_bytes` made bytes of."""
        words = json.loads(content)
        cells: list[tuple[dict[str, Value], int]] = words["cells"]
        return Job(
            cast(Task, words["task"]),
            words["reference"],
            words["source"],
            None if words["text"] is None else words["text"].encode("latin-1"),
            words["group"],
            tuple(Cell(words["claim"], words["version"], p, seed) for p, seed in cells),
            words["release"],
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        cells: of every cell its values, as `atlas.rows.encode` makes them, or why it has none.
        seconds: how long it took, by a monotonic clock.

    """

    cells: tuple[bytes | str, ...]
    seconds: float = 0.0

    @staticmethod
    def failed(job: Job, reason: str, seconds: float = 0.0) -> Outcome:
        """Return the outcome of a job of which no cell has a result."""
        return Outcome((reason[:MOST_REASON],) * len(job.cells), seconds)

    def to_bytes(self) -> bytes:
        """Return a header in JSON and the values of the cells."""
        sizes = [len(cell) if isinstance(cell, bytes) else cell for cell in self.cells]
        words = json.dumps({"seconds": self.seconds, "cells": sizes}).encode("ascii")
        parts = [cell for cell in self.cells if isinstance(cell, bytes)]
        return b"".join([struct.pack("<I", len(words)), words, *parts])

    @staticmethod
    def from_bytes(content: bytes) -> Outcome:
        """Return the outcome that `to_bytes` made bytes of.

        Raises:
            ValueError: the bytes are not of this form.

        """
        try:
            place = 4 + int.from_bytes(content[:4], "little")
            words = json.loads(content[4:place])
            cells: list[bytes | str] = []
            for size in words["cells"]:
                if isinstance(size, str):
                    cells.append(size[:MOST_REASON])
                    continue
                if type(size) is not int or not 0 <= size <= len(content) - place:
                    raise ValueError("fewer bytes than its header says")
                cells.append(content[place : place + size])
                place += size
            seconds = float(words["seconds"])
        except (LookupError, TypeError, RecursionError) as error:
            raise ValueError("a header that is none") from error
        if place != len(content) or not 0 <= seconds < math.inf:
            raise ValueError("more bytes than its header says, or a time that is none")
        return Outcome(tuple(cells), seconds)


def source_text(entry: ClaimEntry) -> tuple[str, bytes | None]:
    """Return the reference that workers resolve, and what is in a user's file.

    Raises:
        InputError: the file is gone, or is not the one that was read first.

    """
    if entry.source is None:
        return entry.reference, None
    import hashlib

    place, _, name = entry.reference.rpartition(":")
    try:
        text = Path(place).read_bytes()
    except OSError as error:
        found = f"{place!r} ({error.strerror})"
        raise InputError("ID", found, "the file as the run began") from error
    if hashlib.sha256(text).hexdigest() != entry.source:
        found = f"{entry.reference!r}, which has changed"
        raise InputError("ID", found, "the file as the run began")
    return f"{Path(place).absolute()}:{name}", text


def job_of(task: Task, group: Group, reference: str, source: str | None, text: bytes | None) -> Job:
    """Return the job that predicts or runs a group."""
    return Job(task, reference, source, text, group.id, group.cells)


def records_of(job: Job, outcome: Outcome, undefined: Collection[str] = ()) -> list[Record]:
    """Check what came back and return a record of every cell, in the order of the job.

    Args:
        job: what was asked.
        outcome: what came back, from anywhere.
        undefined: names of values that may be NaN.

    """
    cells: Sequence[bytes | str] = outcome.cells
    if len(cells) != len(job.cells):
        cells = [f"{len(cells)} results came back for {len(job.cells)} cells."] * len(job.cells)
    first = next((cell for cell in cells if isinstance(cell, bytes)), b"")
    spent = outcome.seconds / len(cells)
    return [
        _record(cell.key, job, content, first, undefined, spent)
        for cell, content in zip(job.cells, cells, strict=True)
    ]


def _record(
    key: str, job: Job, content: bytes | str, first: bytes, undefined: Collection[str], spent: float
) -> Record:
    if isinstance(content, str):
        return Record(key, "failed", {}, content or "It gave no reason.", job.group, spent)
    try:
        values = decode(content)
        if header_of(content) != header_of(first):
            found, wanted = describe(header_of(content)), describe(header_of(first))
            raise ValueError(f"it has {found}, and the first cell of its group {wanted}")
    except ValueError as error:
        reason = f"{job.task}: values that cannot be used: {error}."
        return Record(key, "failed", {}, reason, job.group, spent)
    wrong = [name for name, array in values.items() if not _sound(name, array, undefined)]
    if wrong or not values:
        said = f"{', '.join(wrong)} is not finite" if wrong else "there are no values"
        return Record(key, "failed", {}, f"{job.task}: {said}.", job.group, spent)
    return Record(key, "done", values, "", job.group, spent)


def _sound(name: str, array: np.ndarray[Any, Any], undefined: Collection[str]) -> bool:
    if array.dtype.kind != "f":
        return True
    return not np.isinf(array).any() if name in undefined else bool(np.isfinite(array).all())
