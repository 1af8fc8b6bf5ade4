"""Running the receipts: every number of a folder recomputed and put beside the recorded one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whynet.atlas.verification import is_atlas, verify_atlas
from whynet.concepts.measuring import measure
from whynet.concepts.registry import measurers
from whynet.core.comparison import compare
from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed, NotApplicable
from whynet.core.plain_text import printable
from whynet.core.recomputed import ROUND_OFF, Recomputed
from whynet.examination.certificate_check import is_certificate, verify_certificate
from whynet.examination.comparison import compare as compare_networks
from whynet.examination.comparison_folder import HASHED as HASHED_OF_COMPARISON
from whynet.examination.comparison_folder import MANIFEST as COMPARISON_MANIFEST
from whynet.examination.comparison_folder import OTHER_WEIGHTS, load_pair
from whynet.examination.folder import (
    HASHED,
    INITIAL_WEIGHTS,
    MANIFEST,
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

UNKNOWN = "this whynet has no such instrument, or the manifest has no rounds of it"

Given = dict[str, str | None]
Progress = Callable[[str, int, int], None]


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
    """Recompute every number of a folder without reading its results first.

    Of an examination or a comparison: the numbers of reference networks are recomputed where the
    folder has their weights. Report, summary and weights must be the files whose hashes the
    manifest holds. Of the atlas: every finished cell is run again, and the verdict must be the
    recorded one.

    Code named in the folder is never run: a target, data or a loss that are code must be named
    again by the caller, and their hashes must be the recorded ones.

    Args:
        path: folder of an examination, of a comparison, of the atlas or of one of its claims; or
            the certificate of a smaller network.
        target: the network's reference, where it is code; the claim of a user's file.
        train: training data, where they are code or lie elsewhere now.
        test: test data, likewise.
        loss: the loss, where it is code.
        train_with: the training function, where the examination knew one.
        announce: told before code of the user runs; the error stream by default.
        progress: told what runs next, how many are done and how many there are.

    Returns:
        One entry for every recorded instrument, or for every claim and each of its controls.

    Raises:
        InputError: no such folder, or code that must be named was not.
        StoreError: the folder is damaged or of a newer version.

    """
    folder = Path(path)
    given = {"target": target, "train": train, "test": test, "loss": loss, "train_with": train_with}
    if is_certificate(folder):
        return verify_certificate(folder, given, announce)
    if is_atlas(folder):
        return _of_atlas(folder, given, announce, progress)
    if (folder / COMPARISON_MANIFEST).is_file():
        return _of_comparison(folder, given, announce, progress)
    return _of_examination(folder, given, announce, progress)


def _of_atlas(
    folder: Path, given: Given, announce: Announce, progress: Progress | None
) -> tuple[Recomputed, ...]:
    for role, value in given.items():
        if role != "target" and value is not None:
            raise InputError(option(role), repr(value), "no data: a claim has its own")
    return verify_atlas(folder, target=given["target"], announce=announce, progress=progress)


def _of_comparison(
    folder: Path, given: Given, announce: Announce, progress: Progress | None
) -> tuple[Recomputed, ...]:
    """Load both networks from the folder and compare them again, all readings included."""
    request = _request(folder, COMPARISON_MANIFEST, HASHED_OF_COMPARISON, given)
    pair = load_pair(replace(request, only=()), str(folder / OTHER_WEIGHTS), announce=announce)
    with pair.computing():
        again = compare_networks(
            pair.first.subject,
            pair.other,
            readings=request.only,
            seed=request.seed,
            progress=progress,
        ).report.outcomes
    recorded = read_results(folder)
    round_off = ROUND_OFF[str(pair.first.subject.dtype).removeprefix("torch.")]
    found: dict[str, Measurement | str] = {
        name: outcome if isinstance(outcome, Measurement) else _why(outcome)
        for name, outcome in again.items()
        if name in recorded or isinstance(outcome, Measurement)
    }
    return tuple(
        _held(name, found.get(name, UNKNOWN), recorded[name], round_off)
        if name in recorded
        else Recomputed(name, 0, (), 0.0, "there are no recorded numbers of it")
        for name in (*found, *sorted(recorded.keys() - found.keys()))
    )


def _why(outcome: NotApplicable | Failed) -> str:
    return outcome.reason if isinstance(outcome, NotApplicable) else outcome.error


def _of_examination(
    folder: Path, given: Given, announce: Announce, progress: Progress | None
) -> tuple[Recomputed, ...]:
    request = _request(folder, MANIFEST, HASHED, given)
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
    names = [name for name in request.rounds if name in measurers()]
    for name in names:
        most, count = measurers()[name].metadata.rounds, request.rounds[name]
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
    results = [
        _held(name, found.get(name, UNKNOWN), recorded[name], round_off)
        for name in (*found, *sorted(recorded.keys() - found.keys()))
    ]
    for view in read_views(folder):
        if view == "trained":
            continue
        reference = _reference(folder, subject, view)
        for name, before in sorted(read_results(folder, view).items()):
            again: Measurement | str = reference if isinstance(reference, str) else UNKNOWN
            if isinstance(reference, Subject) and name in measurers():
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


def _request(folder: Path, manifest: str, hashed: Mapping[str, str], given: Given) -> Request:
    """Rebuild the request of a folder; code comes from the caller alone."""
    recorded = read_manifest(folder, manifest)
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
    _check_files(folder, recorded, hashed)
    # The weights are those of the folder now, and were just checked.
    ours = {*hashed, "weights", "other_weights"}
    changes["weights"] = str(folder / WEIGHTS)
    if manifest == MANIFEST:
        there = "examined_initial_weights" in recorded.sha256
        changes["init_weights"] = str(folder / INITIAL_WEIGHTS) if there else None
        ours.add("init_weights")
    hashes = {
        role: digest
        for role, digest in recorded.sha256.items()
        if role not in ours and not role.startswith(REFERENCE_ROLE)
    }
    return replace(recorded, **changes, sha256=hashes)  # type: ignore[arg-type]


def _check_files(folder: Path, recorded: Request, hashed: Mapping[str, str]) -> None:
    """Refuse a folder of which something is gone or was changed."""
    always = {*hashed} - {"examined_initial_weights"}
    wanted = "the folder as it was written"
    for role in sorted({*always, *recorded.sha256} & {*hashed}):
        name = hashed[role]
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
