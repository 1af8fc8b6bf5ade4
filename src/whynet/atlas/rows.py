"""Values of a cell as bytes, and the SHA-256 that a row of the store carries.

Bytes, not pickles: a store may come from anyone. A header in JSON names the arrays, then come
their numbers, little-endian and in C order.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np

from whynet.core.claim import Values
from whynet.core.errors import InputError

MOST_BYTES: Final = 2**20
"""Of all arrays of a cell; more is no small result but a data set."""

MOST_TEXT: Final = 2**16
"""Bytes of a key, and of the reason why a cell failed."""

MOST_ARRAYS, MOST_AXES = 256, 8
EXACT: Final = 2**53
"""Whole numbers up to here are exact in float64, the type of the tables."""

_STORED: Final = {"float64": "<f8", "int64": "<i8", "bool": "|b1"}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TAKEN: Final = frozenset({"state", "seed"})
_WANTED: Final = "small arrays of float64, int64 or bool"


@dataclass(frozen=True)
class Identity:
    """Whose results a store holds.

    Attributes:
        claim: id of the claim.
        version: its version.
        source: SHA-256 of a user's file; None for a claim of the catalogue.

    """

    claim: str
    version: int
    source: str | None = None


@dataclass(frozen=True)
class Record:
    """What the store knows of a cell.

    Attributes:
        key: canonical key of the cell.
        state: whether it has values.
        values: arrays by name, the same names, types and shapes for all cells; none if failed.
        reason: why it failed.
        group: the group it ran in.
        seconds: how long it took, by a monotonic clock.

    """

    key: str
    state: Literal["done", "failed"]
    values: Values = field(default_factory=dict)
    reason: str = ""
    group: str = ""
    seconds: float = 0.0


Row = tuple[str, str, str, str, float, bytes]
"""A record as it is stored: key, state, reason, group, seconds, encoded values."""


def to_row(record: Record) -> Row:
    """Encode a record; the sentence of a refusal names the array.

    Raises:
        InputError: a value is no small array of numbers, or a field is out of its range.

    """
    if record.state not in ("done", "failed"):
        raise InputError("state", repr(record.state), "done or failed")
    if (record.state == "done") != bool(record.values):
        found = f"{len(record.values)} arrays of a cell that is {record.state}"
        raise InputError("values", found, "arrays of a cell that is done, and of no other")
    seconds = float(record.seconds) + 0.0  # the database does not keep a negative zero
    if not 0 <= seconds < math.inf:
        raise InputError("seconds", f"{seconds!r}", "a finite number, at least 0")
    key, group = record.key, record.group
    for name, text in (("key", key), ("group", group)):
        if len(text.encode("utf-8", "backslashreplace")) > MOST_TEXT or not text.isprintable():
            raise InputError(name, f"{text[:40]!r}", "printable text of at most 64 KiB")
    reason = record.reason.encode("utf-8", "backslashreplace")[-MOST_TEXT:]
    kept = reason.decode("utf-8", "ignore").replace("\0", "")
    return key, record.state, kept, group, seconds, encode(record.values)


def from_row(row: Row) -> Record:
    """Decode a record.

    Raises:
        ValueError: it holds what no record holds.

    """
    key, state, reason, group, seconds, content = row
    values = decode(content)
    if state == "done" and values:
        return Record(key, "done", values, reason, group, seconds)
    if state == "failed" and not values:
        return Record(key, "failed", {}, reason, group, seconds)
    raise ValueError("a state that does not fit its values")


def encode(values: Values) -> bytes:
    """Return arrays as bytes; the same arrays give the same bytes everywhere.

    Numbers of narrower types are widened where that is exact.

    Raises:
        InputError: an array is not small, not of numbers, or its name is none.

    """
    if len(values) > MOST_ARRAYS:
        raise InputError("values", f"{len(values):,} arrays", f"at most {MOST_ARRAYS}")
    arrays = {name: _stored(name, values[name]) for name in sorted(values)}
    header = [[n, _dtype_name(a), list(a.shape)] for n, a in arrays.items()]
    words = json.dumps(header, separators=(",", ":")).encode("ascii")
    if sum(array.nbytes for array in arrays.values()) > MOST_BYTES:
        size = sum(array.nbytes for array in arrays.values())
        raise InputError("values", f"{size:,} bytes in one cell", f"at most {MOST_BYTES:,}")
    return b"".join([struct.pack("<I", len(words)), words, *(a.tobytes() for a in arrays.values())])


def decode(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays that `encode` made bytes of.

    Raises:
        ValueError: the bytes are not of this form.

    """
    words = header_of(content)
    values, place = {}, 4 + len(words)
    for name, code, shape in _layout(words):
        dtype = np.dtype(code)
        end = place + dtype.itemsize * math.prod(shape)
        if end > len(content):
            raise ValueError("fewer bytes than its header says")
        array = np.frombuffer(content[place:end], np.uint8 if code == "|b1" else dtype)
        if code == "|b1":
            if array.size and array.max() > 1:
                raise ValueError("a truth value that is neither true nor false")
            array = array.astype(bool)
        values[name] = array.astype(dtype.newbyteorder("=")).reshape(shape)
        place = end
    if place != len(content):
        raise ValueError("more bytes than its header says")
    return values


def header_of(content: bytes) -> bytes:
    """Return the part that says names, types and shapes; equal where these are.

    Raises:
        ValueError: there is none.

    """
    if len(content) < 4 or len(content) > 2 * MOST_BYTES:
        raise ValueError(f"{len(content):,} bytes of values")
    length = int.from_bytes(content[:4], "little")
    if not 2 <= length <= len(content) - 4:
        raise ValueError("a header that is longer than the values")
    return content[4 : 4 + length]


@lru_cache(maxsize=64)
def _layout(words: bytes) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Read a header; nothing in it is trusted."""
    if len(words) > MOST_TEXT:
        raise ValueError("a header of more than 64 KiB")
    try:
        header = json.loads(words)
        found = tuple((str(n), _STORED[d], tuple(s)) for n, d, s in header)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError("a header that is none") from error
    names = [name for name, _, _ in found]
    if names != sorted(set(names)) or not all(map(_NAME.fullmatch, names)):
        raise ValueError("names of arrays that are none")
    for _, code, shape in found:
        if len(shape) > MOST_AXES or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError("a shape that is none")
        if max(shape, default=0) > MOST_BYTES or math.prod(shape) > MOST_BYTES // int(code[-1]):
            raise ValueError("an array of more than a cell's bytes")
    return found


def describe(header: bytes) -> str:
    """Return names, types and shapes in words."""
    parts = (f"{name} {code[1:]}{list(shape)}" for name, code, shape in _layout(header))
    return ", ".join(parts)


def _stored(name: str, value: Any) -> np.ndarray[Any, Any]:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
        raise InputError("values", f"an array named {name!r}", "a name in snake_case")
    array = np.asarray(value)
    kind = {"f": "float64", "i": "int64", "u": "int64", "b": "bool"}.get(array.dtype.kind, "")
    if not kind or not np.can_cast(array.dtype, kind, "safe") or array.ndim > MOST_AXES:
        found = f"{name} of {array.dtype} with {array.ndim} axes"
        raise InputError("values", found, _WANTED)
    if kind == "int64" and array.size and max(abs(int(array.max())), abs(int(array.min()))) > EXACT:
        found = f"{name} with a whole number beyond 2^53"
        raise InputError("values", found, "numbers that float64 holds exactly")
    return np.ascontiguousarray(array, dtype=_STORED[kind]).reshape(array.shape)


def _dtype_name(array: np.ndarray[Any, Any]) -> str:
    return {"f": "float64", "i": "int64", "b": "bool"}[array.dtype.kind]


def row_sha256(identity: Identity, table: str, row: Row) -> bytes:
    """Return the hash a row carries: over whose it is, where it stands, its key and all columns."""
    key, state, reason, group, seconds, content = row
    digest = hashlib.sha256(_told(identity))
    for part in (table, key, state, reason, group):
        text = part.encode("utf-8")
        digest.update(struct.pack("<Q", len(text)) + text)
    digest.update(struct.pack("<d", seconds) + struct.pack("<Q", len(content)) + content)
    return digest.digest()


@lru_cache(maxsize=16)
def _told(identity: Identity) -> bytes:
    return hashlib.sha256(to_json(identity_content(identity))).digest()


def identity_content(identity: Identity) -> dict[str, Any]:
    """Return an identity as plain data."""
    return {
        "claim": identity.claim,
        "source": identity.source,
        "version": identity.version,
    }


def to_json(content: Mapping[str, Any]) -> bytes:
    """Return canonical JSON."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")
