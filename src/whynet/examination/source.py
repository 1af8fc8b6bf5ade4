"""From references to a subject: files, built-in names and hashes resolved once."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whynet.core.budget import parse_bytes
from whynet.core.errors import InputError
from whynet.examination.manifest import BATCH_SIZE, Request, option
from whynet.models.data.load import load_data
from whynet.models.joint_checks import check_outputs
from whynet.models.load.model import load_model
from whynet.models.load.reference import is_code
from whynet.models.load.training import load_trainer
from whynet.models.load.weights import load_weights
from whynet.models.losses import load_loss
from whynet.models.memory import affordable_batch, usual_batch
from whynet.models.preservation import preserved
from whynet.models.subject import Split, Subject
from whynet.models.threads import advised_threads, threads
from whynet.models.trajectory import Trajectory
from whynet.training.builtin import builtin_module, builtin_names, load_builtin

Announce = Callable[[str], None]
TrainingProgress = Callable[[int, int, float], None]

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Loaded:
    """A subject and the request it came from, hashes filled in."""

    subject: Subject
    request: Request

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute inside with as many threads as were asked for, or as the network is worth."""
        with threads(self.request.threads or advised_threads(self.subject)):
            yield


def load_subject(
    request: Request,
    *,
    announce: Announce,
    progress: TrainingProgress | None = None,
    name: str = "",
) -> Loaded:
    """Resolve every reference of a request and check what came in against its hashes.

    Args:
        request: what the user asked.
        announce: told before code of the user runs.
        progress: told after every epoch where a built-in subject is trained.
        name: how the subject is called; its target by default.

    Raises:
        InputError: a reference leads nowhere, files do not fit together, or a recorded hash
            differs from the file's.

    """
    device = _device(request.device)
    dtype = None if request.dtype is None else _dtype(request.dtype)
    values, hashes, notes = _referred(request, announce, progress)
    try:
        subject = Subject(
            values.pop("module"),
            **values,
            name=name or _display_name(request.target),
            output=request.output,
            device=device,
            dtype=dtype,
            batch_size=request.batch_size,
            notes=tuple(notes),
        )
    except InputError as error:
        raise InputError(_as_option(error.argument), error.found, error.wanted) from error
    rows = _batch(subject, request)
    if rows < subject.batch_size:
        subject = subject.replaced(subject.module, batch_size=rows)
        request = replace(request, batch_size=rows)
    for split in ("train", "test"):
        data = getattr(subject, split)
        if data is not None:
            hashes[split] = data.sha256
    for role, digest in hashes.items():
        recorded = request.sha256.get(role)
        if recorded is not None and recorded != digest:
            raise InputError(
                option(role),
                f"content of SHA-256 {digest[:12]}…",
                f"the recorded {recorded[:12]}…, of the run that is repeated",
            )
    loaded = Loaded(subject, replace(request, sha256={**request.sha256, **hashes}))
    _check_outputs(loaded)
    return loaded


def _batch(subject: Subject, request: Request) -> int:
    """Return rows in memory at a time: what is asked for, or what fits where nothing is."""
    if request.memory is not None:
        return affordable_batch(subject, parse_bytes(request.memory))
    return usual_batch(subject) if request.batch_size == BATCH_SIZE else request.batch_size


def _check_outputs(loaded: Loaded) -> None:
    """Refuse, before anything is measured, a network whose outputs are not finite on its data."""
    splits: tuple[Split, ...] = ("train", "test")
    try:
        with loaded.computing(), preserved():
            for split in splits:
                if getattr(loaded.subject, split) is not None:
                    check_outputs(loaded.subject, split)
    except InputError as error:
        raise InputError(_as_option(error.argument), error.found, error.wanted) from error


def _referred(
    request: Request, announce: Announce, progress: TrainingProgress | None
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Resolve the references of a request to values of `Subject`, hashes and notes."""
    if request.target in builtin_names():
        values, hashes, notes = _builtin(request, announce, progress)
    else:
        values, hashes, notes = _own(request, announce)
    if request.trajectory is not None:
        values["trajectory"] = Trajectory.load(request.trajectory, option("trajectory"))
        hashes["trajectory"] = _file_hash(request.trajectory)
    return values, hashes, notes


def _builtin(
    request: Request, announce: Announce, progress: TrainingProgress | None
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    for role in ("train", "test", "loss", "train_with"):
        if getattr(request, role) is not None:
            raise InputError(
                option(role),
                repr(getattr(request, role)),
                f"none beside the built-in subject {request.target!r}, which brings its own",
            )
    hashes: dict[str, str] = {}
    notes: list[str] = []
    state = None
    if request.weights is not None:
        blank = _blank(request.target)
        notes += load_weights(request.weights, blank, "--weights")
        hashes["weights"] = _file_hash(request.weights)
        state = blank.state_dict()
    built = load_builtin(request.target, progress=progress, module_state=state)
    initial: Any = built.initial_state
    if request.init_weights is not None:
        blank = _blank(request.target)
        notes += load_weights(request.init_weights, blank, "--init-weights")
        hashes["init_weights"] = _file_hash(request.init_weights)
        initial = blank.state_dict()
    values = {
        "module": built.module,
        "train": built.train,
        "test": built.test,
        "loss": built.loss,
        "initial": initial,
        "trainer": built.trainer,
    }
    return values, hashes, [*built.notes, *notes]


def _blank(name: str) -> nn.Module:
    """Build a built-in network for weights to come, without moving the random generator."""
    with preserved():
        return builtin_module(name).build()


def _own(request: Request, announce: Announce) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    if not is_code(request.target) and not request.target.endswith((".py", ".pt", ".pth", ".ckpt")):
        near = difflib.get_close_matches(request.target, builtin_names(), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(
            "TARGET",
            repr(request.target),
            f"file.py:name, package.module:name, model.pt2, or one of "
            f"{', '.join(builtin_names())}{hint}",
        )
    if request.train is None and request.test is None:
        raise InputError("--test", "neither training nor test data", "at least one of the two")
    loaded = load_model(request.target, "TARGET", announce=announce)
    hashes, notes = {"target": loaded.sha256}, list(loaded.notes)
    initial = None
    if request.init_weights is not None:
        blank = load_model(request.target, "TARGET", announce=lambda message: None)
        notes += load_weights(request.init_weights, blank.module, "--init-weights")
        hashes["init_weights"] = _file_hash(request.init_weights)
        initial = blank.module
    if request.weights is not None:
        notes += load_weights(request.weights, loaded.module, "--weights")
        hashes["weights"] = _file_hash(request.weights)
    else:
        notes.append("No --weights were given: the network is examined as its code makes it.")
    values: dict[str, Any] = {"module": loaded.module, "initial": initial}
    for role in ("train", "test"):
        reference = getattr(request, role)
        if reference is not None:
            values[role] = load_data(
                reference, argument=option(role), target=request.target_column, announce=announce
            )
    values["loss"] = load_loss(
        request.loss or "cross_entropy", announce=announce, argument="--loss"
    )
    if values["loss"].sha256:
        hashes["loss"] = values["loss"].sha256
    if request.train_with is not None:
        values["trainer"], hashes["train_with"] = load_trainer(
            request.target, request.train_with, announce=announce
        )
    return values, hashes, notes


def _as_option(argument: str) -> str:
    """Call an argument of `Subject` as the command line does."""
    field = {"model": "target", "initial": "init_weights"}.get(argument, argument)
    return option(field) if field in vars(Request()) else argument


def _display_name(target: str) -> str:
    return Path(target).name if is_code(target) else target


def _file_hash(path: str) -> str:
    file = Path(path)
    if not file.is_file():
        return hashlib.sha256(path.encode()).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise InputError("--dtype", repr(name), f"one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise InputError(
            "--device", f"{name!r} ({reason})", "a device that is here, such as cpu"
        ) from error
    return device
