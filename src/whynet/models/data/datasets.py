"""Datasets and loaders of PyTorch, as ordered rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from whynet.core.errors import InputError
from whynet.models.data.rows import DatasetRows, Rows, StreamRows, SubsetRows
from whynet.models.data.structure import leaves

_LARGEST = 2**40


def rows_of_dataset(
    dataset: Any, argument: str, collate: Callable[[list[Any]], Any] = default_collate
) -> DatasetRows:
    """Return the rows of a map-style dataset, after reading a few of them twice.

    Raises:
        InputError: it has no length or no rows, or a row differs between two reads.

    """
    try:
        count = len(dataset)
    except Exception as error:  # datasets are the user's code
        raise InputError(
            argument,
            f"a {type(dataset).__name__} without a length",
            "a dataset with __len__ and __getitem__",
        ) from error
    if not 0 < count < _LARGEST:
        raise InputError(argument, f"{count} rows", "at least one row")
    rows = DatasetRows(dataset, collate, argument, count)
    _check_steady(rows, argument)
    return rows


def _check_steady(rows: DatasetRows, argument: str) -> None:
    """Read some rows twice, with other random numbers, since augmentation would move them."""
    some = np.unique(np.linspace(0, rows.count - 1, 5).astype(np.int64))
    reads = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            reads.append(rows.take(some))
    for (inputs, targets), (other, others) in [tuple(reads)]:
        first, second = [*leaves(inputs), ("", targets)], [*leaves(other), ("", others)]
        for (_, one), (_, two) in zip(first, second, strict=True):
            if one.shape != two.shape or not _same(one, two):
                raise InputError(
                    argument,
                    "rows that differ between two reads",
                    "the same row each time (random augmentation switched off)",
                )


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    return bool(torch.allclose(one, two, rtol=0, atol=0, equal_nan=True))


def rows_of_loader(loader: DataLoader[Any], argument: str, cap: int) -> tuple[Rows, list[str]]:
    """Return the rows of a loader in the order of its dataset, with notes on what differs.

    Raises:
        InputError: its sampler picks rows in a way that has no order.

    """
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        return StreamRows(loader, argument, cap), []
    rows = rows_of_dataset(loader.dataset, argument, loader.collate_fn)
    notes: list[str] = []
    sampler: Any = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if type(loader.batch_sampler) is not BatchSampler:
        batches: Any = loader.batch_sampler
        sampler = list(islice((index for batch in batches for index in batch), rows.count + 1))
    if isinstance(sampler, SubsetRandomSampler):
        chosen = np.sort(np.asarray(list(sampler.indices), dtype=np.int64))
        if len(chosen) == 0:
            raise InputError(argument, "0 rows", "at least one row")
        notes.append("The loader draws from a part of its dataset; that part is read in order.")
        return SubsetRows(rows, chosen), notes
    if isinstance(sampler, RandomSampler):
        notes.append("The loader shuffles; its rows are read in the order of its dataset instead.")
    elif isinstance(sampler, WeightedRandomSampler):
        notes.append("The loader weights its rows; each row of its dataset is read once instead.")
    elif not isinstance(sampler, SequentialSampler):
        if len(sampler) != rows.count:
            raise InputError(
                argument,
                f"a loader whose {type(sampler).__name__} picks {len(sampler)} rows of "
                f"{rows.count}",
                "a loader of exactly the rows to examine (torch.utils.data.Subset)",
            )
        notes.append(
            f"The loader's {type(sampler).__name__} is not used; rows are read in the order of "
            "its dataset."
        )
    return rows, notes
