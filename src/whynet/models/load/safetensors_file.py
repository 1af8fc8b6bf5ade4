"""Reading safetensors: no code, only names, shapes and bytes."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.load.wording import printable, quoted

_HEADER_LIMIT = 16 * 2**20


def read_safetensors(path: Path, argument: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name, mapped, not copied.

    Raises:
        InputError: the file is damaged, or its header is too long to be one.

    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    wanted = "a whole file in safetensors format"
    if not 2 <= header <= min(size - 8, _HEADER_LIMIT):
        raise InputError(
            argument, f"{quoted(path)} with a header of {header} bytes in {size}", wanted
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as archive:
            return {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except Exception as error:  # the reader has its own types for a foreign file
        raise InputError(
            argument,
            f"{quoted(path)}, which is damaged ({printable(str(error), 120)})",
            wanted,
        ) from error


def is_safetensors(start: bytes, path: Path) -> bool:
    """Whether a file's first bytes, or its name, say safetensors."""
    return path.suffix == ".safetensors" or (len(start) > 8 and start[8:9] == b"{")
