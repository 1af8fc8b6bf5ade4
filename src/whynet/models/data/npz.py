"""`.npz` archives: sizes checked before reading, never unpickled."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from whynet.core.errors import InputError
from whynet.models.data.limits import check_declared
from whynet.models.data.npy import header_of
from whynet.models.data.rows import TARGET_KEYS
from whynet.models.load.wording import listing, printable, quoted

_WANTED = (
    "an archive with the arrays X and y: numpy.savez(path, X=..., y=...); or with labels and the "
    "arrays that the network is called with by name"
)
_MOST_INPUTS = 32


def read_npz(path: Path, argument: str, limit: int | None = None) -> tuple[Any, Any]:
    """Read the arrays X and y; or targets and the arrays that a network is called with by name.

    Where there is neither X nor y, the array `labels` (or `label`, `targets`, `target`) holds the
    targets, and all others are keyword arguments of the network: `numpy.savez(path,
    input_ids=..., attention_mask=..., labels=...)`.

    Args:
        path: the archive.
        argument: name of the argument the path came from.
        limit: bytes both may declare together; half of the memory by default.

    Raises:
        InputError: the arrays are not there, declare too much, or the archive is damaged.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path, argument)
            total = sum(member.file_size for member in members.values())
            check_declared(total, path, argument, limit)
            read = {
                name: _read(archive, member, path, argument) for name, member in members.items()
            }
            targets = read.pop("")
            inputs = read.get("X", read)
    except InputError:
        raise
    except Exception as error:  # a foreign file can make the readers raise anything
        raise _damaged(path, argument, error) from error
    return inputs, targets


def _damaged(path: Path, argument: str, error: Exception) -> InputError:
    found = f"{quoted(path)}, which is damaged ({printable(str(error), 120)})"
    return InputError(argument, found, _WANTED)


def _members(archive: zipfile.ZipFile, path: Path, argument: str) -> dict[str, zipfile.ZipInfo]:
    """Return the members to read: input to its member, and the targets under the name `""`."""
    members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
    plain, target = (
        next((name for name in pair if name in members), None) for pair in (("X", "x"), ("Y", "y"))
    )
    if plain is not None and target is not None:
        return {"X": members[plain], "": members[target]}
    named = next((name for name in TARGET_KEYS if name in members), None)
    if plain is None and target is None and named is not None:
        inputs = {name: member for name, member in members.items() if name != named}
        if 0 < len(inputs) <= _MOST_INPUTS and all(name.isidentifier() for name in inputs):
            return {**inputs, "": members[named]}
    there = list(members)
    found = f"the arrays {listing(there, 10)} in {quoted(path)}" if there else f"no array in {path}"
    raise InputError(argument, found, _WANTED)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, argument: str) -> Any:
    """Read one array whose header agrees with the size the archive declares."""
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        shape, dtype = header_of(stream)
        declared = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise InputError(
                argument,
                f"{quoted(name)} in {quoted(path)}, an array of Python objects (a pickle, never "
                "loaded)",
                "arrays of numbers",
            )
        if min(shape, default=0) < 0 or declared != member.file_size - stream.tell():
            raise InputError(
                argument,
                f"{quoted(name)} of shape {list(shape)[:8]} in {member.file_size} bytes",
                "a shape that agrees with the bytes",
            )
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
