"""Files a user names: there, readable and plain, or one sentence."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from whynet.core.errors import InputError
from whynet.models.load.wording import quoted, suggestion


def existing_file(text: str | os.PathLike[str], argument: str, what: str) -> Path:
    """Return the path of a plain readable file.

    Args:
        text: the path as the user wrote it.
        argument: name of the argument it came from.
        what: what is wanted there, with its article (`a file of weights`).

    Raises:
        InputError: nothing is there, or it is a folder, a device, or not readable.

    """
    path = Path(text)
    try:
        found = _flaw(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        found = f"{quoted(path)}, which cannot be looked at ({reason})"
    if found:
        raise InputError(argument, found, what)
    return path


def _flaw(path: Path) -> str:
    if path.is_dir():
        return f"the folder {quoted(path)}"
    if not path.exists():
        folder = path.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return f"no file {quoted(path)}{suggestion(path.name, names)}"
    if not path.is_file():
        return f"{quoted(path)}, which is no plain file"
    if not os.access(path, os.R_OK):
        return f"{quoted(path)}, which may not be read"
    return ""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
