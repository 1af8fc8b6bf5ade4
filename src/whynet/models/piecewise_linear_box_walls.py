"""Half-spaces and affine maps of cells whose walls are known by their names."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_local import LocalBend, local_maps

_AT_ONCE = 2**18
"""Numbers of one operation on the centers of cells: few enough for the cache."""


@dataclass(frozen=True)
class WallsAt:
    """Walls as seen from the centers of cells.

    Attributes:
        normals: float64 [K, D], outward, of unit length.
        room: float64 [K], distances from the centers.
        maps: float64 [C, D + 1, O].
        silent: bool [K]: walls between two competitors that both lose to a third one.
        patterns: int64 [C], a number that is the same for cells of one activation pattern.

    """

    normals: np.ndarray
    room: np.ndarray
    maps: np.ndarray
    silent: np.ndarray
    patterns: np.ndarray


def walls_at(
    graph: PiecewiseLinearGraph,
    centers: np.ndarray,
    walls: np.ndarray,
    offsets: np.ndarray,
    box: np.ndarray,
    pool: Executor | None = None,
) -> WallsAt:
    """Read walls and maps off the network at the centers of cells.

    Args:
        graph: the network.
        centers: float64 [C, D].
        walls: int64 [K, 3], as in `PolytopeCells`.
        offsets: int64 [C + 1].
        box: float64 [2, D], its low and high end.
        pool: threads that share the cells; numbers are the same to the bit.

    """
    cells, dims = centers.shape
    normals, room = np.zeros((len(walls), dims)), np.zeros(len(walls))
    silent, patterns = np.zeros(len(walls), dtype=bool), np.zeros(cells, dtype=np.int64)
    maps = np.zeros((cells, dims + 1, int(np.prod(graph.output_shape))))
    rows = max(1, _AT_ONCE // ((dims + 1) * graph.widest))

    def read(begin: int) -> None:
        some = slice(begin, min(begin + rows, cells))
        points = torch.as_tensor(centers[some]).reshape(-1, *graph.input_shape)
        found = local_maps(graph, points, canceled=False)
        slopes = found.jacobians.transpose(1, 2).numpy()
        maps[some, :dims] = slopes
        maps[some, dims] = found.outputs.numpy() - np.einsum("cd,cdo->co", centers[some], slopes)
        first, last = offsets[some.start], offsets[some.stop]
        owner = np.repeat(np.arange(len(points)), np.diff(offsets[some.start : some.stop + 1]))
        for bend in found.bends:
            patterns[some] += _numbered(bend)
            at = np.flatnonzero(walls[first:last, 0] == bend.step)
            normals[first + at], room[first + at], silent[first + at] = _walls_of(
                bend, owner[at], walls[first + at, 1], walls[first + at, 2]
            )

    for _ in (map if pool is None else pool.map)(read, range(0, cells, rows)):
        pass
    sides = np.flatnonzero(walls[:, 0] < 0)
    axis, end = walls[sides, 1], walls[sides, 2]
    normals[sides, axis] = 2 * end - 1
    centered = np.repeat(np.arange(cells), np.diff(offsets))[sides]
    room[sides] = np.abs(box[end, axis] - centers[centered, axis])
    return WallsAt(normals, room, maps, silent, patterns)


def _numbered(bend: LocalBend) -> np.ndarray:
    """Return a sum over units of random numbers, which tells patterns apart."""
    pattern = bend.pattern.numpy()
    drawn = np.random.default_rng(bend.step).integers(-(2**62), 2**62, pattern.shape[1])
    return np.asarray((pattern * drawn).sum(1))


def _walls_of(
    bend: LocalBend, cells: np.ndarray, units: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outward normals and distances of walls of units, each as seen from a cell.

    A wall of competitors is named by the later of two, which there is as large as the largest of
    those before it.
    """
    gradients, values = bend.gradients.numpy(), bend.values.numpy()
    silent = np.zeros(len(cells), dtype=bool)
    if bend.competing:
        count = values.shape[1] // bend.pattern.shape[1]
        behind = values.reshape(len(values), -1, count)[cells, units]  # the winner is 0 behind
        earlier = np.where(np.arange(count) < levels[:, None], behind, np.inf).argmin(1)
        winner = bend.pattern.numpy()[cells, units]
        silent = winner > levels
        one, two = count * units + levels, count * units + earlier
        slope = gradients[cells, :, one] - gradients[cells, :, two]
        value = values[cells, one] - values[cells, two]
        inward = np.where(value < 0, -1.0, 1.0)
        slope, value = inward[:, None] * slope, inward * value
    else:
        rows = levels * bend.pattern.shape[1] + units
        slope, value = gradients[cells, :, rows], values[cells, rows]
    length = np.linalg.norm(slope, axis=1)
    return -slope / length[:, None], value / length, silent
