"""Looking through a folder of arrays from anyone before a single one is read.

Only the kinds of arrays that measurements are made of are let through: numbers and text, in the
one format they are written in, none larger than measurements are, and no chunk that unpacks to
more than its description says.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

MOST_NUMBERS: Final = 2**27
"""In all arrays of a folder together."""

MOST_FILES: Final = 100_000
_MOST_METADATA = 2**20
_CHECKSUM: Final = 4
"""Bytes that crc32c puts behind a chunk."""

_MOST_TEXT = 2**24
_SIZES: Final = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4,
    "int64": 8, "uint64": 8, "float32": 4, "float64": 8, "string": 0,
}  # fmt: skip
"""Dtype to the bytes of an entry; text has no fixed size."""

_ZSTD = b"\x28\xb5\x2f\xfd"


def check_store(place: Path) -> None:
    """Refuse a folder of arrays that holds anything but measurements.

    Args:
        place: the folder, in the third format of Zarr.

    Raises:
        ValueError: the sentence says what is in it that is not let through.

    """
    files = [path for path in place.rglob("*") if not path.is_dir() or path.is_symlink()]
    if len(files) > MOST_FILES:
        raise ValueError(f"{len(files):,} files, of at most {MOST_FILES:,}")
    for file in files:
        if file.is_symlink() or not file.is_file():
            raise ValueError(f"{file.name!r}, which is a link or no plain file")
    held = 0
    for file in files:
        if file.name == "zarr.json":
            held += _check_node(file)
            if held > MOST_NUMBERS:
                raise ValueError(f"{held:,} numbers, of at most {MOST_NUMBERS:,}")


def _check_node(file: Path) -> int:
    """Check one description; returns how many numbers reading its array would hold."""
    if file.stat().st_size > _MOST_METADATA:
        raise ValueError(f"a description of {file.stat().st_size:,} bytes")
    about = json.loads(file.read_bytes())
    if about["node_type"] == "group":
        return 0
    if about["node_type"] != "array" or about["zarr_format"] != 3:
        raise ValueError(f"a node of type {about['node_type']!r}")
    dtype, chunk = about["data_type"], about["chunk_grid"]["configuration"]["chunk_shape"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise ValueError(f"an array of dtype {dtype!r}, of which measurements have none")
    if about["chunk_grid"]["name"] != "regular" or about.get("storage_transformers"):
        raise ValueError("an array that is stored in another way than measurements are")
    _check_codecs(about["codecs"], dtype)
    for size in (*about["shape"], *chunk):
        if type(size) is not int or size < 0:
            raise ValueError(f"an axis of {size!r} entries")
    numbers: int = max(math.prod(about["shape"]), math.prod(chunk))
    if numbers <= MOST_NUMBERS:
        most = _MOST_TEXT if dtype == "string" else _SIZES[dtype] * math.prod(chunk)
        names = [codec["name"] for codec in about["codecs"]]
        packed = "zstd" in names
        most += _CHECKSUM * names.count("crc32c")
        for part in file.parent.rglob("*"):
            if part.is_file() and part != file:
                _check_chunk(part, most, packed)
    return numbers


def _check_codecs(codecs: list[Any], dtype: str) -> None:
    names = [codec["name"] for codec in codecs]
    serializer = "vlen-utf8" if dtype == "string" else "bytes"
    if names not in ([serializer], [serializer, "zstd"], [serializer, "crc32c"]):
        allowed = f"{serializer}, then zstd or crc32c"
        raise ValueError(f"an array in the codecs {names}, of which {allowed} are let in")


def _check_chunk(part: Path, most: int, packed: bool) -> None:
    """Refuse a chunk that unpacks to more bytes than its array's description says."""
    size = part.stat().st_size
    if size > most + _MOST_METADATA:
        raise ValueError(f"a chunk of {size:,} bytes on disk, where its array has {most:,}")
    if packed:
        size = _unpacked(part.read_bytes())
    if size > most:
        raise ValueError(f"a chunk of {size:,} bytes, where its array has {most:,}")


def _unpacked(content: bytes) -> int:
    """Read to how many bytes the one Zstandard frame of a chunk unpacks (RFC 8878, 3.1.1).

    Its blocks are stepped over, not unpacked: a second frame behind them would unpack as well.
    """
    if content[:4] != _ZSTD or len(content) < 6:
        raise ValueError("a chunk that is no Zstandard frame")
    descriptor = content[4]
    flag, single = descriptor >> 6, bool(descriptor & 0x20)
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    length = (1 if single else 0, 2, 4, 8)[flag]
    if length == 0:
        raise ValueError("a chunk that does not say to how many bytes it unpacks")
    size = int.from_bytes(content[start : start + length], "little")
    place, last = start + length, False
    while not last and place + 3 <= len(content):
        block = int.from_bytes(content[place : place + 3], "little")
        last, repeated = bool(block & 1), (block >> 1) & 3 == 1
        place += 3 + (1 if repeated else block >> 3)
    if not last or place + (4 if descriptor & 4 else 0) != len(content):
        raise ValueError("a chunk of more or less than one whole Zstandard frame")
    return size + 256 if length == 2 else size
