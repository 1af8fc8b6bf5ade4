"""All cells of a piecewise-linear network in a convex polygon of a plane of its input space.

The network is continuous, so that its values belong to vertices, not to cells. At a unit that
bends, every cell in which it has both signs is cut; the new vertex on an edge is shared by the
two cells beside it, because the unit has the same values on the edge for both. Maxima of several
numbers are followed in `piecewise_linear_maxima`.

What is held is one part of the polygon with the values at its vertices, cut and carried through
the network as far as a bound on memory allows; where it becomes too large, the cells that are left
wait as a part of their own. Vertices on the edges between parts are joined in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from threading import Condition, Thread
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_plane_probes import probed
from whynet.models.piecewise_linear_plane_search import Search, Waiting
from whynet.models.piecewise_linear_plane_state import PlaneState
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_joining import Joined, Joining, Part

PART_BYTES = 2**27
"""Of the values of one part. Larger ones do not fit into caches, smaller ones cost more joints."""


@torch.no_grad()
def subdivide(
    graph: PiecewiseLinearGraph,
    origin: Tensor,
    axes: Tensor,
    polygon: np.ndarray,
    max_cells: int = 1_000_000,
    part_bytes: int = PART_BYTES,
    until: float = np.inf,
    workers: int | None = None,
) -> PlaneCells:
    """Cut a convex polygon into the cells of a network.

    Args:
        graph: the network.
        origin: [*input_shape], the input at the coordinates (0, 0).
        axes: [2, *input_shape], what one unit of each coordinate adds.
        polygon: float64 [P, 2], corners, convex, counter-clockwise.
        max_cells: cells above which it stops.
        part_bytes: about how many bytes of the network's values are held at once; the cells do
            not depend on it.
        until: when it stops, as `time.monotonic`; looked at before every operation on a part.
        workers: threads that carry parts at once; as many as PyTorch has by default.

    Returns:
        The cells, `complete` false where it was interrupted or stopped.

    """
    corners = np.asarray(polygon, dtype=np.float64)
    search = Search(graph, corners, origin.double(), axes.double(), max_cells, part_bytes)
    complete, interrupted = _carried(search, corners, until, workers)
    vertices, offsets, corners, neighbors, origins, maps = search.joined()
    return PlaneCells(vertices, offsets, corners, neighbors, origins, maps, complete, interrupted)


@torch.no_grad()
def subdivide_in_pieces(
    graph: PiecewiseLinearGraph,
    origin: Tensor,
    axes: Tensor,
    polygon: np.ndarray,
    receiver: Receiver,
    folder: Path,
    max_cells: int,
    part_bytes: int = PART_BYTES,
    until: float = np.inf,
    workers: int | None = None,
) -> tuple[bool, bool]:
    """Cut a convex polygon into cells that need not fit into memory; arguments as of `subdivide`.

    Args:
        graph: the network.
        origin: the input at the coordinates (0, 0).
        axes: what one unit of each coordinate adds.
        polygon: corners.
        receiver: is given the rows of the table that `subdivide` would return, part by part.
        folder: where finished parts wait on disk until they are joined; they are removed.
        max_cells: cells above which it stops.
        part_bytes: about how many bytes of the network's values are held at once.
        until: when it stops.
        workers: threads.

    Returns:
        Whether the cells are complete, and whether somebody interrupted. What was received until
        an interruption stands: its cells are a lower bound.

    """
    corners = np.asarray(polygon, dtype=np.float64)
    spill = _Spill(folder)
    search = Search(graph, corners, origin.double(), axes.double(), max_cells, part_bytes, spill)
    complete, interrupted = _carried(search, corners, until, workers)
    parts = search.in_order()
    joining = Joining([border for _, border, _ in parts], search.shared_edges(), search.near)
    try:
        for _, _, held in parts:
            receiver.rows(joining.joined(held()))
        receiver.across(*joining.across())
    except KeyboardInterrupt:
        return False, True
    return complete, interrupted


class Receiver(Protocol):
    """Takes a table part by part."""

    def rows(self, joined: Joined) -> None:
        """Take the rows of one part, which follow those before."""

    def across(self, places: np.ndarray, cells: np.ndarray) -> None:
        """Take what is across the edges between parts: places among the corners, and cells."""


class _Spill:
    """Keeps parts on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.numbers = folder, count()

    def __call__(self, part: Part) -> Callable[[], Part]:
        file = self.folder / f"{next(self.numbers)}.npz"
        np.savez(file, **vars(part))
        return partial(self.taken, file)

    @staticmethod
    def taken(file: Path) -> Part:
        with np.load(file, allow_pickle=False) as held:
            part = Part(**held)
        file.unlink()
        return part


def _carried(
    search: Search, corners: np.ndarray, until: float, workers: int | None
) -> tuple[bool, bool]:
    """Carry a search to its end; returns whether it is complete, and whether interrupted."""
    team = _Team(search, [_whole(corners, search.origin, search.axes)], until)
    interrupted = False
    threads = torch.get_num_threads()
    try:
        search.probes = probed(search.graph, search.origin, search.axes, corners)
        torch.set_num_threads(1 if threads > 1 and workers != 1 else threads)
        team.run(threads if workers is None else workers)
    except KeyboardInterrupt:
        interrupted = True  # what was cut so far stands
    finally:
        torch.set_num_threads(threads)
    for item in team.waiting:
        search.finish(item)
    return not team.waiting, interrupted


def _whole(polygon: np.ndarray, origin: Tensor, axes: Tensor) -> Waiting:
    """Return the polygon as one cell."""
    size = len(polygon)
    inputs = origin + torch.tensordot(torch.from_numpy(polygon), axes, 1)
    edges = np.arange(size)
    state = PlaneState(polygon, np.array([0, size]), edges, np.full(size, -1), {0: inputs})
    return Waiting(state, np.arange(size))


class _Team:
    """Threads that carry the parts of a search."""

    def __init__(self, search: Search, waiting: list[Waiting], until: float) -> None:
        self.search, self.waiting, self.until = search, waiting, until
        self.busy, self.stopped = 0, False
        self.changed = Condition()
        self.failure: BaseException | None = None

    def run(self, workers: int) -> None:
        """Carry parts until there is none; after an interruption all of them are waiting."""
        others = [Thread(target=self._guarded, daemon=True) for _ in range(workers - 1)]
        for thread in others:
            thread.start()
        try:
            self._work()
        finally:
            with self.changed:
                self.stopped = True
                self.changed.notify_all()
            for thread in others:
                thread.join()
        if self.failure is not None:
            raise self.failure

    def _guarded(self) -> None:
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.failure = error
            self.stopped = True

    def _work(self) -> None:
        while (item := self._next()) is not None:
            own = [item]
            going = False
            try:
                going = self.search.advance(own)
            finally:
                with self.changed:
                    self.waiting += own
                    self.busy -= 1
                    self.stopped = self.stopped or not going
                    self.changed.notify_all()

    def _next(self) -> Waiting | None:
        """Take the last part that waits; None where all is done or it is to stop."""
        with self.changed:
            while not self.waiting and self.busy and not self.stopped:
                self.changed.wait()
            if self.stopped or not self.waiting or time.monotonic() >= self.until:
                return None
            self.busy += 1
            return self.waiting.pop()
