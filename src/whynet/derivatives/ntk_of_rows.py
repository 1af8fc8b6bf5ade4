"""The empirical tangent kernel of rows with themselves: its blocks, and what each layer adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whynet.derivatives.empirical_ntk import (
    MEMORY,
    blocks_of_rows,
    gradients_of_block,
    plan_ntk,
)
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.fitting_rows import row_count
from whynet.models.subject import Subject


def ntk_blocks(
    subject: Subject, inputs: Any, *, plan: NtkPlan | None = None, memory: int = MEMORY
) -> Tensor:
    """Return the kernel of each row with itself, `[n, outputs, outputs]`.

    Args as of `empirical_ntk`.
    """
    plan = plan or plan_ntk(subject, inputs)
    width = torch.finfo(subject.dtype).bits // 8
    blocks = blocks_of_rows(plan, row_count(inputs), width, memory)
    return torch.cat([
        gradients_of_block(subject, inputs, rows, plan, width, memory).own() for rows in blocks
    ])  # fmt: skip


def ntk_traces(
    subject: Subject, inputs: Any, *, plan: NtkPlan | None = None, memory: int = MEMORY
) -> dict[str, Tensor]:
    """Return what each trained parameter adds to the kernel of each row with itself, `[n]`.

    Summed over outputs. A weight and the bias that always goes with it stand together, under the
    name of the weight.
    """
    plan = plan or plan_ntk(subject, inputs)
    width = torch.finfo(subject.dtype).bits // 8
    found: dict[str, list[Tensor]] = {}
    for rows in blocks_of_rows(plan, row_count(inputs), width, memory):
        held = gradients_of_block(subject, inputs, rows, plan, width, memory)
        for planned, part in zip(plan.parts, held.parts, strict=False):
            found.setdefault(planned.names[0], []).append(
                part.own().diagonal(dim1=1, dim2=2).sum(1)
            )
        if plan.rest:
            sizes = [subject.parameters[name].numel() for name in plan.rest]
            written = held.parts[-1].written_out()
            for name, own in zip(plan.rest, torch.split(written, sizes, dim=2), strict=True):
                found.setdefault(name, []).append(own.square().sum((1, 2)))
    return {name: torch.cat(parts) for name, parts in found.items()}
