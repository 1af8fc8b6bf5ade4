"""Jobs and outcomes are plain data, and what comes back is not trusted."""

from __future__ import annotations

import json
import re
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.atlas.runs import CLAIM, FILE

from whynet.atlas.execution import Execution
from whynet.atlas.jobs import Job, Outcome, records_of, source_text
from whynet.atlas.registry import find_claim
from whynet.atlas.rows import encode
from whynet.core.claim import Cell
from whynet.core.errors import InputError

VALUES: Any = st.one_of(
    st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


def cells(*seeds: int) -> tuple[Cell, ...]:
    return tuple(Cell("c", 1, {"width": 3, "gamma": 0.1}, seed) for seed in seeds)


def job(*seeds: int) -> Job:
    return Job("experiment", "some.module", None, None, "g", cells(*seeds))


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4), st.binary())
def test_a_job_comes_out_as_it_went_in(parameters: Any, text: bytes) -> None:
    sent = Job("predict", "f.py:CLAIM", "00", text, "g", (Cell("c", 2, parameters, 3),))
    assert Job.from_bytes(sent.to_bytes()) == sent
    assert Job.from_bytes(sent.to_bytes()).cells[0].key == sent.cells[0].key
    json.loads(sent.to_bytes())


@given(st.lists(st.one_of(st.binary(max_size=50), st.text(max_size=50)), max_size=5))
def test_an_outcome_comes_out_as_it_went_in(found: Any) -> None:
    sent = Outcome(tuple(found), 1.5)
    assert Outcome.from_bytes(sent.to_bytes()) == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_an_outcome_or_a_value_error(content: bytes) -> None:
    framed = struct.pack("<I", len(content)) + content
    for one in (content, framed):
        with suppress(ValueError):
            Outcome.from_bytes(one)


@pytest.mark.parametrize(
    "header",
    [
        {"seconds": 1, "cells": [-1]},
        {"seconds": 1, "cells": [10**9]},
        {"seconds": 1, "cells": [True]},
        {"seconds": -1, "cells": []},
        {"seconds": "x", "cells": []},
        {"cells": []},
        [],
    ],
)
def test_a_header_is_not_trusted(header: Any) -> None:
    words = json.dumps(header).encode()
    with pytest.raises(ValueError):
        Outcome.from_bytes(struct.pack("<I", len(words)) + words)


def test_only_finite_values_of_one_form_are_done() -> None:
    good = encode({"x": np.float64(1), "n": np.int64(2)})
    bad = encode({"x": np.float64(np.nan), "n": np.int64(2)})
    other = encode({"x": np.zeros(2), "n": np.int64(2)})
    outcome = Outcome((good, bad, other, "told", b"rubbish"), 10.0)
    records = records_of(job(0, 1, 2, 3, 4), outcome)
    assert [record.state for record in records] == ["done", *["failed"] * 4]
    assert [r.key for r in records] == [cell.key for cell in cells(0, 1, 2, 3, 4)]
    assert records[1].reason == "experiment: x is not finite."
    assert re.search(r"it has n \w+\[\], x \w+\[2\], and the first", records[2].reason)
    assert records[3].reason == "told" and records[0].seconds == 2.0
    assert "cannot be used" in records[4].reason


def test_nan_is_allowed_where_the_claim_says_so_and_infinity_never() -> None:
    found = Outcome(tuple(encode({"x": np.array([1.0, v])}) for v in (np.nan, np.inf)))
    records = records_of(job(0, 1), found, undefined=("x",))
    assert [record.state for record in records] == ["done", "failed"]


def test_another_number_of_results_fails_all() -> None:
    records = records_of(job(0, 1), Outcome((encode({"x": np.ones(1)}),)))
    assert [record.reason for record in records] == ["1 results came back for 2 cells."] * 2


def test_the_source_goes_along_and_must_be_that_of_the_start(tmp_path: Any) -> None:
    entry = find_claim(CLAIM)
    reference, text = source_text(entry)
    assert reference == CLAIM and text == FILE.read_bytes()
    copy = tmp_path / "mine.py"
    copy.write_bytes(FILE.read_bytes())
    entry = find_claim(f"{copy}:CLAIM")
    copy.write_text("changed")
    with pytest.raises(InputError, match="which has changed"):
        source_text(entry)
    copy.unlink()
    with pytest.raises(InputError, match="No such file"):
        source_text(entry)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": True}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"budget": float("inf")}, "budget"),
        ({"scheduler": ""}, "scheduler"),
        ({"scheduler": "tcp://"}, "scheduler"),
        ({"scheduler": "tcp://[::1"}, "scheduler"),
        ({"scheduler": "tcp://10.0.0.7:8786"}, "scheduler"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(words: Any, named: str) -> None:
    with pytest.raises(InputError) as refused:
        Execution(**words)
    assert str(refused.value).startswith(f"{named}: found ")
