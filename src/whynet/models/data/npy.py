"""A pair of `.npy` files: mapped, never read as a whole, never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from whynet.core.errors import InputError
from whynet.models.load.paths import existing_file
from whynet.models.load.wording import printable, quoted

_WANTED = "two files after a comma: X.npy,y.npy"


def read_npy(reference: str, argument: str) -> tuple[Any, Any]:
    """Map the inputs and targets of `X.npy,y.npy`.

    Raises:
        InputError: there are not two files, or one is damaged or holds Python objects.

    """
    first, comma, second = reference.partition(".npy,")
    if not comma:
        raise InputError(argument, f"{quoted(reference)}, one .npy file", _WANTED)
    return _mapped(f"{first}.npy", argument), _mapped(second, argument)


def _mapped(text: str, argument: str) -> Any:
    path = existing_file(text, argument, _WANTED)
    wanted = "a whole array of numbers in .npy format"
    with path.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise InputError(argument, f"{quoted(path)}, which is no .npy file", wanted)
    try:
        return _open(path)
    except Exception as error:  # a foreign file can make the reader raise anything
        if "object" in str(error).lower():
            found = f"{quoted(path)}, an array of Python objects (a pickle, never loaded)"
        else:
            found = f"{quoted(path)}, which is damaged ({printable(str(error), 120)})"
        raise InputError(argument, found, wanted) from error


def _open(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "empty file" in str(error) or "length" in str(error):
            array = np.load(path, mmap_mode=None, allow_pickle=False) if _is_empty(path) else None
            if array is not None:
                return array
        raise


def _is_empty(path: Path) -> bool:
    """Whether the header declares an array without entries, which cannot be mapped."""
    with path.open("rb") as stream:
        return 0 in header_of(stream)[0]


def header_of(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an array in `.npy` format; returns shape and dtype.

    Raises:
        ValueError: the header is none.

    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype
