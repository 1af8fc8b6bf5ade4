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
from threading import Condition, Thread

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_plane_probes import probed
from whynet.models.piecewise_linear_plane_search import Search, Waiting
from whynet.models.piecewise_linear_plane_state import PlaneState
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_cutting import neighbors_of

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
    axes, origin = axes.double(), origin.double()
    corners = np.asarray(polygon, dtype=np.float64)
    search = Search(graph, corners, origin, axes, max_cells, part_bytes)
    team = _Team(search, [_whole(corners, origin, axes)], until)
    interrupted = False
    threads = torch.get_num_threads()
    try:
        search.probes = probed(graph, origin, axes, corners)
        torch.set_num_threads(1 if threads > 1 and workers != 1 else threads)
        team.run(threads if workers is None else workers)
    except KeyboardInterrupt:
        interrupted = True  # what was cut so far stands
    finally:
        torch.set_num_threads(threads)
    complete = not team.waiting
    for item in team.waiting:
        search.finish(item)
    vertices, offsets, corners, origins, maps = search.joined()
    neighbors = neighbors_of(offsets, corners)
    return PlaneCells(vertices, offsets, corners, neighbors, origins, maps, complete, interrupted)


def _whole(polygon: np.ndarray, origin: Tensor, axes: Tensor) -> Waiting:
    """Return the polygon as one cell."""
    count = len(polygon)
    inputs = origin + torch.tensordot(torch.from_numpy(polygon), axes, 1)
    edges = np.arange(count)
    state = PlaneState(polygon, np.array([0, count]), edges, np.full(count, -1), {0: inputs})
    return Waiting(state, np.arange(count))


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
