"""Examples: ordered rows of inputs and targets that can be read again and again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from whynet.core.errors import InputError
from whynet.models.data.arrays import checked_arrays
from whynet.models.data.datasets import rows_of_dataset, rows_of_loader
from whynet.models.data.rows import ArrayRows, Batch, Rows, StreamRows, SubsetRows
from whynet.models.data.structure import Inputs, Leaf, cast, cast_targets, is_cast_to_float, leaves
from whynet.models.data.survey import Survey, survey

STREAM_CAP = 2_000_000
"""Rows after which something that can only be iterated over counts as endless."""

_SURVEY_BYTES = 16 * 2**20


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of inputs and targets: frozen, ordered, re-iterable, checked once.

    Make them with `from_arrays`, `from_dataset`, `from_loader` or `from_any`. Inputs are one
    tensor, or a dict or tuple of tensors that share the first axis. Arrays are kept by reference
    and must not be changed while examples of them are in use; batches are fresh copies.

    Attributes:
        count: number of rows.
        argument: name of the argument they came from, for sentences.
        notes: what was done to the data on the way in, full sentences.

    """

    count: int
    argument: str
    notes: tuple[str, ...]
    _rows: Rows = field(repr=False)
    _input_leaves: tuple[Leaf, ...] = field(repr=False)
    _target_leaf: Leaf = field(repr=False)
    _structured: bool = field(repr=False)
    _extreme: float = field(repr=False)

    @classmethod
    def from_arrays(
        cls,
        inputs: Any,
        targets: Any,
        argument: str = "data",
        notes: Sequence[str] = (),
    ) -> Examples:
        """Wrap arrays or tensors; mapped files stay on disk.

        Raises:
            InputError: lengths differ, rows are missing, or entries are no finite real numbers.

        """
        inputs, targets = checked_arrays(inputs, targets, argument)
        return cls._surveyed(ArrayRows(inputs, targets), argument, notes)

    @classmethod
    def from_dataset(cls, dataset: Any, argument: str = "data") -> Examples:
        """Wrap a map-style dataset; rows are read when they are needed.

        Raises:
            InputError: rows differ in shape or between two reads, fail, or are not finite.

        """
        if isinstance(dataset, IterableDataset):
            return cls.from_loader(DataLoader(dataset, batch_size=256), argument)
        return cls._surveyed(rows_of_dataset(dataset, argument), argument, ())

    @classmethod
    def from_loader(
        cls, loader: DataLoader[Any], argument: str = "data", cap: int = STREAM_CAP
    ) -> Examples:
        """Wrap a loader: its dataset in order, without its shuffling.

        A loader of an iterable dataset is iterated over itself, each time anew.

        Args:
            loader: the loader.
            argument: name of the argument it came from.
            cap: rows after which a stream counts as endless.

        Raises:
            InputError: as `from_dataset`; or a stream is endless, or differs between two passes.

        """
        rows, notes = rows_of_loader(loader, argument, cap)
        return cls._surveyed(rows, argument, notes)

    @classmethod
    def from_any(cls, data: Any, argument: str = "data") -> Examples:
        """Wrap what a caller gives: examples, a pair of arrays, a dataset or a loader.

        Raises:
            InputError: it is none of these, or its rows are not sound.

        """
        if isinstance(data, Examples):
            return data
        if isinstance(data, DataLoader):
            return cls.from_loader(data, argument)
        if isinstance(data, tuple | list) and len(data) == 2:
            return cls.from_arrays(data[0], data[1], argument)
        if isinstance(data, IterableDataset) or (
            hasattr(data, "__getitem__")
            and hasattr(data, "__len__")
            and not isinstance(data, Tensor | np.ndarray | str | bytes | dict | tuple | list)
        ):
            return cls.from_dataset(data, argument)
        parts = f" of {len(data)} parts" if isinstance(data, tuple | list) else ""
        raise InputError(
            argument,
            f"an object of type {type(data).__name__}{parts}",
            "a pair (inputs, targets), a Dataset or a DataLoader",
        )

    @classmethod
    def _surveyed(cls, rows: Rows, argument: str, notes: Sequence[str]) -> Examples:
        found = survey(_pass(rows), argument)
        if isinstance(rows, StreamRows):
            again = survey(_pass(rows), argument)
            if again.sha256 != found.sha256:
                raise InputError(
                    argument,
                    f"a stream of {found.count} rows, then of {again.count}, that differ",
                    "the same rows in every pass (no shuffling, no random augmentation)",
                )
        examples = cls(
            found.count,
            argument,
            (*notes, *_dtype_notes(found)),
            rows,
            found.inputs,
            found.targets,
            found.structured,
            found.extreme,
        )
        examples.__dict__["_survey"] = found
        return examples

    @cached_property
    def _survey(self) -> Survey:
        return survey(_pass(self._rows), self.argument)

    def batches(
        self, batch_size: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield all rows in order, `batch_size` at a time.

        Args:
            batch_size: rows in memory at a time; the last batch may be smaller.
            device: where the tensors are put.
            dtype: precision of the network, for inputs and targets that are numbers; tokens and
                labels are int64, masks stay flags.

        Raises:
            InputError: an entry is too large for `dtype`.

        """
        self._check_fits(dtype)
        for inputs, targets in self._rows.iterate(batch_size):
            yield cast(inputs, dtype, device), cast_targets(targets, dtype, device)

    def take(
        self,
        indices: Iterable[int] | Tensor,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> tuple[Inputs, Tensor]:
        """Return the rows at these positions, in this order.

        Args:
            indices: positions from 0.
            device: where the tensors are put.
            dtype: as in `batches`; None keeps floats as they are stored.

        Raises:
            IndexError: there is no such row.

        """
        inputs, targets = self._rows.take(self._positions(indices))
        return cast(inputs, dtype, device), cast_targets(targets, dtype, device)

    def subset(self, indices: Iterable[int] | Tensor) -> Examples:
        """Return the examples at these positions, in this order; nothing is copied.

        A subset of a stream is read into memory.

        Raises:
            IndexError: there is no such row.

        """
        positions = self._positions(indices)
        rows: Rows = SubsetRows(self._rows, positions)
        if isinstance(self._rows, StreamRows):
            rows = ArrayRows(*self._rows.take(positions))
        form = (self._input_leaves, self._target_leaf, self._structured, self._extreme)
        return Examples(len(positions), self.argument, self.notes, rows, *form)

    def _positions(self, indices: Iterable[int] | Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
        array = np.asarray(list(indices) if isinstance(indices, Iterator) else indices)
        if array.size == 0:
            raise IndexError("no rows were asked for")
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise IndexError("rows are asked for by a sequence of integers")
        if array.min() < 0 or array.max() >= self.count:
            raise IndexError(f"rows {array.min()} to {array.max()} of {self.count} were asked for")
        return array.astype(np.int64)

    @property
    def sha256(self) -> str:
        """SHA-256 over content, dtypes and shapes, in order; computed once."""
        return self._survey.sha256

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one input without the batch axis; None where inputs are structured."""
        return None if self._structured else self._input_leaves[0].shape

    @property
    def input_dtype(self) -> torch.dtype:
        """Stored dtype of the inputs; of the first tensor where they are structured."""
        return self._input_leaves[0].dtype

    @property
    def target_dtype(self) -> torch.dtype:
        """Stored dtype of the targets."""
        return self._target_leaf.dtype

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one target without the batch axis."""
        return self._target_leaf.shape

    @property
    def is_float(self) -> bool:
        """Whether an input is one tensor that reaches the network as real numbers."""
        return not self._structured and is_cast_to_float(self._input_leaves[0], alone=True)

    def feature_range(self) -> tuple[float, float]:
        """Return the least and the largest entry of all inputs.

        Raises:
            ValueError: inputs are tokens or structured.

        """
        if not self.is_float:
            raise ValueError("a feature range needs inputs that are one tensor of real numbers")
        return self._survey.low, self._survey.high

    def _check_fits(self, dtype: torch.dtype) -> None:
        largest = torch.finfo(dtype).max
        if self._extreme > largest:
            raise InputError(
                self.argument,
                f"numbers up to {self._extreme:.3g} in size",
                f"at most {largest:.3g}, the largest {str(dtype)[6:]}",
            )


def _pass(rows: Rows) -> Iterator[Batch]:
    """Yield all rows in pieces of about 16 MiB."""
    if isinstance(rows, StreamRows):
        return rows.raw()
    size = 256
    if isinstance(rows, ArrayRows):
        row = sum(8 * math.prod(array.shape[1:]) for _, array in leaves(rows.inputs))
        size = max(1, min(65_536, _SURVEY_BYTES // max(row, 1)))
    return rows.iterate(size)


def _dtype_notes(found: Survey) -> list[str]:
    notes = []
    for leaf in found.inputs:
        name = f"The input {leaf.label!r}" if leaf.label else "Inputs"
        verb = "is" if leaf.label else "are"
        if leaf.dtype == torch.uint8 and is_cast_to_float(leaf, not found.structured):
            notes.append(
                f"{name} {verb} 8-bit numbers, cast to float as they are, not divided by 255."
            )
        elif leaf.dtype == torch.bool and not found.structured:
            notes.append(f"{name} {verb} true or false, cast to 1 and 0.")
        elif not leaf.dtype.is_floating_point and not found.structured:
            notes.append(f"{name} {verb} integers and reach the network as tokens (int64).")
    return notes
