"""Passes over the data with what is prepared of its batches and stays in memory where it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

from torch import Tensor

from whynet.derivatives.out_of_memory import Pieces
from whynet.derivatives.signal_products import Item, SignalProducts, first_columns
from whynet.derivatives.stored_signals import SignalPlan
from whynet.models.fitting_rows import is_out_of_memory, release, row_count

KEPT_BYTES = 2**28
"""Memory for the graphs of batches that are kept between products, the first one aside, and as much
for stored signals."""

Choice = Literal["stored", "store", "signals", "kept", "keep", "pass"]
"""Where the products of a batch come from: signals that are stored, are to be, or are for one call;
graphs that are kept, or are to be; a pass of its own."""


@dataclass
class KeptBatches(Generic[Item]):
    """The batches of an objective, each with its products.

    Leading batches stay prepared: their graphs, or the signals of their outputs, which take more
    memory and time to make and make products cheaper. Signals are stored once so many vectors have
    been multiplied as would have paid for it, or at once where the number of batches to keep is
    given; of a batch that is not kept, where one call has so many vectors.

    Attributes:
        pieces: the batches.
        prepare: makes the products of a batch.
        once: makes what multiplies a single vector by a batch that is not kept, where there is
            such a way.
        signals: products by stored signals, where they are right.
        bytes_per_example: memory of a graph.
        kept: batches to keep; None as many as fit.

    """

    pieces: Pieces
    prepare: Callable[[Any, Any], Item]
    once: Callable[[Any, Any], Item] | None
    signals: SignalProducts[Item] | None
    bytes_per_example: float
    kept: int | None
    graphs: dict[int, Item] = field(default_factory=dict)
    stored: list[list[tuple[int, Item]]] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)
    _plan: SignalPlan | None = None
    _asked: float = 0
    _complete: bool = False

    def drop(self) -> None:
        """Forget what is kept and keep nothing from now on: memory ran out."""
        self.graphs, self.stored, self._rows, self._complete = {}, [], [], False
        self.kept, self.signals, self._plan = 0, None, None

    def fitted(self, work: Callable[[], Tensor]) -> Tensor:
        """Return what a pass over the batches gives; again with halves of them if memory runs out.

        Raises:
            MemoryError: one row does not fit.

        """
        while True:
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                caught = error
            self.drop()
            self.pieces.halve(caught)
            release()

    def each(self, columns: float) -> Iterator[tuple[int, Item]]:
        """Yield rows and products of each batch, which will multiply so many vectors.

        To push a vector or to pull one back counts half.
        """
        self._asked += columns
        if self._complete:
            choices = [self._choice(i, columns) for i in range(len(self._rows))]
            if set(choices) <= {"stored", "kept"}:
                for index in range(len(self._rows)):
                    yield from self._held(index)
                return
        for index, (inputs, targets) in enumerate(self.pieces):
            if index == len(self._rows):
                if index == 0 and self.signals is not None:
                    self._plan = self.signals.plan(inputs)
                self._rows.append(row_count(inputs))
            yield from self._of(index, inputs, targets, columns)
        self._complete = True

    def _choice(self, index: int, columns: float) -> Choice:
        if index < len(self.stored):
            return "stored"
        if self._plan is not None:
            first = first_columns(self._plan)
            if self._stores(index, self._plan) and (self.kept or self._asked >= first):
                return "store"
            if columns >= first:
                return "signals"
        if index in self.graphs:
            return "kept"
        return "keep" if self._keeps(index) else "pass"

    def _stores(self, index: int, plan: SignalPlan) -> bool:
        """Whether the signals of a batch may stay."""
        if self.kept is not None:
            return index == len(self.stored) and index < self.kept
        assert self.signals is not None
        rows = sum(self._rows[: index + 1])
        return index == len(self.stored) and self.signals.bytes_of(plan, rows) <= KEPT_BYTES

    def _keeps(self, index: int) -> bool:
        """Whether the graph of a batch may stay."""
        if self.kept is not None:
            return index < self.kept
        if len(self.graphs) + len(self.stored) < index:
            return False
        held = sum(self._rows[i] for i in self.graphs if i > 0) + self._rows[index]
        return not self.graphs or held * self.bytes_per_example <= KEPT_BYTES

    def _held(self, index: int) -> list[tuple[int, Item]]:
        if index < len(self.stored):
            return self.stored[index]
        return [(self._rows[index], self.graphs[index])]

    def _of(
        self, index: int, inputs: Any, targets: Any, columns: float
    ) -> Iterator[tuple[int, Item]]:
        """Yield the products of a batch, prepared where they are not kept."""
        choice = self._choice(index, columns)
        if choice in ("store", "signals"):
            assert self.signals is not None
            assert self._plan is not None
            blocks = self.signals.products(self._plan, inputs, targets)
            if choice == "signals":
                yield from blocks
                return
            self.stored.append(list(blocks))
            self.graphs.pop(index, None)
        elif choice == "keep":
            self.graphs[index] = self.prepare(inputs, targets)
        elif choice == "pass":
            make = self.prepare if self.once is None or columns != 1 else self.once
            yield self._rows[index], make(inputs, targets)
            return
        yield from self._held(index)
