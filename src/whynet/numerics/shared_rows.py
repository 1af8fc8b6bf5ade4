"""Compiled functions of rows, which threads share where there are enough numbers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

SHARED = 2**22
"""Numbers a thread must have for it to be worth starting."""


def share_rows(
    kernel: Callable[..., None], arrays: tuple[Array, ...], numbers: int, threads: int
) -> None:
    """Call a function that holds no lock, whose arrays all have the same rows, on parts of them.

    Args:
        kernel: takes the arrays and writes into some of them.
        arrays: of equal length.
        numbers: how much there is to do.
        threads: most that share the rows.

    """
    rows = len(arrays[0])
    parts = min(threads, rows, numbers // SHARED)
    if parts < 2:
        kernel(*arrays)
        return
    edges = [rows * i // parts for i in range(parts + 1)]
    with ThreadPoolExecutor(parts) as team:
        waiting = [
            team.submit(kernel, *(array[a:b] for array in arrays)) for a, b in pairwise(edges)
        ]
        for one in waiting:
            one.result()
