"""The surroundings in which a user's code runs, put back afterwards."""

from __future__ import annotations

import importlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from whynet.core.seeds import seed_from

_siblings: dict[str, Path] = {}
"""Modules that earlier user files imported from their own folder, and that folder."""


@contextmanager
def user_environment(folder: Path | None, *, reseed: bool = True) -> Iterator[None]:
    """Run a user's code: imports, seeds and global settings are as before when it is done.

    `folder` stands last on `sys.path`, so that a file beside the user's never hides an installed
    package, and the working folder does not stand there at all. Random generators start from a
    fixed seed, so that the same reference builds the same network in every process. No byte code
    is written.

    Args:
        folder: where the user's file may import from; None adds nothing.
        reseed: whether generators start from the fixed seed; else the caller has seeded them.

    """
    path, bytecode, place = list(sys.path), sys.dont_write_bytecode, Path.cwd()
    known = set(sys.modules)
    sys.path[:] = [entry for entry in path if not _is_working_folder(entry, place)]
    if folder is not None:
        folder = folder.resolve()
        _forget_other_folders(folder)
        sys.path.append(str(folder))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        random_state = _random_state(seed_from("user-code")) if reseed else nullcontext()
        with random_state, _torch_settings():
            yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode
        os.chdir(place)
        if folder is not None:
            _remember_siblings(set(sys.modules) - known, folder)


def _is_working_folder(entry: str, place: Path) -> bool:
    if entry == "":
        return True
    try:
        return Path(entry).resolve() == place
    except (OSError, RuntimeError):
        return False


def _forget_other_folders(folder: Path) -> None:
    """Drop modules another folder brought, lest its `layers.py` stand in for this one's."""
    for name, home in list(_siblings.items()):
        if home != folder:
            sys.modules.pop(name, None)
            del _siblings[name]


def _remember_siblings(names: set[str], folder: Path) -> None:
    for name in names:
        origin = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(origin, str) and Path(origin).is_relative_to(folder):
            _siblings[name] = folder


@contextmanager
def _random_state(seed: int) -> Iterator[None]:
    plain, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - put back below
    with _torch_random_state(seed):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what the user's code may draw from
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(legacy)  # noqa: NPY002 - as it was


def _loaded() -> bool:
    """Whether torch was imported: code that does not use it does not pay for it."""
    return "torch" in sys.modules


@contextmanager
def _torch_random_state(seed: int) -> Iterator[None]:
    if not _loaded():
        yield
        return
    import torch

    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if started else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _torch_settings() -> Iterator[None]:
    if not _loaded():
        yield
        return
    import torch

    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    gradient = torch.is_grad_enabled()
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradient)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
