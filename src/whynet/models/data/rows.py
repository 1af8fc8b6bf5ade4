"""Where rows come from: arrays, a dataset, or a stream that can be run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.data.structure import Inputs, joined, leaves, mapped
from whynet.models.load.wording import printable, quoted

Indices = np.ndarray[Any, np.dtype[np.int64]]
Batch = tuple[Inputs, Tensor]

TARGET_KEYS = ("labels", "label", "targets", "target", "y")


class Rows(Protocol):
    """Ordered rows; batches are fresh tensors on the CPU in the stored dtypes."""

    def iterate(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, `batch_size` at a time."""

    def take(self, indices: Indices) -> Batch:
        """Return the rows at these positions, in this order."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows of arrays or tensors, which may lie in a mapped file; only batches are copied."""

    inputs: Any
    targets: Any

    def iterate(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, `batch_size` at a time."""
        for start in range(0, len(self.targets), batch_size):
            yield self._at(slice(start, start + batch_size))

    def take(self, indices: Indices) -> Batch:
        """Return the rows at these positions, in this order."""
        return self._at(indices)

    def _at(self, where: slice | Indices) -> Batch:
        return mapped(self.inputs, lambda leaf: _copied(leaf, where)), _copied(self.targets, where)


def _copied(leaf: Any, where: slice | Indices) -> Tensor:
    if isinstance(leaf, Tensor):
        index = where if isinstance(where, slice) else torch.from_numpy(where)
        return leaf.detach()[index].to("cpu", copy=True)
    part = np.array(leaf[where], order="C")
    if part.dtype.kind == "u" and part.dtype.itemsize > 1:
        part = part.astype(np.int64)
    return torch.from_numpy(part.astype(part.dtype.newbyteorder("="), copy=False))


@dataclass(frozen=True)
class DatasetRows:
    """Rows of a map-style dataset, read one by one and collated in batches."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    argument: str
    count: int

    def iterate(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, `batch_size` at a time."""
        for start in range(0, self.count, batch_size):
            yield self.take(np.arange(start, min(start + batch_size, self.count)))

    def take(self, indices: Indices) -> Batch:
        """Return the rows at these positions, in this order."""
        rows = [self._row(int(index)) for index in indices]
        try:
            batch = self.collate(rows)
        except Exception as error:  # collate functions are the user's code
            raise InputError(
                self.argument,
                f"rows that cannot be collated ({_words(error)})",
                "rows of one shape and type",
            ) from error
        return split_batch(batch, self.argument, len(rows))

    def _row(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:  # datasets are the user's code
            raise InputError(
                self.argument,
                f"a dataset that fails at row {index} of {self.count} ({_words(error)})",
                "a dataset whose every row can be read",
            ) from error


@dataclass(frozen=True)
class StreamRows:
    """Rows of something that can only be iterated over, again and again."""

    source: Iterable[Any]
    argument: str
    cap: int

    def raw(self) -> Iterator[Batch]:
        """Yield the batches as they come, at most `cap` rows (and as many batches)."""
        rows = batches = 0
        iterator = self._guarded()
        for batch in iterator:
            pair = split_batch(batch, self.argument)
            rows, batches = rows + len(pair[1]), batches + 1
            if rows > self.cap or batches > self.cap:
                raise InputError(
                    self.argument,
                    f"a stream still going on after {self.cap} rows, endless perhaps",
                    "a stream that ends, or a dataset with a length",
                )
            yield pair

    def _guarded(self) -> Iterator[Any]:
        count = 0
        try:
            for batch in self.source:
                yield batch
                count += 1
        except InputError:
            raise
        except Exception as error:  # loaders are the user's code
            raise InputError(
                self.argument,
                f"a loader that fails after {count} batches ({_words(error)})",
                "a loader that runs through",
            ) from error

    def iterate(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, `batch_size` at a time."""
        held: list[Batch] = []
        rows = 0
        for pair in self.raw():
            held.append(pair)
            rows += len(pair[1])
            while rows >= batch_size:
                inputs, targets = _join(held)
                yield mapped(inputs, lambda leaf: leaf[:batch_size]), targets[:batch_size]
                held = [(mapped(inputs, lambda leaf: leaf[batch_size:]), targets[batch_size:])]
                rows -= batch_size
        if rows:
            yield _join(held)

    def take(self, indices: Indices) -> Batch:
        """Return the rows at these positions, in one pass over the stream."""
        order = np.argsort(indices, kind="stable")
        wanted = indices[order]
        parts, start = [], 0
        for inputs, targets in self.raw():
            low, high = np.searchsorted(wanted, [start, start + len(targets)])
            if high > low:
                local = torch.from_numpy(wanted[low:high] - start)
                parts.append((mapped(inputs, itemgetter(local)), targets[local]))
            start += len(targets)
            if high == len(wanted):
                break
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        inputs, targets = _join(parts)
        return mapped(inputs, lambda leaf: leaf[back]), targets[back]


@dataclass(frozen=True)
class SubsetRows:
    """Some rows of others, in their own order."""

    rows: Rows
    indices: Indices

    def iterate(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, `batch_size` at a time."""
        for start in range(0, len(self.indices), batch_size):
            yield self.rows.take(self.indices[start : start + batch_size])

    def take(self, indices: Indices) -> Batch:
        """Return the rows at these positions, in this order."""
        return self.rows.take(self.indices[indices])


def _join(pairs: list[Batch]) -> Batch:
    return joined([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])


def split_batch(batch: Any, argument: str, rows: int | None = None) -> Batch:
    """Take a batch of a loader apart into inputs and targets.

    Args:
        batch: a pair, or a dict whose entry `labels`, `label`, `targets`, `target` or `y` holds
            the targets; the sole other entry is the input, several stay a dict.
        argument: name of the argument the loader came from.
        rows: how many rows it must have, where that is known.

    Raises:
        InputError: it is neither, or its parts are no tensors of one length.

    """
    wanted = "batches (inputs, targets), or dicts with an entry 'labels'"
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        if key is None or len(batch) < 2:
            names = ", ".join(quoted(name) for name in list(batch)[:8])
            raise InputError(argument, f"batches with the entries {names}", wanted)
        targets = batch[key]
        inputs = {str(name): batch[name] for name in batch if name != key}
        inputs = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, targets = batch
    else:
        kind = type(batch).__name__
        parts = f" of {len(batch)} parts" if isinstance(batch, tuple | list) else ""
        raise InputError(argument, f"batches of type {kind}{parts}", wanted)
    inputs = mapped(inputs, lambda leaf: leaf)
    for label, leaf in [*leaves(inputs), ("targets", targets)]:
        _check_part(leaf, label, argument, len(targets) if rows is None else rows)
    return inputs, targets


def _check_part(leaf: Any, label: str, argument: str, rows: int) -> None:
    name = f"{quoted(label)} " if label else ""
    if not isinstance(leaf, Tensor):
        element = leaf[0] if isinstance(leaf, tuple | list) and leaf else leaf
        raise InputError(
            argument,
            f"{name}inputs or targets of type {type(element).__name__}",
            "tensors of numbers in every batch",
        )
    if leaf.is_nested or leaf.layout != torch.strided or leaf.is_quantized or leaf.is_complex():
        raise InputError(
            argument, f"{name}tensors of {leaf.layout} {leaf.dtype}", "dense real tensors"
        )
    if leaf.ndim == 0 or len(leaf) != rows:
        raise InputError(
            argument,
            f"{name}tensors of shape {list(leaf.shape)} in a batch of {rows} rows",
            "one entry a row along the first axis",
        )


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {printable(str(error), 120)}"
