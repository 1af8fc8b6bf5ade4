"""`.npz` archives with the arrays X and y: sizes checked before reading, never unpickled."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from whynet.core.errors import InputError
from whynet.models.data.limits import check_declared
from whynet.models.data.npy import header_of
from whynet.models.load.wording import listing, printable, quoted

_WANTED = "an archive with the arrays X and y: numpy.savez(path, X=..., y=...)"


def read_npz(path: Path, argument: str, limit: int | None = None) -> tuple[Any, Any]:
    """Read the arrays X and y.

    Args:
        path: the archive.
        argument: name of the argument the path came from.
        limit: bytes both may declare together; half of the memory by default.

    Raises:
        InputError: the arrays are not there, declare too much, or the archive is damaged.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [_member(archive, name, path, argument) for name in ("X", "y")]
            check_declared(sum(member.file_size for member in members), path, argument, limit)
            inputs, targets = (_read(archive, member, path, argument) for member in members)
    except InputError:
        raise
    except Exception as error:  # a foreign file can make the readers raise anything
        raise _damaged(path, argument, error) from error
    return inputs, targets


def _damaged(path: Path, argument: str, error: Exception) -> InputError:
    found = f"{quoted(path)}, which is damaged ({printable(str(error), 120)})"
    return InputError(argument, found, _WANTED)


def _member(archive: zipfile.ZipFile, name: str, path: Path, argument: str) -> zipfile.ZipInfo:
    members = {member.filename: member for member in archive.infolist()}
    for candidate in (name.upper(), name.lower()):
        if f"{candidate}.npy" in members:
            return members[f"{candidate}.npy"]
    there = [filename.removesuffix(".npy") for filename in members]
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
