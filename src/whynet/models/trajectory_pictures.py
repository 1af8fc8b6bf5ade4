"""Pictures of a network's cells at steps of its training: in a record, and as labelled arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from whynet.core.measurement import Measurement, Quantity
from whynet.numerics.plane_pictures import PlanePicture

Pictures = tuple[tuple[int, PlanePicture], ...]
"""Step and picture, steps rising; all of one polygon."""

MOST: Final = 8
"""Pictures of a record: two rows of four."""

_FLOATS: Final = {"polygon": (2,), "corners": (2,), "values": (), "boundary": (2, 2)}
_WHOLES: Final = ("sizes", "classes")

POLYGON, CORNERS, PARTS, BOUNDARY = (
    "picture_polygon", "picture_corners", "picture_parts", "picture_boundary",
)  # fmt: skip
QUANTITIES: Final = (POLYGON, CORNERS, PARTS, BOUNDARY)
"""Names of the arrays that pictures are in a measurement."""

_HOW: Final = "corners of cells in the triangle of three training rows, rounded for a picture"


def thinned(pictures: Mapping[int, PlanePicture], most: int = 2 * MOST) -> dict[int, PlanePicture]:
    """Keep so many pictures: the first, the last, and others at even ratios of their steps.

    One after the other goes whose two neighbors are nearest to each other.
    """
    steps = sorted(pictures)
    while len(steps) > most:
        places = np.log1p(np.array(steps, dtype=float))
        steps.pop(1 + int((places[2:] - places[:-2]).argmin()))
    return {step: pictures[step] for step in steps}


def chosen(pictures: Mapping[int, PlanePicture]) -> Pictures:
    """Choose the pictures of a record."""
    return tuple(thinned(pictures, MOST).items())


def written(pictures: Pictures) -> list[dict[str, Any]]:
    """Return pictures as numbers and lists, for JSON."""
    return [
        {
            "step": step,
            "cells": picture.cells,
            "complete": picture.complete,
            "sizes": np.diff(picture.offsets).tolist(),
            "classes": picture.classes.tolist(),
            **{name: getattr(picture, name).ravel().tolist() for name in _FLOATS},
        }
        for step, picture in pictures
    ]


def parsed(entries: Any, steps: Sequence[int]) -> Pictures:
    """Read what `written` returned, from a file of anyone's.

    Raises:
        ValueError: it is something else.
        TypeError: likewise.

    """
    if not isinstance(entries, list):
        raise TypeError("the pictures are no list")
    found = tuple((entry["step"], _picture(entry)) for entry in entries)
    known = [step for step, _ in found]
    if any(type(step) is not int or step not in steps for step in known) or (
        known != sorted(set(known))
    ):
        raise ValueError("a picture of no recorded step")
    return found


def _picture(entry: dict[str, Any]) -> PlanePicture:
    arrays = {}
    for name, shape in _FLOATS.items():
        numbers = entry[name]
        if not isinstance(numbers, list) or any(type(x) not in (int, float) for x in numbers):
            raise TypeError(f"{name} of a picture are no numbers")
        arrays[name] = np.array(numbers, dtype=np.float64).reshape(-1, *shape)
    for name in _WHOLES:
        numbers = entry[name]
        if not isinstance(numbers, list) or any(type(x) is not int for x in numbers):
            raise TypeError(f"{name} of a picture are no whole numbers")
        arrays[name] = np.array(numbers, dtype=np.int64)
    sizes = arrays.pop("sizes")
    fits = len(arrays["classes"]) == len(arrays["values"]) == len(sizes) > 0
    fits = fits and len(arrays["polygon"]) > 2 and int(sizes.min()) > 2
    fits = fits and int(sizes.sum()) == len(arrays["corners"])
    if not fits or not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("the numbers of a picture do not fit together")
    cells, complete = entry["cells"], entry["complete"]
    if type(cells) is not int or cells < 1 or type(complete) is not bool:
        raise TypeError("a picture does not say how many cells there are")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return PlanePicture(cells=cells, complete=complete, offsets=offsets, **arrays)


def quantities(pictures: Pictures) -> dict[str, Quantity]:
    """Return pictures as quantities of a measurement, none where there are none.

    Parts hold step, number of cells, whether complete, corners, class and value.
    """
    if not pictures:
        return {}
    parts, corners, boundary = [], [], []
    for step, picture in pictures:
        sizes = np.diff(picture.offsets)
        about = np.full((len(sizes), 3), (step, picture.cells, picture.complete), dtype=float)
        parts.append(np.column_stack([about, sizes, picture.classes, picture.values]))
        corners.append(picture.corners)
        segments = picture.boundary.reshape(-1, 4)
        boundary.append(np.column_stack([np.full(len(segments), step), segments]))
    found = {
        POLYGON: Quantity(pictures[0][1].polygon, dims=("polygon_corner", "coordinate"), how=_HOW),
        CORNERS: Quantity(np.concatenate(corners), dims=("corner", "coordinate"), how=_HOW),
        PARTS: Quantity(np.concatenate(parts), dims=("part", "about"), how=_HOW),
    }
    segments = np.concatenate(boundary)
    if len(segments):
        found[BOUNDARY] = Quantity(segments, dims=("segment", "step_and_ends"), how=_HOW)
    return found


def pictures_in(measured: Measurement) -> Pictures:
    """Return the pictures that `quantities` put into a measurement."""
    if PARTS not in measured.names:
        return ()
    polygon, corners, parts = (measured.values(name) for name in (POLYGON, CORNERS, PARTS))
    boundary = measured.values(BOUNDARY) if BOUNDARY in measured.names else np.zeros((0, 5))
    offsets = np.concatenate([[0], np.cumsum(parts[:, 3].astype(int))])
    found = []
    for step in np.unique(parts[:, 0]):
        own = np.flatnonzero(parts[:, 0] == step)
        begin, stop = offsets[own[0]], offsets[own[-1] + 1]
        _, cells, complete = parts[own[0], :3]
        picture = PlanePicture(
            polygon, int(cells), bool(complete), offsets[own[0] : own[-1] + 2] - begin,
            corners[begin:stop], parts[own, 4].astype(int), parts[own, 5],
            boundary[boundary[:, 0] == step, 1:].reshape(-1, 2, 2),
        )  # fmt: skip
        found.append((int(step), picture))
    return tuple(found)
