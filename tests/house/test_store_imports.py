"""The store of the atlas needs no torch: it opens at once, everywhere."""

from __future__ import annotations

import pytest
from tests.house.places import python

PLAIN = ("rows", "lock", "damage", "schema", "opening", "journal")


@pytest.mark.parametrize("module", [*PLAIN, "pack"])
def test_the_store_imports_no_torch(module: str) -> None:
    call = (
        f"import sys, whynet.atlas.{module}; print('torch' in sys.modules, 'xarray' in sys.modules)"
    )
    done = python("-c", call)
    assert done.returncode == 0, done.stderr
    torch, xarray = done.stdout.split()
    assert torch == "False"
    assert xarray == "False" or module == "pack"
