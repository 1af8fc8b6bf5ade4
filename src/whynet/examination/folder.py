"""The folder of an examination: written whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement
from whynet.core.outcome import Failed
from whynet.examination.drawing import draw_figures
from whynet.examination.manifest import Request, read_toml, to_toml
from whynet.examination.page import render_page
from whynet.examination.summary import to_json

if TYPE_CHECKING:
    from torch import nn

    from whynet.examination.examine import Examination

REPORT, SUMMARY, RESULTS, MANIFEST = "report.html", "summary.json", "results.zarr", "manifest.toml"
WEIGHTS, INITIAL_WEIGHTS = "weights.safetensors", "initial_weights.safetensors"


def check_out(path: str | Path, argument: str = "--out") -> Path:
    """Check, before anything is computed, that an examination can be written to a folder.

    Returns:
        The folder; it need not exist yet.

    Raises:
        InputError: it is a file, a folder with other content, or cannot be written.

    """
    folder = Path(path)
    try:
        held = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        taken = not folder.is_dir() and (folder.exists() or folder.is_symlink())
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".whynet-"):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(argument, f"{str(path)!r} ({reason})", "a place to write to") from error
    if taken:
        raise InputError(argument, f"{str(path)!r}, which is no folder", "a folder to write to")
    if held and not {SUMMARY, MANIFEST} <= held:
        raise InputError(
            argument,
            f"the folder {str(path)!r} with other content",
            "a new folder, an empty one, or one that an examination wrote",
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

    """
    folder = check_out(path, "path")
    parent = folder.absolute().parent
    fresh = Path(tempfile.mkdtemp(dir=parent, prefix=".whynet-"))
    try:
        _write(examination, fresh, request)
        fresh.chmod(0o755)
        _swap(fresh, folder.absolute())
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return folder / REPORT


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
    asked = request or Request(
        seed=examination.seed, batch_size=subject.batch_size, device=str(subject.device)
    )
    hashes = {**asked.sha256, "examined_weights": file_hash(folder / WEIGHTS)}
    values = {**vars(asked), "rounds": dict(examination.rounds), "sha256": hashes}
    (folder / MANIFEST).write_text(to_toml(Request(**values)), encoding="utf-8")
    tree(report.outcomes, report.initial).to_zarr(folder / RESULTS, consolidated=False)


def _swap(fresh: Path, folder: Path) -> None:
    """Put a finished folder in its place; the old one goes only after the new one stands."""
    if not folder.exists():
        fresh.rename(folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".whynet-old-"))
    folder.replace(old / "out")
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers as safetensors; tied ones under each name."""
    from safetensors.torch import save_file

    state = {
        name: value.detach().to("cpu").contiguous().clone()
        for name, value in module.state_dict().items()
        if hasattr(value, "detach")
    }
    save_file(state, path)
    path.chmod(0o644)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree(outcomes: Mapping[str, Any], initial: Mapping[str, Measurement]) -> xr.DataTree:
    """Collect all measurements in one xarray DataTree: `trained/…` and `initial/…`."""
    groups = {
        f"trained/{name}": _portable(outcome.dataset)
        for name, outcome in outcomes.items()
        if isinstance(outcome, Measurement)
    }
    groups |= {f"initial/{name}": _portable(m.dataset) for name, m in initial.items()}
    return xr.DataTree.from_dict(groups) if groups else xr.DataTree()


def _portable(dataset: xr.Dataset) -> xr.Dataset:
    """Give text coordinates the one string type that the store's format specifies."""
    texts = {
        name: coordinate.astype(object)
        for name, coordinate in dataset.coords.items()
        if coordinate.dtype.kind in "UT"
    }
    return dataset.assign_coords(texts) if texts else dataset


def read_results(path: Path) -> dict[str, Measurement]:
    """Read the measurements of the examined network back from a folder.

    Raises:
        StoreError: the arrays are missing, damaged, or break the schema of measurements.

    """
    place = path / RESULTS
    try:
        with xr.open_datatree(place, engine="zarr", consolidated=False) as store:
            if "trained" not in store.children:
                return {}
            return {
                name: Measurement(_plain(node.to_dataset().load()))
                for name, node in store["trained"].children.items()
            }
    except Exception as error:
        raise StoreError(
            "PATH",
            f"{RESULTS} that cannot be read ({type(error).__name__}: {error})",
            "the folder as the examination wrote it",
        ) from error


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    texts = {
        name: (coordinate.dims, np.asarray(coordinate.values.astype(object), dtype=str))
        for name, coordinate in dataset.coords.items()
        if coordinate.dtype.kind in "OT"
    }
    return dataset.assign_coords(texts) if texts else dataset


def read_manifest(path: Path) -> Request:
    """Read what a run was asked from its folder.

    Raises:
        InputError: the path is no folder of an examination.
        StoreError: its manifest is damaged, or of a newer major version.

    """
    if not path.is_dir():
        raise InputError("PATH", f"{str(path)!r}, which is no folder", "an examination's folder")
    if not (path / MANIFEST).is_file():
        raise InputError("PATH", f"{str(path)!r} without {MANIFEST}", "an examination's folder")
    try:
        return Request(**read_toml(path / MANIFEST, "PATH"))
    except StoreError:
        raise
    except InputError as error:
        raise StoreError("PATH", error.found, error.wanted) from error
