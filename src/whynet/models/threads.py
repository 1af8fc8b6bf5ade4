"""How many threads a network is worth: one, unless a batch is large enough to share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from whynet.core.errors import InputError
from whynet.models.preservation import preserved
from whynet.models.subject import Subject

WORTH_SHARING = 5e8
"""Floating-point operations of a batch's forward pass below which one thread is taken.

Chosen for machines that do other work as well: below it two threads would often be faster on an
idle one and are several times slower on a busy one (`benchmarks/threads.py`)."""


MOST_WORK = 4e11
"""Floating-point operations that passes over a large network's rows may take: ten seconds."""

LEAST_ROWS = 32
"""Rows that are taken in any case, where there are so many."""


def advised_threads(subject: Subject) -> int:
    """Choose the number of threads from the network and the batch size alone.

    Returns:
        1 where a forward pass over one batch is small, else what torch would use; the same on
        every call, so that numbers reproduce to the bit on the same machine class.

    Cost: one forward pass over at most 4 rows.

    """
    row = forward_work(subject)
    if row is None:
        return torch.get_num_threads()
    return 1 if row * subject.batch_size < WORTH_SHARING else torch.get_num_threads()


def forward_work(subject: Subject) -> float | None:
    """Count the floating-point operations of a forward pass, a row; None where that fails.

    Cost: one forward pass over at most 4 rows.
    """
    rows = min(4, subject.batch_size, subject.examples(subject.any_split).count)
    inputs, _ = next(iter(subject.batches(subject.any_split, rows)))
    try:
        with preserved(), torch.no_grad(), FlopCounterMode(display=False) as counter:
            subject.forward(subject.parameters, inputs)
    except Exception:  # noqa: BLE001 - the user's code may not run under a dispatch mode
        return None
    return float(counter.get_total_flops()) / rows


def affordable_rows(subject: Subject, passes: float, most: int) -> int:
    """Return how many rows may take so many forward passes: all, or fewer of a large network.

    Args:
        subject: the network.
        passes: forward passes of a row.
        most: rows there are, or are wanted.

    Cost: one forward pass over at most 4 rows.
    """
    work = forward_work(subject)
    if not work:
        return most
    return max(min(most, LEAST_ROWS), min(most, int(MOST_WORK / (work * passes))))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads inside, and with as many as before outside.

    Raises:
        InputError: fewer than one.

    """
    if count is None:
        yield
        return
    if count < 1:
        raise InputError("--threads", repr(count), "a whole number of at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
