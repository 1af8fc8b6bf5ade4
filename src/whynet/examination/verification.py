"""Running the receipts: every number of a report recomputed and put beside the recorded one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whynet.concepts.measuring import measure
from whynet.concepts.registry import instruments
from whynet.core.comparison import compare
from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement
from whynet.examination.folder import (
    INITIAL_WEIGHTS,
    WEIGHTS,
    file_hash,
    read_manifest,
    read_results,
)
from whynet.examination.manifest import Request, option
from whynet.examination.source import Announce, load_subject
from whynet.models.load.reference import is_code

ROUND_OFF = {"float32": 1e-3, "float64": 1e-7}
"""Declared relative round-off of a recomputed number, by precision; half of iterated float32
arithmetic is lost on ill-conditioned sums, and another machine sums in another order."""


@dataclass(frozen=True)
class Recomputed:
    """One instrument's numbers, recomputed and compared.

    Attributes:
        instrument: its id.
        entries: how many numbers were compared.
        moved: names of the quantities of which an entry left its recorded interval.
        largest: largest move, relative to the size of the number.
        reason: why it could not be recomputed; empty where it could.

    """

    instrument: str
    entries: int
    moved: tuple[str, ...]
    largest: float
    reason: str = ""

    @property
    def stands(self) -> bool:
        """Whether everything was recomputed within its interval and round-off."""
        return not self.moved and not self.reason


def verify(
    path: str | Path,
    *,
    target: str | None = None,
    train: str | None = None,
    test: str | None = None,
    loss: str | None = None,
    announce: Announce,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Recomputed, ...]:
    """Recompute every number of an examination's folder without reading its results first.

    Code named in the folder is never run: a target, data or a loss that are code must be named
    again by the caller, and their hashes must be the recorded ones.

    Args:
        path: folder of an examination.
        target: the network's reference, where it is code.
        train: training data, where they are code or lie elsewhere now.
        test: test data, likewise.
        loss: the loss, where it is code.
        announce: told before code of the user runs.
        progress: told what runs next, how many are done and how many there are.

    Returns:
        One entry for every recorded instrument.

    Raises:
        InputError: no such folder, or code that must be named was not.
        StoreError: the folder is damaged or of a newer version.

    """
    folder = Path(path)
    request = _request(folder, target=target, train=train, test=test, loss=loss)
    subject = load_subject(request, announce=announce).subject
    names = [name for name in request.rounds if name in instruments()]
    found: dict[str, Measurement | str] = {}
    for index, name in enumerate(names):
        if progress:
            progress(name, index, len(names))
        outcome = measure(name, subject, rounds=request.rounds[name], seed=request.seed)
        found[name] = outcome if isinstance(outcome, Measurement) else outcome.reason
    recorded = read_results(folder)
    round_off = ROUND_OFF[str(subject.dtype).removeprefix("torch.")]
    lost = [name for name in recorded if name not in found]
    return tuple(
        _held(
            name, found.get(name, "this whynet has no such instrument"), recorded[name], round_off
        )
        for name in [*found, *lost]
        if name in recorded or _missing(name)
    )


def _missing(name: str) -> bool:
    raise StoreError("PATH", f"no recorded numbers of {name!r}", "the folder as it was written")


def _request(folder: Path, **given: str | None) -> Request:
    """Rebuild the request of a folder; code comes from the caller alone."""
    recorded = read_manifest(folder)
    changes: dict[str, str | None] = {}
    for role, value in given.items():
        old = getattr(recorded, role)
        if value is not None:
            changes[role] = value
        elif old and is_code(old):
            raise InputError(
                option(role),
                f"nothing, though the recorded one is code ({old})",
                f"{option(role)} on the command line: code never runs because a folder names it",
            )
    if not recorded.target and not given.get("target"):
        raise InputError(
            "TARGET", "an examination made in Python", "the network's reference, file.py:name"
        )
    for role, name in (("weights", WEIGHTS), ("init_weights", INITIAL_WEIGHTS)):
        changes[role] = str(folder / name) if (folder / name).is_file() else None
    if changes["weights"] is None:
        raise StoreError("PATH", f"a folder without {WEIGHTS}", "the folder as it was written")
    if recorded.sha256.get("examined_weights") != file_hash(folder / WEIGHTS):
        raise StoreError("PATH", f"{WEIGHTS} that were changed", "the weights as they were written")
    own = ("weights", "init_weights", "examined_weights")
    hashes = {role: digest for role, digest in recorded.sha256.items() if role not in own}
    return replace(recorded, **changes, sha256=hashes)  # type: ignore[arg-type]


def _held(
    name: str, found: Measurement | str, recorded: Measurement, round_off: float
) -> Recomputed:
    if isinstance(found, str):
        return Recomputed(name, 0, (), 0.0, found)
    try:
        joined = compare(found, recorded)
    except ValueError as error:
        return Recomputed(name, 0, (), 0.0, str(error))
    moved, largest, count = [], 0.0, 0
    for quantity in recorded.names:
        value = np.atleast_1d(joined[quantity]["measured"]).astype(float)
        old = np.atleast_1d(joined[quantity]["predicted"]).astype(float)
        low, high = (np.atleast_1d(b).astype(float) for b in recorded.bounds(quantity))
        there = ~(np.isnan(value) & np.isnan(old))
        # Relative to the largest entry: small entries of a curve carry its round-off.
        scale = float(np.abs(old[there]).max(initial=0.0))
        slack = round_off * scale + 1e-12
        outside = there & ~((value >= low - slack) & (value <= high + slack))
        if outside.any():
            moved.append(quantity)
        gap = np.abs(value - old)[there] / max(scale, 1e-300)
        largest = max(largest, float(gap.max(initial=0.0)))
        count += int(there.sum())
    return Recomputed(name, count, tuple(moved), largest)
