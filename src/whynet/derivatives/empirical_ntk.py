"""The empirical neural tangent kernel of a subject: inner products of its parameter gradients.

Of outputs f_c it is K(x, x')[c, d] = sum over trainable parameters of df_c(x) df_d(x'). Three ways
to a parameter's share are known and the cheapest is taken by counting multiplications (Novak,
Sohl-Dickstein and Schoenholz 2022, arXiv:2206.08720, call them structured derivatives and Jacobian
contraction): a matrix that is used at few positions gives the product of two small Gram matrices,
of what enters it and of what comes back to it; one that is used at many gives the gradients of
rows, written out; whatever is used in another way is taken by plain Jacobians. Which of them is
right for a network is found by a probe against plain autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whynet.core.seeds import seed_from
from whynet.derivatives.exact_kernels import exact_kernels
from whynet.derivatives.gradient_parts import Form, Gradients, Part, Written, joined
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.derivatives.row_jacobians import batched_jacobian, looped_jacobian, rows_of
from whynet.derivatives.use_gradients import Axis, Seen, part_of, planned_parts
from whynet.derivatives.watched_passes import ROWS, structure_of, watched
from whynet.models.fitting_rows import row_count
from whynet.models.subject import Subject

MEMORY = 2**29
"""Bytes for the gradients of blocks of rows."""

SIGNALS = 64
"""Outputs that are taken back through the network at once."""

PANEL = 320
"""Rows times outputs of a panel of a symmetric kernel, of which one half is computed."""

CACHE, FEWEST = 2**26, 32
"""Bytes that gradients take while they are computed, where so many rows are possible."""

PROBE_ROWS, DIRECTIONS = 3, 6
"""Rows of the probe, and random mixtures of all their outputs that are differentiated."""

AGREES = {torch.float32: 1e-3, torch.float64: 1e-9}
"""How far a way may miss the loop, relative to the largest entry of the kernel."""


def plan_ntk(subject: Subject, inputs: Any) -> NtkPlan:
    """Choose how to compute the kernel of a subject, by a probe on the first rows of a batch.

    Args:
        subject: the network at the parameters of interest.
        inputs: a batch; its first three rows are used.

    Cost: a few passes over three rows.

    """
    few = rows_of(inputs, 0, PROBE_ROWS)
    names = tuple(subject.parameters)
    with torch.no_grad():
        outputs = subject.forward(subject.parameters, few)
    count = outputs[0].numel()
    size = count * _size(subject, names)
    loop = NtkPlan((), (), (), names, False, False, count, size, size, size)
    generator = torch.Generator().manual_seed(seed_from("kernel plan"))
    mixed = torch.randn(DIRECTIONS, outputs.numel(), generator=generator).to(outputs)
    # in float64, since a sum of millions of products in float32 may lose three digits
    pulled = _pulled(subject, few, mixed).double()
    wanted = pulled @ pulled.T
    scale = max(float(wanted.abs().max()), torch.finfo(wanted.dtype).tiny)
    for plan in _candidates(subject, inputs, loop):
        try:
            held = gradients(subject, few, plan)
            kernel = held.products(held, "full").reshape(mixed.shape[1], -1)
            found = mixed @ kernel @ mixed.T
        except Exception:  # noqa: BLE001 - PyTorch raises many kinds where a way is barred
            continue
        miss = float((found - wanted).abs().max()) / scale
        if miss <= AGREES.get(subject.dtype, 1e-3):
            return replace(plan, miss=miss)
    return loop


def _pulled(subject: Subject, inputs: Any, mixed: Tensor) -> Tensor:
    """Return gradients `[k, P]` of mixtures of the outputs of all rows, by plain autograd."""
    chosen = {name: p.clone().requires_grad_() for name, p in subject.parameters.items()}
    with exact_kernels(), torch.enable_grad():
        each = [
            subject.forward({**subject.parameters, **chosen}, rows_of(inputs, i, i + 1)).reshape(-1)
            for i in range(min(PROBE_ROWS, row_count(inputs)))
        ]
        flat = torch.cat(each)
        found = [
            torch.autograd.grad(
                flat @ one, list(chosen.values()), retain_graph=True, materialize_grads=True
            )
            for one in mixed
        ]
    return torch.stack([torch.cat([part.reshape(-1) for part in parts]) for parts in found])


def _candidates(subject: Subject, inputs: Any, loop: NtkPlan) -> Iterator[NtkPlan]:
    """Yield plans, the cheapest first; none that takes everything one by one."""
    try:
        seen = _planned(subject, inputs, loop)
    except Exception:  # noqa: BLE001 - a network that cannot be watched is taken by Jacobians
        seen = None
    if seen is not None:
        yield replace(seen, together=True, batched=True)
        yield replace(seen, batched=True)
        if seen.rest:
            yield seen
    yield replace(loop, batched=True)


def _planned(subject: Subject, inputs: Any, loop: NtkPlan) -> NtkPlan | None:
    """Watch the network on two and on three rows; None where no use is known."""
    found = structure_of(subject.forward, subject.parameters, inputs)
    if found is None:
        return None
    names, used, others = tuple(subject.parameters), found.used, found.others
    trained = tuple(name for name in names if name in used and name not in others)
    if not trained:
        return None
    parts = planned_parts(found.uses, trained, ROWS, loop.outputs)
    unused = {name for name in names if name not in used and name not in others}
    rest = tuple(name for name in names if name not in trained and name not in unused)
    size = loop.outputs * _size(subject, rest)
    held = size + sum(part.row_numbers for part in parts)
    peak = max(held, size + sum(part.peak_numbers for part in parts))
    work = size + sum(part.pair_work for part in parts)
    return NtkPlan(
        tuple(parts),
        tuple(axis or Axis(0, 1) for axis in found.axes),
        found.keys,
        rest,
        False,
        False,
        loop.outputs,
        held,
        peak,
        work,
    )


def empirical_ntk(
    subject: Subject,
    first: Any,
    second: Any = None,
    *,
    form: Form | None = None,
    plan: NtkPlan | None = None,
    memory: int = MEMORY,
) -> Tensor:
    """Return the empirical neural tangent kernel between two batches, in the subject's precision.

    Args:
        subject: the network, at the parameters of interest, in evaluation mode.
        first: a batch of n inputs.
        second: a batch of m inputs; the first one where None.
        form: `full` keeps the outputs apart, `per-output` each with itself only, `trace` sums
            over them; by default their mean.
        plan: how to compute it; chosen by a probe where None.
        memory: bytes that the gradients of blocks of rows may take, apart from the result; blocks
            have at least one row.

    Returns:
        `[n, m]`, the trace over the outputs, by default divided by their number; `per-output`
        `[n, m, outputs]`; `full` `[n, outputs, m, outputs]`.

    Cost: of the trace, `plan.pair_work` multiplications a pair of rows, and one backward pass an
    output; each pair of rows of a symmetric kernel once. Memory: the result and `memory`.

    """
    plan = plan or plan_ntk(subject, first)
    kept: Form = form or "trace"
    width = torch.finfo(subject.dtype).bits // 8
    n, symmetric = row_count(first), second is None
    m = n if symmetric else row_count(second)
    kernel = _empty(subject, plan, kept, n, m)
    blocks = list(blocks_of_rows(plan, n, width, memory))
    across = blocks if symmetric else list(blocks_of_rows(plan, m, width, memory))
    for i, rows in enumerate(blocks):
        left = gradients_of_block(subject, first, rows, plan, width, memory)
        for columns in across[i:] if symmetric else across:
            if symmetric and columns == rows:
                _symmetric(kernel, left, rows, plan, kept)
                continue
            right = gradients_of_block(
                subject, first if symmetric else second, columns, plan, width, memory
            )
            part = left.products(right, kept)
            _put(kernel, part, rows, columns, kept, mirrored=symmetric)
    return kernel if form is not None else kernel.div_(plan.outputs)


def blocks_of_rows(plan: NtkPlan, rows: int, width: int, memory: int) -> Iterator[slice]:
    """Cut rows into blocks, two of whose gradients fit; one block where all fit."""
    size = max(1, memory // (2 * width * max(1, plan.row_numbers)))
    if rows * plan.row_numbers * width <= memory // 2:
        size = max(1, rows)
    for start in range(0, rows, size):
        yield slice(start, min(rows, start + size))


def gradients_of_block(
    subject: Subject, inputs: Any, rows: slice, plan: NtkPlan, width: int, memory: int
) -> Gradients:
    """Compute gradients of a block, as many rows at once as fit while they are computed.

    Not more than a cache likes, but rows enough to make good use of the weights.
    """
    row = width * max(1, plan.peak_numbers)
    size = max(1, min(memory // (2 * row), max(FEWEST, CACHE // row)))
    starts = range(rows.start, rows.stop, size)
    return joined([
        gradients(subject, rows_of(inputs, start, min(rows.stop, start + size)), plan)
        for start in starts
    ])  # fmt: skip


def _empty(subject: Subject, plan: NtkPlan, form: Form, n: int, m: int) -> Tensor:
    count = plan.outputs
    shapes = {"full": (n, count, m, count), "per-output": (n, m, count), "trace": (n, m)}
    return torch.zeros(shapes[form], dtype=subject.dtype, device=subject.device)


def _symmetric(kernel: Tensor, held: Gradients, rows: slice, plan: NtkPlan, form: Form) -> None:
    """Fill the kernel of a block with itself: panels of rows against the rows from there on."""
    count = rows.stop - rows.start
    step = max(8, PANEL // max(3, plan.outputs if form == "full" else 1))
    for top in range(0, count, step):
        stop = min(count, top + step)
        part = held.at(slice(top, stop)).products(held.at(slice(top, count)), form)
        place = slice(rows.start + top, rows.start + stop)
        across = slice(rows.start + top, rows.stop)
        _put(kernel, part, place, across, form, mirrored=True)


def _put(
    kernel: Tensor, part: Tensor, rows: slice, columns: slice, form: Form, *, mirrored: bool
) -> None:
    if form == "full":
        kernel[rows, :, columns] = part
        if mirrored:
            kernel[columns, :, rows] = part.permute(2, 3, 0, 1)
        return
    kernel[rows, columns] = part
    if mirrored:
        kernel[columns, rows] = part.transpose(0, 1)


def gradients(subject: Subject, inputs: Any, plan: NtkPlan) -> Gradients:
    """Return the gradients of all outputs on a batch, in the form that a plan asks for."""
    # oneDNN's recurrent layers have no batching rule and would warn
    with exact_kernels(onednn=not (plan.batched and plan.rest)), torch.enable_grad():
        parts = _by_uses(subject, inputs, plan) if plan.parts else []
        if plan.rest or not parts:
            jacobian = batched_jacobian if plan.batched else looped_jacobian
            parts.append(Written(jacobian(subject, inputs, plan.rest)))
        return Gradients(tuple(parts))


def _by_uses(subject: Subject, inputs: Any, plan: NtkPlan) -> list[Part]:
    """Return the planned parts: one forward pass, and one backward pass an output."""
    watch, outputs = watched(subject.forward, subject.parameters, inputs, plan.watched)
    if tuple(use.key for use in watch.uses) != plan.keys:
        raise ValueError("the network uses its parameters in another way on these rows")
    rows = row_count(inputs)
    places = sorted({place for part in plan.parts for place in part.uses})
    leaving = [watch.uses[place].leaving for place in places]
    signals = _signals(outputs.reshape(rows, -1), leaving, together=plan.together)
    seen = {
        place: Seen(watch.uses[place], signal, plan.axes[place], rows)
        for place, signal in zip(places, signals, strict=True)
    }
    return [part_of(part, [seen[place] for place in part.uses]) for part in plan.parts]


def _signals(outputs: Tensor, leaving: list[Tensor], *, together: bool) -> list[Tensor]:
    """Return derivatives `[C, ...]` of all outputs, summed over rows, at some places."""
    count = outputs.shape[1]
    if not outputs.requires_grad:
        return [held.new_zeros((count, *held.shape)) for held in leaving]

    def back(cotangents: Tensor, batched: bool) -> Sequence[Tensor]:
        return torch.autograd.grad(
            outputs,
            leaving,
            cotangents,
            retain_graph=True,
            materialize_grads=True,
            is_grads_batched=batched,
        )

    eye = torch.eye(count, dtype=outputs.dtype, device=outputs.device)
    if together and count > 1:
        blocks = [
            back(part[:, None].expand(-1, *outputs.shape), True)
            for part in torch.split(eye, SIGNALS)
        ]
        return [torch.cat(parts) for parts in zip(*blocks, strict=True)]
    rows = [back(one.expand(outputs.shape), False) for one in eye]
    return [torch.stack(parts) for parts in zip(*rows, strict=True)]


def _size(subject: Subject, names: tuple[str, ...]) -> int:
    return sum(math.prod(subject.parameters[name].shape) for name in names)
