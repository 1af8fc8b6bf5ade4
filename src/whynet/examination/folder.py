"""The folder of an examination: written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from whynet.core.errors import InputError, StoreError
from whynet.core.fresh_folder import clear_stale, fresh_folder, swap
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed
from whynet.core.store_check import check_store
from whynet.examination.figures import draw_figures
from whynet.examination.manifest import Request, check_values, read_toml, to_toml
from whynet.examination.page import render_page
from whynet.examination.summary import to_json

if TYPE_CHECKING:
    from torch import nn

    from whynet.examination.examine import Examination

REPORT, SUMMARY, RESULTS, MANIFEST = "report.html", "summary.json", "results.zarr", "manifest.toml"
WEIGHTS, INITIAL_WEIGHTS = "weights.safetensors", "initial_weights.safetensors"
REFERENCES = "references"
"""Folder of the weights of networks that were trained for reference, one file each."""

WRITTEN = frozenset(
    {REPORT, SUMMARY, RESULTS, MANIFEST, WEIGHTS, INITIAL_WEIGHTS, REFERENCES, "figures"}
)
"""All that an examination writes; a folder that holds anything else is never replaced."""

OURS = WRITTEN | {
    "comparison.toml", "other_weights.safetensors",
    "cells.zarr", "pieces.zarr", "plane.npz", "figure.svg", "figure.png",
    "film.svg", "film.png", "results.json",
}  # fmt: skip
"""All that any command writes into a folder; what was killed midway holds part of it."""

HASHED = {
    "examined_weights": WEIGHTS,
    "examined_initial_weights": INITIAL_WEIGHTS,
    "report": REPORT,
    "summary": SUMMARY,
}
"""Files whose SHA-256 the manifest holds, by their role there."""

REFERENCE_ROLE = "reference "
"""Before the view, the role under which the manifest holds the hash of a reference's weights."""


def check_out(
    path: str | Path,
    argument: str = "--out",
    *,
    written: frozenset[str] = WRITTEN,
    always: frozenset[str] = frozenset({SUMMARY, MANIFEST}),
    writer: str = "an examination",
) -> Path:
    """Check, before anything is computed, that an examination can be written to a folder.

    Nothing is left behind, not even the parents of the folder.

    Args:
        path: the folder.
        argument: how the caller calls it.
        written: names of all that may be written; a folder with others is never replaced.
        always: names of what is always written.
        writer: who writes it.

    Returns:
        The folder, symbolic links followed; it need not exist yet.

    Raises:
        InputError: it is a file, a mount point, a folder with other content, or cannot be written.

    """
    try:
        folder = Path(path).resolve()
        taken = not folder.is_dir() and (folder.exists() or folder.is_symlink())
        held = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        # The folder is written beside its place, so its parent (or what will hold that) counts.
        parent = next((p for p in folder.parents if os.path.lexists(p)), folder)
        if not taken:
            with tempfile.TemporaryDirectory(dir=parent, prefix=".whynet-"):
                pass
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(argument, f"{str(path)!r} ({reason})", "a place to write to") from error
    if taken or folder.is_mount():
        what = "no folder" if taken else "a mount point and cannot be replaced"
        raise InputError(argument, f"{str(path)!r}, which is {what}", "a folder to write to")
    other = sorted(held - written)
    if other or (held and not always <= held):
        what = f"other content ({', '.join(map(repr, other[:3]))})" if other else "part of a report"
        raise InputError(
            argument,
            f"the folder {str(path)!r} with {what}",
            f"a new folder, an empty one, or one that {writer} wrote",
        )
    return folder


def save(examination: Examination, path: str | Path, *, request: Request | None = None) -> Path:
    """Write report, summary, arrays, figures, weights and manifest; whole or not at all.

    Everything is written into a temporary folder beside the target, which then takes its place,
    so that an interruption leaves the old report as it was.

    Args:
        examination: what to write.
        path: the folder.
        request: what the run was asked; an empty one where it came from Python.

    Returns:
        Path of the report.

    Raises:
        InputError: the folder cannot be used.
        OSError: the disk is full or gone; what was in the folder before is still there.

    """
    folder = check_out(path, "path")
    write_whole(folder, lambda fresh: _write(examination, fresh, request))
    return Path(path) / REPORT


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a temporary folder beside the target and put it in its place; whole or not at all.

    Args:
        folder: the target, checked.
        write: fills the folder it is given.

    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_stale(folder.parent, OURS)
    with fresh_folder(folder.parent) as fresh:
        write(fresh)
        fresh.chmod(0o755)
        swap(fresh, folder)


def _write(examination: Examination, folder: Path, request: Request | None) -> None:
    report, subject = examination.report, examination.subject
    figures = draw_figures(report)
    (folder / REPORT).write_text(render_page(report, figures=figures), encoding="utf-8")
    (folder / SUMMARY).write_text(to_json(report), encoding="utf-8")
    (folder / "figures").mkdir()
    for name, picture in figures.items():
        if isinstance(picture, Failed):
            continue  # the page says so, and shows its words instead
        (folder / "figures" / f"{name}.svg").write_text(picture, encoding="utf-8")
    save_weights(subject.module, folder / WEIGHTS)
    if subject.initial is not None:
        save_weights(subject.initial.module, folder / INITIAL_WEIGHTS)
    asked = request or request_of(examination)
    hashes = {k: v for k, v in asked.sha256.items() if not k.startswith(REFERENCE_ROLE)}
    if examination.references:
        (folder / REFERENCES).mkdir()
    for view, reference in examination.references.items():
        save_weights(reference.module, reference_path(folder, view))
        hashes[REFERENCE_ROLE + view] = file_hash(reference_path(folder, view))
    for role, name in HASHED.items():
        hashes.pop(role, None)
        if (folder / name).is_file():
            hashes[role] = file_hash(folder / name)
    done = replace(
        asked,
        rounds=dict(examination.rounds),
        reached=dict(examination.reached),
        seeds=examination.seeds,
        sha256=hashes,
    )
    (folder / MANIFEST).write_text(to_toml(done), encoding="utf-8")
    tree({"trained": report.outcomes, **report.others}).to_zarr(
        folder / RESULTS, consolidated=False
    )


def request_of(examination: Examination) -> Request:
    """Return what an examination that was made in Python would have been asked."""
    subject = examination.subject
    named = subject.loss.name in ("cross_entropy", "bce", "mse") and not subject.loss.source
    return Request(
        loss=subject.loss.name if named else None,
        output=None if subject.output is None else str(subject.output),
        device=str(subject.device),
        dtype=str(subject.dtype).removeprefix("torch."),
        batch_size=subject.batch_size,
        seed=examination.seed,
        sha256={
            split: data.sha256
            for split in ("train", "test")
            if (data := getattr(subject, split)) is not None
        },
    )


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers as safetensors; tied ones under each name."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = {
        name: value.detach().to("cpu").contiguous().clone()
        for name, value in module.state_dict().items()
        if hasattr(value, "detach")
    }
    try:
        save_file(state, path)
    except SafetensorError as error:  # the only way it fails here is the disk
        raise OSError(errno.EIO, str(error), str(path)) from error
    path.chmod(0o644)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def reference_path(folder: Path, view: str) -> Path:
    """Return where the weights of a reference network lie in an examination's folder.

    Raises:
        StoreError: the view, which may come from a folder of anyone, is no name of one.

    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,99}", view):
        raise StoreError("PATH", f"the reference {view!r}", "a name such as seed-1")
    return folder / REFERENCES / f"{view}.safetensors"


def tree(views: Mapping[str, Mapping[str, Any]]) -> xr.DataTree:
    """Collect all measurements in one xarray DataTree: `trained/…`, `initial/…`, `seed-1/…`."""
    groups = {
        f"{view}/{name}": _portable(outcome.dataset)
        for view, outcomes in views.items()
        for name, outcome in outcomes.items()
        if isinstance(outcome, Measurement)
    }
    return xr.DataTree.from_dict(groups) if groups else xr.DataTree()


def _portable(dataset: xr.Dataset) -> xr.Dataset:
    """Give text coordinates the one string type that the store's format specifies."""
    texts = {
        name: coordinate.astype(object)
        for name, coordinate in dataset.coords.items()
        if coordinate.dtype.kind in "UT"
    }
    return dataset.assign_coords(texts) if texts else dataset


def read_results(path: Path, view: str = "trained") -> dict[str, Measurement]:
    """Read the measurements of the examined network back from a folder.

    Args:
        path: the folder.
        view: `trained`, or a reference: `initial`, `shuffled`, `seed-1`, …

    Raises:
        StoreError: the arrays are missing, damaged, or break the schema of measurements.

    """
    place = path / RESULTS
    try:
        check_store(place)
        with xr.open_datatree(place, engine="zarr", consolidated=False, zarr_format=3) as store:
            if view not in store.children:
                return {}
            return {
                name: Measurement(_plain(node.to_dataset().load()))
                for name, node in store[view].children.items()
            }
    except Exception as error:
        raise StoreError(
            "PATH",
            f"{RESULTS} that cannot be read ({type(error).__name__}: {error})",
            "the folder as the examination wrote it",
        ) from error


def read_views(path: Path) -> tuple[str, ...]:
    """Return the names of the networks that a folder holds measurements of."""
    place = path / RESULTS
    held = sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []
    return tuple(name for name in held if (place / name).is_dir())


def read_cites(path: Path) -> set[str]:
    """Return the keys of all references that an examination's numbers and findings rest on.

    Raises:
        StoreError: the folder's arrays or summary are missing or damaged.

    """
    views = [read_results(path, view) for view in read_views(path) or ("trained",)]
    try:
        found = {str(key) for measured in views for m in measured.values() for key in m.cites}
        summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
        return found | {str(key) for finding in summary["findings"] for key in finding["cites"]}
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise StoreError(
            "WHAT", f"{SUMMARY} that cannot be read ({type(error).__name__})",
            "the folder as the examination wrote it",
        ) from error  # fmt: skip


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    texts = {
        name: (coordinate.dims, np.asarray(coordinate.values.astype(object), dtype=str))
        for name, coordinate in dataset.coords.items()
        if coordinate.dtype.kind in "OT"
    }
    return dataset.assign_coords(texts) if texts else dataset


def read_manifest(path: Path, name: str = MANIFEST) -> Request:
    """Read what a run was asked from its folder.

    Raises:
        InputError: the path is no folder of a run.
        StoreError: its manifest is damaged, or of a newer major version.

    """
    wanted = "the folder of an examination, of a comparison, or of the atlas"
    if not path.is_dir():
        raise InputError("PATH", f"{str(path)!r}, which is no folder", wanted)
    if not (path / name).is_file():
        raise InputError("PATH", f"{str(path)!r} without {name}", wanted)
    try:
        request = Request(**read_toml(path / name, "PATH"))
        check_values(request)
        return request
    except StoreError:
        raise
    except InputError as error:
        about = "" if error.argument == "PATH" else f"{error.argument} = "
        raise StoreError("PATH", f"in {name} {about}{error.found}", error.wanted) from error
