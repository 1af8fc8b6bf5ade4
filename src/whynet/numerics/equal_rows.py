"""Rows of a matrix that are equal up to round-off, found without comparing all pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def equal_rows(rows: np.ndarray, tolerance: float) -> np.ndarray:
    """Group rows whose entries agree with those of a leader.

    Rows are sorted by a fixed random projection, in which equal ones lie within a known distance;
    only runs of close neighbors are compared in full. A row joins the first leader of its run
    that it agrees with, so that no chain of small steps joins what is far apart.

    Args:
        rows: `[count, features]`, finite.
        tolerance: entries a and b agree where `|a - b| <= tolerance * max(1, |a|)`.

    Returns:
        `[count]`, for each row the index of its leader; a leader is its own.

    Cost: order `count * features`, and for each leader of a run the rows left in it. Memory: a
    few vectors beside one block of a run.

    """
    count, features = rows.shape
    leader = np.arange(count)
    if count < 2 or features == 0:
        return np.zeros(count, dtype=int) if features == 0 and count else leader
    direction = np.random.default_rng(0).standard_normal(features)
    place = rows @ direction
    # What the entries may differ by moves the projection by no more than this.
    room = tolerance * (np.maximum(1.0, np.abs(rows)) @ np.abs(direction))
    room += 8 * np.finfo(float).eps * (np.abs(rows) @ np.abs(direction))
    order = np.argsort(place, kind="stable")
    apart = np.diff(place[order]) > 2 * np.maximum(room[order][1:], room[order][:-1])
    starts = np.r_[0, np.flatnonzero(apart) + 1, count]
    for start, stop in pairwise(starts):
        if stop - start > 1:
            _group_run(rows, np.sort(order[start:stop]), tolerance, leader)
    return leader


def _group_run(rows: np.ndarray, left: np.ndarray, tolerance: float, leader: np.ndarray) -> None:
    while len(left):
        first = rows[left[0]]
        allowed = tolerance * np.maximum(1.0, np.abs(first))
        same = (np.abs(rows[left] - first) <= allowed).all(1)
        same[0] = True
        leader[left[same]] = left[0]
        left = left[~same]
