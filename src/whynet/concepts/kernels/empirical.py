"""The empirical tangent kernel of a subject, as `whynet.kernels.ntk`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from whynet.core.errors import InputError
from whynet.derivatives.empirical_ntk import MEMORY, empirical_ntk, plan_ntk
from whynet.derivatives.ntk_of_rows import ntk_blocks, ntk_traces
from whynet.derivatives.ntk_operator import NtkOperator, ntk_operator
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.fitting_rows import row_count
from whynet.models.subject import Subject

Kept = Literal["full", "per-output", "trace", "mean", "block"]

KEPT: tuple[Kept, ...] = ("full", "per-output", "trace", "mean", "block")
LEAST_MEMORY = 2**20


def ntk(
    subject: Subject,
    inputs: Any = "train",
    other: Any = None,
    *,
    outputs: Kept = "full",
    rows: int | None = None,
    memory: int = MEMORY,
    plan: NtkPlan | None = None,
) -> Tensor:
    """Return the empirical neural tangent kernel, inner products of parameter gradients.

    Jacot, Gabriel and Hongler 2018 (arXiv:1806.07572). How it is computed is chosen from shapes
    and checked against plain autograd, see `whynet.derivatives.empirical_ntk`.

    Args:
        subject: the network, in evaluation mode, at the parameters of interest.
        inputs: n rows: `train`, `test`, or a batch in the form that the network takes (a tensor or
            array, a tuple or a dict of them).
        other: m rows for the second side, in the same forms; the same rows where None.
        outputs: what is kept of C outputs: `full` `[n, m, C, C]`, `per-output` `[n, m, C]`,
            `trace` their sum `[n, m]`, `mean` its C-th part, `block` of each row with itself only
            `[n, C, C]`.
        rows: of `train` or `test` use so many, evenly spread; all by default.
        memory: bytes for gradients, apart from the result.
        plan: from `plan_ntk`, where several kernels of one network are wanted.

    Returns:
        A tensor in the subject's precision, on its device.

    Raises:
        InputError: no such split, form or memory; the network draws random numbers; or no
            parameter is trainable.

    Cost: one backward pass an output and `plan.pair_work` multiplications a pair of rows (of the
    full kernel C times that), half of them where both sides are the same.

    """
    checked(subject, memory)
    if outputs not in KEPT:
        raise InputError("outputs", repr(outputs), "one of " + ", ".join(KEPT))
    if outputs == "block" and other is not None:
        raise InputError("other", "a second side", "none, where each row is taken with itself")
    first = batch_of(subject, inputs, rows, "inputs")
    second = None if other is None else batch_of(subject, other, rows, "other")
    plan = plan or plan_ntk(subject, first)
    if outputs == "block":
        return ntk_blocks(subject, first, plan=plan, memory=memory)
    if outputs == "mean":
        return empirical_ntk(subject, first, second, plan=plan, memory=memory)
    found = empirical_ntk(subject, first, second, form=outputs, plan=plan, memory=memory)
    return found.permute(0, 2, 1, 3) if outputs == "full" else found


def ntk_product(
    subject: Subject, inputs: Any = "train", *, rows: int | None = None, memory: int = MEMORY
) -> NtkOperator:
    """Return the full kernel as an operator `[n C, n C]` that multiplies and is never made.

    It takes torch tensors and NumPy arrays by `@`; `to_scipy()` is for `scipy.sparse.linalg`. The
    outputs of a row stand next to each other.

    Args:
        subject: as of `ntk`.
        inputs: as of `ntk`.
        rows: as of `ntk`.
        memory: bytes up to which the gradients of all rows are held between products.

    Raises:
        InputError: as of `ntk`.

    """
    checked(subject, memory)
    return ntk_operator(subject, batch_of(subject, inputs, rows, "inputs"), memory=memory)


def layer_shares(
    subject: Subject, inputs: Any = "train", *, rows: int | None = None, memory: int = MEMORY
) -> dict[str, float]:
    """Return the share of each layer's parameters in the trace of the kernel.

    Args:
        subject: as of `ntk`.
        inputs: as of `ntk`.
        rows: as of `ntk`.
        memory: as of `ntk`.

    Returns:
        Path of the layer (a parameter of the network itself: its name) to its share; they add up
        to 1. All are NaN where the kernel is zero.

    """
    checked(subject, memory)
    batch = batch_of(subject, inputs, rows, "inputs")
    found: dict[str, float] = {}
    for name, values in ntk_traces(subject, batch, memory=memory).items():
        layer = name.rpartition(".")[0] or name
        found[layer] = found.get(layer, 0.0) + float(values.double().sum())
    total = sum(found.values())
    return {layer: value / total if total else float("nan") for layer, value in found.items()}


def checked(subject: Subject, memory: int = MEMORY) -> None:
    """Refuse what has no kernel.

    Raises:
        InputError: the network is not deterministic, nothing is trainable, or memory is too small.

    """
    if "deterministic" not in subject.tags:
        raise InputError(
            "subject",
            "a network that draws random numbers when it is evaluated",
            "one whose outputs are the same each time (switch off what is random in it)",
        )
    if not subject.parameters:
        raise InputError("subject", "a network without trainable parameters", "at least one")
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < LEAST_MEMORY:
        raise InputError("memory", repr(memory), f"a number of bytes, at least {LEAST_MEMORY}")


def batch_of(subject: Subject, inputs: Any, rows: int | None, argument: str) -> Any:
    """Return a batch on the subject's device, in its precision.

    Raises:
        InputError: no such split, no rows, or something that holds no arrays.

    """
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
        raise InputError("rows", repr(rows), "a whole number of at least 1")
    if isinstance(inputs, str):
        if inputs not in ("train", "test"):
            raise InputError(argument, repr(inputs), "train, test, or a batch of inputs")
        data = subject.examples("train" if inputs == "train" else "test")
        count = data.count if rows is None else min(rows, data.count)
        places: Sequence[int] = [i * data.count // count for i in range(count)]
        return data.take(places, device=subject.device, dtype=subject.dtype)[0]
    batch = tree_map(lambda leaf: _tensor(leaf, subject), inputs)
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    if not tensors or any(leaf.ndim == 0 for leaf in tensors) or row_count(batch) < 1:
        raise InputError(argument, f"{type(inputs).__name__} without rows", "arrays of rows")
    return batch


def _tensor(leaf: Any, subject: Subject) -> Any:
    if isinstance(leaf, np.ndarray):
        leaf = torch.as_tensor(leaf)
    if not isinstance(leaf, Tensor):
        return leaf
    kind = subject.dtype if leaf.is_floating_point() else leaf.dtype
    return leaf.detach().to(device=subject.device, dtype=kind)
