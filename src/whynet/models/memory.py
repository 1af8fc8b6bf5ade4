"""How many rows fit into a given memory, from what autograd keeps for one row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.subject import Subject

PASSES = 4
"""A Hessian-vector product holds about four times what a plain gradient keeps for its way back."""


def bytes_per_row(subject: Subject) -> int:
    """Measure what autograd keeps of one row for a gradient; bytes.

    Cost: one forward pass over at most 8 rows.
    """
    inputs, _ = next(iter(subject.batches(subject.any_split, min(8, subject.batch_size))))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = {
        name: value.clone().requires_grad_() for name, value in subject.parameters.items()
    }
    own = {value.untyped_storage().data_ptr() for value in parameters.values()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = subject.forward(parameters, inputs)
    total = sum(size for pointer, size in kept.items() if pointer not in own)
    total += outputs.numel() * outputs.element_size()
    return max(1, total // max(1, _rows(inputs)))


USUAL = 3 * 2**30
"""Bytes that products on a batch may take where the caller names neither memory nor batch size."""


def usual_batch(subject: Subject) -> int:
    """Return the subject's batch size, or the rows whose products fit into 3 GiB where fewer do.

    In float64 they take twice that. It follows from shapes alone, never from the machine, so that
    numbers reproduce. A network that cannot be watched keeps its batch size.
    """
    try:
        return affordable_batch(subject, USUAL)
    except InputError:
        return 1
    except Exception:  # noqa: BLE001 - the user's code may not run while it is watched
        return subject.batch_size


def affordable_batch(subject: Subject, memory: int) -> int:
    """Return the largest batch size, up to the subject's own, whose products fit into `memory`.

    Raises:
        InputError: not even one row fits.

    """
    weights = sum(p.numel() * p.element_size() for p in subject.module.parameters())
    row = PASSES * bytes_per_row(subject)
    rows = (memory - PASSES * weights) // row
    if rows < 1:
        raise InputError(
            "--memory",
            f"{memory / 2**20:.1f} MiB",
            f"at least {(PASSES * weights + row) / 2**20:.1f} MiB, for the weights and one row",
        )
    return min(subject.batch_size, int(rows))


def _rows(inputs: Any) -> int:
    first = inputs
    while not isinstance(first, Tensor):
        first = next(iter(first.values())) if isinstance(first, dict) else first[0]
    return int(first.shape[0])
