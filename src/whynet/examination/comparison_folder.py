"""The folder of a comparison, and the two networks that a command line names."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whynet.core.errors import InputError
from whynet.core.outcome import Failed
from whynet.examination.figures import draw_figures
from whynet.examination.folder import (
    REPORT,
    RESULTS,
    SUMMARY,
    WEIGHTS,
    check_out,
    file_hash,
    request_of,
    save_weights,
    tree,
    write_whole,
)
from whynet.examination.manifest import Request, examine_command, to_toml
from whynet.examination.page import PageWords, render_page
from whynet.examination.source import Announce, Loaded, TrainingProgress, load_subject
from whynet.examination.summary import to_json
from whynet.models.load.paths import existing_file
from whynet.models.load.weights import load_weights
from whynet.models.subject import Subject
from whynet.training.builtin import builtin_names, load_builtin

if TYPE_CHECKING:
    from whynet.examination.comparison import Comparison
    from whynet.examination.report import Report

MANIFEST, OTHER_WEIGHTS = "comparison.toml", "other_weights.safetensors"
WRITTEN = frozenset({REPORT, SUMMARY, RESULTS, MANIFEST, WEIGHTS, OTHER_WEIGHTS, "figures"})
"""All that a comparison writes; a folder that holds anything else is never replaced."""

HASHED = {
    "examined_weights": WEIGHTS,
    "examined_other_weights": OTHER_WEIGHTS,
    "report": REPORT,
    "summary": SUMMARY,
}
"""Files whose SHA-256 the manifest holds, by their role there."""

ANOTHER_SEED = 1
"""Of the second network where a built-in subject is compared with itself."""


@dataclass(frozen=True)
class LoadedPair:
    """Two networks of one target, the request they came from, and how they are called."""

    first: Loaded
    other: Subject
    names: tuple[str, str]

    @property
    def request(self) -> Request:
        """The request, hashes filled in."""
        return self.first.request

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute inside with as many threads as were asked for."""
        with self.first.computing():
            yield

    @contextmanager
    def named_as_options(self) -> Iterator[None]:
        """Call the arguments of refusals in the body as the command line does."""
        try:
            yield
        except InputError as error:
            name = {"subject": "--weights", "other": "--other-weights"}.get(error.argument)
            if name is None:
                raise
            raise InputError(name, error.found, error.wanted) from error


def load_pair(
    request: Request,
    other_weights: str | None,
    *,
    announce: Announce,
    progress: TrainingProgress | None = None,
) -> LoadedPair:
    """Load the target twice: with `--weights` and with `--other-weights`.

    Args:
        request: what the user asked; its weights are those of the first network.
        other_weights: file of the second network's weights; a built-in subject without them is
            trained from another seed.
        announce: told before code of the user runs.
        progress: told after every epoch where a built-in subject is trained.

    Raises:
        InputError: as `load_subject`; or no weights are named for the second network.

    """
    builtin = request.target in builtin_names()
    if other_weights is not None:
        existing_file(other_weights, "--other-weights", "a file of weights")
    if other_weights is None and not builtin:
        raise InputError(
            "--other-weights", "nothing", "the weights to compare with, such as b.safetensors"
        )
    loaded = load_subject(request, announce=announce, progress=progress)
    module = copy.deepcopy(loaded.subject.module)
    hashes = dict(loaded.request.sha256)
    hashes.pop("other_weights", None)
    if other_weights is None:
        built = load_builtin(request.target, progress=progress, seed=ANOTHER_SEED)
        module.load_state_dict(built.module.state_dict())
        name = f"another seed ({ANOTHER_SEED})"
    else:
        load_weights(other_weights, module, "--other-weights")
        hashes["other_weights"] = file_hash(Path(other_weights))
        name = Path(other_weights).name
    first = "as its code makes it" if not builtin else loaded.subject.name
    if request.weights is not None:
        first = Path(request.weights).name
    if first == name:
        first, name = str(request.weights), str(other_weights)
    other = loaded.subject.replaced(module)
    return LoadedPair(replace(loaded, request=replace(loaded.request, sha256=hashes)), other,
                      (first, name))  # fmt: skip


def compare_command(
    request: Request,
    readings: tuple[str, ...],
    out: str,
) -> str:
    """Write the command that makes a comparison again from the weights in its folder."""
    import shlex

    folder = out.rstrip("/")
    plain = replace(request, weights=f"{folder}/{WEIGHTS}", only=(), skip=(), budget=None)
    words = shlex.split(examine_command(plain, out))
    words[1] = "compare"
    words += ["--other-weights", f"{folder}/{OTHER_WEIGHTS}", "--readings", *readings]
    return shlex.join(words)


def check_place(path: str | Path, argument: str = "--out") -> Path:
    """Check, before anything is computed, that a comparison can be written to a folder.

    Returns:
        The folder; it need not exist yet.

    Raises:
        InputError: it is a file, a mount point, a folder with other content, or cannot be written.

    """
    folder = Path(path)
    try:
        held = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    except OSError:  # said below, as for an examination
        held = set()
    ours = {SUMMARY, MANIFEST} <= held <= WRITTEN and not folder.is_mount()
    if ours:
        # What was written before is replaced as a whole; only its surroundings are checked.
        folder = folder.resolve()
        check_out(folder.with_name(f".whynet-{uuid.uuid4().hex}"), argument)
        return folder
    if held and not folder.is_mount():
        other = ", ".join(map(repr, sorted(held)[:3]))
        raise InputError(
            argument,
            f"the folder {str(path)!r} with other content ({other})",
            "a new folder, an empty one, or one that a comparison wrote",
        )
    return check_out(path, argument)


def comparison_page(report: Report, figures: Mapping[str, str | Failed] | None = None) -> str:
    """Write the report of a comparison: the page of an examination, in other words.

    Args:
        report: what the comparison ended with.
        figures: as for `render_page`.

    """
    words = PageWords("", "It reads both networks from the folder that holds this page.")
    return render_page(report, figures=figures, words=words)


def save_comparison(
    comparison: Comparison, path: str | Path, *, request: Request | None = None
) -> Path:
    """Write report, summary, arrays, figures, both weights and manifest; whole or not at all.

    Args:
        comparison: what to write.
        path: the folder.
        request: what the run was asked; an empty one where it came from Python.

    Returns:
        Path of the report.

    Raises:
        InputError: the folder cannot be used.
        OSError: the disk is full or gone; what was in the folder before is still there.

    """
    folder = check_place(path, "path")
    write_whole(folder, lambda fresh: _write(comparison, fresh, request))
    return Path(path) / REPORT


def _write(comparison: Comparison, folder: Path, request: Request | None) -> None:
    report = comparison.report
    figures = draw_figures(report)
    (folder / REPORT).write_text(comparison_page(report, figures), encoding="utf-8")
    (folder / SUMMARY).write_text(to_json(report), encoding="utf-8")
    (folder / "figures").mkdir()
    for name, picture in figures.items():
        if not isinstance(picture, Failed):
            (folder / "figures" / f"{name}.svg").write_text(picture, encoding="utf-8")
    save_weights(comparison.subject.module, folder / WEIGHTS)
    save_weights(comparison.other.module, folder / OTHER_WEIGHTS)
    asked = request or request_of(comparison)  # type: ignore[arg-type]
    hashes = {role: digest for role, digest in asked.sha256.items() if role not in HASHED}
    hashes |= {role: file_hash(folder / name) for role, name in HASHED.items()}
    values = {**vars(asked), "only": comparison.readings, "sha256": hashes}
    (folder / MANIFEST).write_text(to_toml(Request(**values)), encoding="utf-8")
    tree({"trained": report.outcomes}).to_zarr(folder / RESULTS, consolidated=False)
