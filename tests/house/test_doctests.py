"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest
from tests.house.places import SOURCE

MODULES = [
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_module(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


def test_the_shared_words_have_examples() -> None:
    assert any(name.startswith("whynet.core.") for name in MODULES)
