"""Rows of a matrix that are equal up to round-off, found without comparing all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

_COLUMNS: Final = 32
"""Columns that runs are split by; among rows of one run still apart, as many are compared first."""

_SAMPLE: Final = 256
"""Rows by which columns are chosen."""

_NUMBERS: Final = 2**21
"""Numbers of the rows that are projected at a time."""


def equal_rows(rows: np.ndarray, tolerance: float) -> np.ndarray:
    """Group rows whose entries agree with those of a leader.

    Rows are sorted by a fixed random projection, and what lies close there by single columns, in
    each of which equal rows lie within a known distance; what their entries may differ by adds up
    in a projection of many columns, so that a single one is sharper where the tolerance is that of
    float32. Only runs of close neighbors are compared in full. A row joins the first leader of its
    run that it agrees with, so that no chain of small steps joins what is far apart.

    Args:
        rows: `[count, features]`, finite.
        tolerance: entries a and b agree where `|a - b| <= tolerance * max(1, |a|)`.

    Returns:
        `[count]`, for each row the index of its leader; a leader is its own.

    Cost: order `count * features`, and for each leader of a run 32 entries of the rows left in it.
    Memory: a few vectors beside one block of rows.

    """
    count, features = rows.shape
    leader = np.arange(count)
    if count < 2 or features == 0:
        return np.zeros(count, dtype=int) if features == 0 and count else leader
    run = _split(np.zeros(count, dtype=int), *_projected(rows, tolerance))
    columns = _spread(rows[_together(run)[:: max(1, count // _SAMPLE)]])
    for column in columns:
        close = _together(run)
        if len(close) == 0:
            break
        values = rows[close, column]
        part = _split(run[close], values, tolerance * np.maximum(1.0, np.abs(values)))
        run[close] = part + run.max() + 1
    for members in _runs(run):
        _group_run(rows, members, tolerance, leader)
    return leader


def _projected(rows: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a projection of every row, and by how much that of an equal one may be off."""
    count, features = rows.shape
    direction = np.random.default_rng(0).standard_normal(features)
    place, room = np.empty(count), np.empty(count)
    block = max(1, _NUMBERS // features)
    for start in range(0, count, block):
        part = rows[start : start + block]
        size = np.abs(part)
        place[start : start + block] = part @ direction
        round_off = 8 * np.finfo(float).eps * (size @ np.abs(direction))
        np.maximum(size, 1.0, out=size)
        room[start : start + block] = tolerance * (size @ np.abs(direction)) + round_off
    return place, room


def _split(run: np.ndarray, place: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Number runs afresh: parts of the runs so far between which no two rows are equal."""
    order = np.lexsort((place, run))
    apart = np.diff(place[order]) > 2 * np.maximum(room[order][1:], room[order][:-1])
    fresh = np.empty_like(run)
    fresh[order] = np.r_[0, np.cumsum(apart | (np.diff(run[order]) != 0))]
    return fresh


def _together(run: np.ndarray) -> np.ndarray:
    """Return the rows that are not alone in their run."""
    _, inverse, sizes = np.unique(run, return_inverse=True, return_counts=True)
    return np.flatnonzero(sizes[inverse] > 1)


def _spread(rows: np.ndarray) -> np.ndarray:
    """Return the columns in which rows differ most, by what equal ones may differ by."""
    if len(rows) == 0:
        return np.zeros(0, dtype=int)
    size = rows.std(0) / np.maximum(1.0, np.abs(rows).mean(0))
    return np.argsort(-size, kind="stable")[:_COLUMNS]


def _runs(run: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of every run of several, in their order."""
    close = _together(run)
    order = close[np.argsort(run[close], kind="stable")]
    yield from np.split(order, np.flatnonzero(np.diff(run[order])) + 1) if len(order) else ()


def _group_run(rows: np.ndarray, left: np.ndarray, tolerance: float, leader: np.ndarray) -> None:
    columns = np.zeros(0, dtype=int)
    if len(left) > _COLUMNS:
        columns = _spread(rows[left[:: max(1, len(left) // _SAMPLE)]])
    some = rows[np.ix_(left, columns)]
    while len(left):
        first = rows[left[0]]
        allowed = tolerance * np.maximum(1.0, np.abs(first))
        same = (np.abs(some - some[0]) <= allowed[columns]).all(1)
        near = np.flatnonzero(same)
        same[near] = (np.abs(rows[left[near]] - first) <= allowed).all(1)
        same[0] = True
        leader[left[same]] = left[0]
        left, some = left[~same], some[~same]
