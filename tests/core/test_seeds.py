from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whynet.core.seeds import seed_from

PARTS = st.one_of(st.text(max_size=8), st.integers(-(2**70), 2**70), st.booleans())


def test_seeds_never_change_between_versions() -> None:
    assert seed_from("hessian-spectrum", 0, "probe", 3) == 3839714255003348536
    assert seed_from() == 2858069222894195974


@given(st.lists(PARTS, max_size=4))
def test_seeds_are_63_bit_and_repeat(key: list[str | int | bool]) -> None:
    seed = seed_from(*key)
    assert 0 <= seed < 2**63
    assert seed == seed_from(*key)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a", 1), ("a", "1")),
        (("ab",), ("a", "b")),
        ((1,), (True,)),
        ((1,), (1.0,)),
        ((0.1 + 0.2,), (0.3,)),
        (("a", "b"), ("b", "a")),
        (("a",), ("a", "")),
        ((",",), ("", "")),
    ],
)
def test_different_keys_give_different_seeds(first: tuple, second: tuple) -> None:
    assert seed_from(*first) != seed_from(*second)


def test_neighboring_keys_give_no_collision() -> None:
    assert len({seed_from("probe", index) for index in range(20_000)}) == 20_000


def test_seeds_do_not_depend_on_the_process() -> None:
    program = "from whynet.core.seeds import seed_from; print(seed_from('a', 1, 0.5))"
    for salt in ("0", "123"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": salt},
        )
        assert int(done.stdout) == seed_from("a", 1, 0.5)
