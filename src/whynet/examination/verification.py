"""Running the receipts: every number of a report recomputed and put beside the recorded one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whynet.concepts.measuring import measure
from whynet.concepts.registry import instruments
from whynet.core.comparison import compare
from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement
from whynet.core.plain_text import printable
from whynet.examination.folder import (
    HASHED,
    INITIAL_WEIGHTS,
    REFERENCE_ROLE,
    REFERENCES,
    RESULTS,
    WEIGHTS,
    file_hash,
    read_manifest,
    read_results,
    read_views,
    reference_path,
)
from whynet.examination.manifest import Request, option
from whynet.examination.references import reference_from, view_name
from whynet.examination.source import Announce, load_subject
from whynet.models.load.reference import is_code
from whynet.models.load.weights import load_weights
from whynet.models.subject import Subject

Array = np.ndarray[Any, Any]
Bounds = tuple[Any, Any]

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


def say_on_stderr(message: str) -> None:
    """Announce on the error stream."""
    print(printable(message), file=sys.stderr)


def verify(
    path: str | Path,
    *,
    target: str | None = None,
    train: str | None = None,
    test: str | None = None,
    loss: str | None = None,
    train_with: str | None = None,
    announce: Announce = say_on_stderr,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Recomputed, ...]:
    """Recompute every number of an examination's folder without reading its results first.

    The numbers of the network before training are recomputed where the folder has them. Report,
    summary and weights must be the files whose hashes the manifest holds.

    Code named in the folder is never run: a target, data or a loss that are code must be named
    again by the caller, and their hashes must be the recorded ones.

    Args:
        path: folder of an examination.
        target: the network's reference, where it is code.
        train: training data, where they are code or lie elsewhere now.
        test: test data, likewise.
        loss: the loss, where it is code.
        train_with: the training function, where the examination knew one.
        announce: told before code of the user runs; the error stream by default.
        progress: told what runs next, how many are done and how many there are.

    Returns:
        One entry for every recorded instrument.

    Raises:
        InputError: no such folder, or code that must be named was not.
        StoreError: the folder is damaged or of a newer version.

    """
    folder = Path(path)
    given = {"target": target, "train": train, "test": test, "loss": loss}
    request = _request(folder, **given, train_with=train_with)
    names = _recomputable(request)
    loaded = load_subject(request, announce=announce)
    found: dict[str, Measurement | str] = {}
    with loaded.computing():
        for index, name in enumerate(names):
            if progress:
                progress(name, index, len(names))
            found[name] = _measured(name, loaded.subject, request.rounds[name], request.seed)
        results = _compared(folder, loaded.subject, found, request.seed)
    if progress:
        progress("", len(names), len(names))
    return results


def _recomputable(request: Request) -> list[str]:
    """Return the recorded instruments that this whynet has, their rounds checked."""
    names = [name for name in request.rounds if name in instruments()]
    for name in names:
        most, count = instruments()[name].metadata.rounds, request.rounds[name]
        if not 1 <= count <= most:
            raise StoreError("PATH", f"{count} rounds of {name}", f"1 to {most}, as were run")
    return names


def _compared(
    folder: Path, subject: Subject, found: dict[str, Measurement | str], seed: int
) -> tuple[Recomputed, ...]:
    """Read the recorded numbers and put the recomputed ones beside them."""
    recorded = read_results(folder)
    round_off = ROUND_OFF[str(subject.dtype).removeprefix("torch.")]
    for name in found:
        if name not in recorded:
            raise StoreError("PATH", f"no recorded numbers of {name!r}", "the folder as written")
    unknown = "this whynet has no such instrument, or the manifest has no rounds of it"
    results = [
        _held(name, found.get(name, unknown), recorded[name], round_off)
        for name in (*found, *sorted(recorded.keys() - found.keys()))
    ]
    for view in read_views(folder):
        if view == "trained":
            continue
        reference = _reference(folder, subject, view)
        for name, before in sorted(read_results(folder, view).items()):
            again: Measurement | str = reference if isinstance(reference, str) else unknown
            if isinstance(reference, Subject) and name in instruments():
                again = _measured(name, reference, 1, seed)
            results.append(_held(f"{name}, {view_name(view)}", again, before, round_off))
    return tuple(results)


def _reference(folder: Path, subject: Subject, view: str) -> Subject | str:
    """Rebuild a reference network from the folder, or say why that cannot be."""
    if view == "initial":
        if subject.initial is None:
            return "the network before training is not in this folder"
        return subject.initial.alone()
    path = reference_path(folder, view)
    if not path.is_file():
        return f"the weights of the network {view_name(view)!r} are not in this folder"
    module = copy.deepcopy(subject.module)
    try:
        load_weights(str(path), module, "PATH")
        return reference_from(subject, view, module.state_dict())
    except (InputError, KeyError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def _measured(name: str, subject: Subject, rounds: int, seed: int) -> Measurement | str:
    """Measure, or say why not; what raises here is a result as well."""
    try:
        outcome = measure(name, subject, rounds=rounds, seed=seed)
    except Exception as error:  # noqa: BLE001 - one instrument's failure must not lose the others
        return f"{type(error).__name__}: {error}"
    return outcome if isinstance(outcome, Measurement) else outcome.reason


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
    _check_files(folder, recorded)
    kept = recorded.sha256
    changes["weights"] = str(folder / WEIGHTS)
    changes["init_weights"] = (
        str(folder / INITIAL_WEIGHTS) if "examined_initial_weights" in kept else None
    )
    # The weights are those of the folder now, and were just checked.
    hashes = {
        role: digest
        for role, digest in kept.items()
        if role not in (*HASHED, "weights", "init_weights") and not role.startswith(REFERENCE_ROLE)
    }
    return replace(recorded, **changes, sha256=hashes)  # type: ignore[arg-type]


def _check_files(folder: Path, recorded: Request) -> None:
    """Refuse a folder of which something is gone or was changed."""
    roles = {"examined_weights", "report", "summary", *recorded.sha256} & set(HASHED)
    wanted = "the folder as it was written"
    for role in sorted(roles):
        name = HASHED[role]
        if not (folder / name).is_file():
            raise StoreError("PATH", f"a folder without {name}", wanted)
        if recorded.sha256.get(role) != file_hash(folder / name):
            raise StoreError("PATH", f"a {name} that was changed", wanted)
    for role, digest in recorded.sha256.items():
        if role.startswith(REFERENCE_ROLE):
            path = reference_path(folder, role.removeprefix(REFERENCE_ROLE))
            if path.parent != folder / REFERENCES or not path.is_file():
                raise StoreError("PATH", f"a folder without the weights of a {role}", wanted)
            if digest != file_hash(path):
                raise StoreError("PATH", f"weights of a {role} that were changed", wanted)
    if not (folder / RESULTS).is_dir():
        raise StoreError("PATH", f"a folder without {RESULTS}", wanted)


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
    for quantity in found.names:
        if quantity not in joined:
            moved.append(quantity)
            continue
        value = np.asarray(joined[quantity]["measured"].values, dtype=float)
        old = np.asarray(joined[quantity]["predicted"].values, dtype=float)
        there = ~(np.isnan(value) & np.isnan(old))
        # Relative to the largest entry: small entries of a curve carry its round-off.
        finite = np.isfinite(value)
        scale = float(np.abs(value[finite]).max(initial=0.0))
        slack = round_off * scale + 1e-12
        same_kind = (
            found.dataset[quantity].attrs["kind"] == recorded.dataset[quantity].attrs["kind"]
        )
        inside = _inside(value, old, found.bounds(quantity), recorded.bounds(quantity), slack)
        if not same_kind or (there & ~inside).any():
            moved.append(quantity)
        both = there & finite & np.isfinite(old)
        gap = np.abs(value - old)[both] / max(scale, 1e-300)
        largest = max(largest, float(gap.max(initial=0.0)))
        count += int(there.sum())
    return Recomputed(name, count, tuple(moved), largest)


def _inside(value: Array, old: Array, bounds: Bounds, old_bounds: Bounds, slack: float) -> Array:
    """Say which entries stand: each number in the other's interval, and the ends close.

    The second half keeps a recorded interval from being widened until everything lies in it: its
    ends may be off by the width of the recomputed one, no more.
    """
    low, high = (np.asarray(b, dtype=float) for b in bounds)
    old_low, old_high = (np.asarray(b, dtype=float) for b in old_bounds)
    with np.errstate(invalid="ignore"):  # infinite ends
        room = slack + np.where(np.isfinite(high - low), high - low, 0.0)
        numbers = (value >= old_low - slack) & (value <= old_high + slack)
        numbers &= (old >= low - slack) & (old <= high + slack)
        ends = (low == old_low) | (np.abs(low - old_low) <= room)
        ends &= (high == old_high) | (np.abs(high - old_high) <= room)
    return np.asarray(numbers & ends)
