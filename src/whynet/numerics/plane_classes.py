"""Cells of a subdivided polygon cut along the decision boundary, with the class of each part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_measures import areas_and_centroids, evaluate_maps


@dataclass(frozen=True)
class ClassParts:
    """Convex parts on each of which one output is the largest.

    Attributes:
        polygons: float64 [corners, 2] each, counter-clockwise.
        cells: int64 [N], the cell that each is a part of.
        classes: int64 [N], which output is the largest there; of one output, 1 where it is
            positive.
        areas: float64 [N].

    """

    polygons: tuple[np.ndarray, ...]
    cells: np.ndarray
    classes: np.ndarray
    areas: np.ndarray

    def class_areas(self, count: int) -> np.ndarray:
        """Return the area on which each of `count` classes is predicted, float64 [count]."""
        return np.bincount(self.classes, self.areas, count)


def class_parts(cells: PlaneCells) -> ClassParts:
    """Cut every cell to where each output is the largest, exactly.

    Cost: a pass over the cells, and a clipping for each class of each cell that holds several.
    """
    maps = cells.maps
    if maps.shape[2] == 1:
        maps = np.concatenate([np.zeros_like(maps), maps], axis=2)
        cells = replace(cells, maps=maps)
    areas, centers = areas_and_centroids(cells)
    owner = np.repeat(np.arange(len(areas)), np.diff(cells.offsets))
    at_corner = evaluate_maps(maps[owner], cells.vertices[cells.corners])
    floor = np.minimum.reduceat(at_corner, cells.offsets[:-1]).max(1)
    near = np.maximum.reduceat(at_corner, cells.offsets[:-1]) >= floor[:, None]
    single = evaluate_maps(maps, centers).argmax(1)
    near[np.arange(len(near)), single] = True
    polygons, held, classes, sizes = [], [], [], []
    for cell, (begin, stop) in enumerate(zip(cells.offsets, cells.offsets[1:], strict=False)):
        corners = cells.vertices[cells.corners[begin:stop]]
        rivals = np.flatnonzero(near[cell])
        if len(rivals) == 1:
            polygons.append(corners)
            held.append(cell)
            classes.append(int(rivals[0]))
            sizes.append(float(areas[cell]))
            continue
        for own in rivals:
            part = _largest(corners, maps[cell], int(own), rivals)
            size = _area(part)
            if size > 1e-15 * areas[cell]:
                polygons.append(part)
                held.append(cell)
                classes.append(int(own))
                sizes.append(size)
    return ClassParts(tuple(polygons), np.array(held), np.array(classes), np.array(sizes))


def _largest(corners: np.ndarray, plane: np.ndarray, own: int, rivals: np.ndarray) -> np.ndarray:
    """Clip a convex polygon to where output `own` is the largest; of equals, the first is."""
    for rival in rivals:
        gap = plane[:, own] - plane[:, rival]
        if rival == own or len(corners) == 0:
            continue
        if not gap.any():
            if rival < own:
                return corners[:0]
            continue
        value = corners @ gap[:2] + gap[2]
        after, next_value = np.roll(corners, -1, axis=0), np.roll(value, -1)
        kept = []
        for here, there, a, b in zip(corners, after, value, next_value, strict=True):
            if a >= 0:
                kept.append(here)
            if a * b < 0:
                kept.append((b * here - a * there) / (b - a))
        corners = np.array(kept).reshape(-1, 2)
    return corners


def _area(corners: np.ndarray) -> float:
    if len(corners) < 3:
        return 0.0
    here = corners - corners[0]
    there = np.roll(here, -1, axis=0)
    return float((here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]).sum()) / 2
