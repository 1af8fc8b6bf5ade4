"""Sums over the data in pieces that fit: out of memory is met by halving the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from whynet.derivatives.objective import Objective
from whynet.models.fitting_rows import cut, halving_note, is_out_of_memory, release, row_count


class Pieces:
    """The batches of an objective, cut to a number of rows that fits.

    Args:
        objective: whose batches; cut only where its loss is a sum over rows.

    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._rows: int | None = None
        self._largest = 0

    @property
    def halved(self) -> bool:
        """Whether batches are cut."""
        return self._rows is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: that batches were cut."""
        if self._rows is None:
            return ()
        return (halving_note(self._largest, self._rows),)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Make a pass over the data."""
        for inputs, targets in self._objective.batches():
            rows = row_count(inputs)
            self._largest = max(self._largest, rows)
            if self._rows is None or rows <= self._rows:
                yield inputs, targets
                continue
            for start in range(0, rows, self._rows):
                stop = start + self._rows
                yield (cut(inputs, rows, start, stop), cut(targets, rows, start, stop))

    def halve(self, error: BaseException) -> None:
        """Cut batches to half of what they are.

        Raises:
            MemoryError: they cannot be cut any further.

        """
        rows = self._largest if self._rows is None else self._rows
        if not self._objective.separable:
            raise MemoryError(
                f"Memory ran out on {rows} rows at once, and the loss needs them together, since "
                "batch normalization uses the statistics of the batch."
            ) from error
        if rows <= 1:
            raise MemoryError("Memory ran out on a single row of the data.") from error
        self._rows = rows // 2

    def summed(self, work: Callable[[Any, Any], Tensor]) -> Tensor:
        """Sum over the batches what `work` makes of inputs and targets; again in halves if need be.

        Raises:
            MemoryError: one row does not fit.

        """
        while True:
            try:
                parts = (work(inputs, targets) for inputs, targets in self)
                total = next(parts)
                for part in parts:
                    total = total + part
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                caught = error
            else:
                return total
            self.halve(caught)
            release()
