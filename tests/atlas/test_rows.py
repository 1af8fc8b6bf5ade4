"""Values as bytes: exact, small, and nothing but numbers; what comes back is what went in."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from whynet.atlas.rows import (
    MOST_BYTES,
    Identity,
    Record,
    decode,
    encode,
    from_row,
    row_sha256,
    to_row,
)
from whynet.core.errors import InputError

DTYPES = st.sampled_from([np.dtype("f8"), np.dtype("?")])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
VALUES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
        lambda name: name not in ("state", "seed")
    ),
    arrays.arrays(DTYPES, SHAPES)
    | arrays.arrays(np.int64, SHAPES, elements=st.integers(-(2**53), 2**53)),
    max_size=5,
)


@given(VALUES)
@settings(deadline=None)
def test_what_is_encoded_comes_back_bit_by_bit(values: dict[str, np.ndarray[Any, Any]]) -> None:
    content = encode(values)
    back = decode(content)
    assert list(back) == sorted(values)
    for name, array in values.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()
    assert encode(back) == content
    assert encode(dict(reversed(values.items()))) == content


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_bytes_of_anyone_are_refused_in_one_way(content: bytes) -> None:
    with suppress(ValueError):
        decode(content)


def test_narrower_numbers_are_widened_and_order_in_memory_does_not_matter() -> None:
    narrow = {"a": np.float32([0.1, np.nan]), "b": np.uint8([255]), "c": 3, "d": True}
    back = decode(encode(narrow))
    assert [back[n].dtype.name for n in back] == ["float64", "int64", "int64", "bool"]
    assert back["a"][0] == np.float64(np.float32(0.1)) and np.isnan(back["a"][1])
    assert back["c"].shape == ()
    grid = np.arange(6.0).reshape(2, 3)
    assert encode({"a": np.asfortranarray(grid)}) == encode({"a": grid})
    assert encode({"a": grid.astype(">f8")}) == encode({"a": grid})
    assert encode({"a": np.float64(-0.0)}) != encode({"a": np.float64(0.0)})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"a": np.array([object()])}, "a of object"),
        ({"a": np.array(["text"])}, "a of <U4"),
        ({"a": np.array([1j])}, "a of complex128"),
        ({"a": np.array([1], "u8")}, "a of uint64"),
        ({"a": np.array(["2026-01-01"], "M8[D]")}, "a of datetime64"),
        ({"a": np.array([2**53 + 1])}, "beyond 2\\^53"),
        ({"a": np.array([-(2**63)])}, "beyond 2\\^53"),
        ({"a": np.zeros((1,) * 9)}, "with 9 axes"),
        ({"a": np.zeros(MOST_BYTES // 8 + 1)}, "bytes in one cell"),
        ({"a": np.zeros(2**16), "b": np.zeros(2**16 + 1)}, "bytes in one cell"),
        ({"A": np.zeros(1)}, "an array named 'A'"),
        ({"../a": np.zeros(1)}, "an array named"),
        ({"state": np.zeros(1)}, "an array named 'state'"),
        ({"a" * 65: np.zeros(1)}, "an array named"),
        ({f"a{i}": np.zeros(1) for i in range(257)}, "257 arrays"),
    ],
)
def test_what_is_no_small_array_of_numbers_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        encode(values)


def crafted(header: Any, body: bytes = b"") -> bytes:
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(words)) + words + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff\xff\xff[]",
        crafted([["a", "object", [1]]], b"\0" * 8),
        crafted([["a", "float64", [2**62]]]),
        crafted([["a", "float64", [2**40, 0]]]),
        crafted([["a", "float64", [-1]]]),
        crafted([["a", "float64", [1.0]]], b"\0" * 8),
        crafted([["a", "float64", [True]]], b"\0" * 8),
        crafted([["a", "float64", [10**400]]]),
        crafted([["a", "float64", [2]]], b"\0" * 8),
        crafted([["a", "float64", []]], b"\0" * 9),
        crafted([["a", "bool", []]], b"\2"),
        crafted([["b", "bool", []], ["a", "bool", []]], b"\0\0"),
        crafted([["a", "bool", []], ["a", "bool", []]], b"\0\0"),
        crafted([["../a", "bool", []]], b"\0"),
        crafted([["a", "float64", [1] * 9]], b"\0" * 8),
        crafted({"a": 1}),
        crafted(b"[" * 60_000),
        crafted(b" " * 70_000),
        crafted([], b"\0" * (2 * MOST_BYTES)),
    ],
)
def test_hostile_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(content)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Record("k", "maybe"), "done or failed"),  # type: ignore[arg-type]
        (Record("k", "done"), "0 arrays of a cell that is done"),
        (Record("k", "failed", {"a": np.zeros(1)}), "1 arrays of a cell that is failed"),
        (Record("k", "failed", seconds=-1.0), "seconds"),
        (Record("k", "failed", seconds=float("nan")), "seconds"),
        (Record("k\n", "failed"), "key"),
        (Record("k" * 70_000, "failed"), "key"),
        (Record("k", "failed", group="\x1b[31m"), "group"),
    ],
)
def test_records_out_of_range_are_refused(record: Record, words: str) -> None:
    with pytest.raises(InputError, match=words):
        to_row(record)


def test_a_reason_of_any_length_and_content_is_kept_at_its_end() -> None:
    reason = "\0\ud800" + "x" * 100_000 + "ZeroDivisionError: the end"
    kept = from_row(to_row(Record("k", "failed", reason=reason))).reason
    assert kept.endswith("the end") and len(kept) <= 2**16
    assert from_row(to_row(Record("k", "failed", reason="a\ud800"))).reason == "a\\ud800"


def test_the_hash_of_a_row_is_over_everything() -> None:
    identity = Identity("a", 1)
    row = to_row(Record("k", "done", {"a": np.zeros(2)}, "r", "g", 1.5))
    others = [(*row[:i], new, *row[i + 1 :]) for i, new in enumerate("lfsh")]
    others += [(*row[:4], 2.5, row[5]), (*row[:5], row[5] + b"\0"), ("kd", "one", *row[2:])]
    hashes = {row_sha256(identity, "cells", r) for r in [row, *others]}
    hashes |= {row_sha256(i, "cells", row) for i in (Identity("a", 2), Identity("a", 1, "s"))}
    hashes.add(row_sha256(identity, "predictions", row))
    assert len(hashes) == 1 + len(others) + 3
