from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whynet.core.budget import parse_bytes, parse_seconds
from whynet.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        (" 3 m ", 180.0),
        ("0.5", 0.5),
        ("7.s", 7.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1000", 1000),
        ("500M", 500 * 2**20),
        ("2G", 2 * 2**30),
        ("4GiB", 4 * 2**30),
        ("4gb", 4 * 2**30),
        ("1.5k", 1536),
        ("8B", 8),
    ],
)
def test_amounts_of_memory(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


BAD = ["", "m", "-1", "0", "0s", "nan", "inf", "1e3", "2 minutes", "1h30m", "1,5h", "9" * 40]


@pytest.mark.parametrize("text", BAD)
def test_bad_durations_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_seconds(text)
    assert str(error.value) == (
        f"--budget: found {text!r}; wanted a duration such as 90s, 2m or 1h, above zero."
    )


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "0.2", "2T", "1e9", "two", "nan", "2 G G"])
def test_bad_amounts_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_bytes(text, "memory")
    assert str(error.value) == (
        f"memory: found {text!r}; wanted an amount of memory such as 500M or 2G."
    )


@given(st.text(max_size=12))
def test_any_text_gives_a_positive_number_or_a_refusal(text: str) -> None:
    for parse in (parse_seconds, parse_bytes):
        with contextlib.suppress(InputError):
            assert parse(text) > 0
