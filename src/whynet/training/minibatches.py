"""The order in which each member of an ensemble sees the rows, from a stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.seeds import seed_from

AHEAD = 2**20
"""Most rows drawn ahead, over all members; at least one epoch is."""


class MemberOrders:
    """Row numbers of minibatches: random orders one after another, cut in runs of `batch` rows.

    A member's rows depend on its seed, the number of rows and the size of the batch alone, on
    no other member and on no global generator. Each run of `rows` numbers holds every row once;
    a batch may reach over the end of one into the next.

    Args:
        seeds: one a member.
        rows: number of rows.
        batch: rows of a step.

    Raises:
        InputError: a batch below 1.

    """

    def __init__(self, seeds: Sequence[int], rows: int, batch: int) -> None:
        if batch < 1:
            raise InputError("batch", str(batch), "at least 1 row")
        self.rows, self.batch = rows, batch
        self._streams = [
            np.random.Generator(np.random.PCG64(seed_from("ensemble", "order", seed)))
            for seed in seeds
        ]
        self._drawn: NDArray[np.int64] = np.empty((len(seeds), 0), np.int64)

    def next(self) -> Tensor:
        """Return the rows of the next step, `[members, batch]`."""
        while self._drawn.shape[1] < self.batch:
            self._drawn = np.concatenate([self._drawn, self._draw()], axis=1)
        taken, self._drawn = np.split(self._drawn, [self.batch], axis=1)
        return torch.from_numpy(np.ascontiguousarray(taken))

    def select(self, members: Sequence[int]) -> None:
        """Keep these members alone, in this order."""
        self._streams = [self._streams[member] for member in members]
        self._drawn = self._drawn[list(members)]

    def _draw(self) -> NDArray[np.int64]:
        epochs = max(1, AHEAD // (len(self._streams) * self.rows))
        epochs = min(epochs, max(1, -(-64 * self.batch // self.rows)))
        keys = np.stack([stream.random((epochs, self.rows)) for stream in self._streams])
        return np.argsort(keys, axis=-1, kind="stable").reshape(len(keys), -1)
