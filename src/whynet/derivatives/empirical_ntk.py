"""The empirical neural tangent kernel of a subject: inner products of its parameter gradients.

Of outputs f_c it is K(x, x')[c, d] = sum over trainable parameters of df_c(x) df_d(x'). A dense
layer that is called once on rows gives its part as a product of two small Gram matrices, of what
enters it and of what comes back to it; the other parameters are taken by Jacobians, example by
example, blocks of rows at a time. Which way is right is found by a probe against plain autograd.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.utils._pytree import tree_leaves, tree_map

from whynet.derivatives.exact_kernels import exact_kernels
from whynet.derivatives.objective import row_count
from whynet.models.network_checks import select_output
from whynet.models.subject import Subject

BLOCK_BYTES = 2**28
"""Memory for the gradients of one block of rows; two blocks are held at a time."""

ACTIVITIES = 2**20
"""Numbers in the inputs of a chunk, times outputs, whose Jacobians are taken at once."""

PROBE_ROWS = 3
AGREES = {torch.float32: 1e-3, torch.float64: 1e-9}
"""How far a way may miss the loop, relative to the largest entry of the kernel."""


@dataclass(frozen=True)
class NtkPlan:
    """How a network's kernel is computed.

    Attributes:
        layers: paths of dense layers whose part is a product of Gram matrices.
        rest: names of the other trainable parameters, taken by Jacobians.
        batched: whether these Jacobians are taken for many rows at once.
        outputs: number of outputs of an example.
        row_numbers: numbers held for a row of a block.
        miss: largest gap to plain autograd on the probed rows, relative to the largest entry.

    """

    layers: tuple[str, ...]
    rest: tuple[str, ...]
    batched: bool
    outputs: int
    row_numbers: int
    miss: float = 0.0


@dataclass(frozen=True)
class Gradients:
    """The gradients of a block of rows, dense layers as factors.

    Attributes:
        entering: per layer `[rows, features]`, with a column of ones where its bias is trained.
        returning: per layer `[rows, outputs, units]`.
        rest: `[rows, outputs, parameters]` of the other parameters.

    """

    entering: tuple[Tensor, ...]
    returning: tuple[Tensor, ...]
    rest: Tensor


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
    loop = NtkPlan((), names, False, count, count * _size(subject, names))
    wanted = _product(*[gradients(subject, few, loop)] * 2, full=True)
    scale = max(float(wanted.abs().max()), torch.finfo(wanted.dtype).tiny)
    dense = _dense_layers(subject, few)
    for layers, batched in ((dense, True), (dense, False), ((), True)):
        held = {f"{path}.{name}".lstrip(".") for path in layers for name in ("weight", "bias")}
        rest = tuple(name for name in names if name not in held)
        size = count * _size(subject, rest) + sum(_widths(subject, path, count) for path in layers)
        plan = NtkPlan(layers, rest, batched, count, size)
        try:
            found = _product(*[gradients(subject, few, plan)] * 2, full=True)
        except Exception:  # noqa: BLE001 - PyTorch raises many kinds where a way is barred
            continue
        miss = float((found - wanted).abs().max()) / scale
        if miss <= AGREES.get(wanted.dtype, 1e-3):
            return NtkPlan(layers, rest, batched, count, size, miss)
    return loop


def empirical_ntk(
    subject: Subject,
    first: Any,
    second: Any = None,
    *,
    full: bool = False,
    plan: NtkPlan | None = None,
) -> Tensor:
    """Return the empirical neural tangent kernel between two batches, in the subject's precision.

    Args:
        subject: the network, at the parameters of interest, in evaluation mode.
        first: a batch of n inputs.
        second: a batch of m inputs; the first one where None.
        full: keep the outputs apart.
        plan: how to compute it; chosen by a probe where None.

    Returns:
        `[n, m]`, the trace over the outputs divided by their number; with `full`
        `[n, outputs, m, outputs]`.

    Cost: without `full`, 2 n m (features + outputs * units) operations for a dense layer and
    2 n m outputs for every other parameter. Memory: the result and two blocks of gradients.

    """
    plan = plan or plan_ntk(subject, first)
    width = torch.finfo(subject.dtype).bits // 8
    block = max(1, BLOCK_BYTES // max(1, width * plan.row_numbers))
    n, symmetric = row_count(first), second is None
    other = first if symmetric else second
    m, kept = row_count(other), plan.outputs if full else 1
    kernel = torch.zeros((n, kept, m, kept), dtype=subject.dtype, device=subject.device)
    for top in range(0, n, block):
        left = gradients(subject, rows_of(first, top, top + block), plan)
        for start in range(top if symmetric else 0, m, block):
            right = left
            if not symmetric or start != top:
                right = gradients(subject, rows_of(other, start, start + block), plan)
            part = _product(left, right, full=full)
            kernel[top : top + block, :, start : start + block] = part
            if symmetric:
                kernel[start : start + block, :, top : top + block] = part.permute(2, 3, 0, 1)
    return kernel if full else kernel[:, 0, :, 0]


def rows_of(inputs: Any, start: int, stop: int) -> Any:
    """Cut a batch of any structure to some of its rows."""
    return tree_map(lambda leaf: leaf[start:stop] if isinstance(leaf, Tensor) else leaf, inputs)


def gradients(subject: Subject, inputs: Any, plan: NtkPlan) -> Gradients:
    """Return the gradients of all outputs on a batch, in the form that a plan asks for."""
    # oneDNN's recurrent layers have no batching rule and would warn
    with exact_kernels(onednn=not (plan.batched and plan.rest)), torch.enable_grad():
        entering, returning = _factors(subject, inputs, plan) if plan.layers else ((), ())
        rows = row_count(inputs)
        if not plan.rest:
            empty = torch.zeros(rows, plan.outputs, 0, dtype=subject.dtype, device=subject.device)
            return Gradients(entering, returning, empty)
        jacobian = _batched if plan.batched else _looped
        return Gradients(entering, returning, jacobian(subject, inputs, plan.rest))


def _product(left: Gradients, right: Gradients, *, full: bool) -> Tensor:
    """Multiply the gradients of two blocks: `[n, C, m, C]`, or `[n, 1, m, 1]` contracted."""
    n, outputs = left.rest.shape[:2]
    m = len(right.rest)

    def products(one: Tensor, two: Tensor) -> Tensor:
        if full:
            flat = one.reshape(n * outputs, -1) @ two.reshape(m * outputs, -1).T
            return flat.reshape(n, outputs, m, outputs)
        return (one.reshape(n, -1) @ two.reshape(m, -1).T / outputs).reshape(n, 1, m, 1)

    total = products(left.rest, right.rest)
    for a, b, u, v in zip(
        left.entering, right.entering, left.returning, right.returning, strict=True
    ):
        total += products(u, v) * (a @ b.T)[:, None, :, None]
    return total


def _dense_layers(subject: Subject, inputs: Any) -> tuple[str, ...]:
    """Paths of dense layers called once, on rows, whose trained parameters are theirs alone."""
    calls: dict[str, list[tuple[int, ...]]] = {}
    module = copy.deepcopy(subject.module)
    owners: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    rows = row_count(inputs)
    with _recorded(module, tuple(_plain_dense(module))) as seen, torch.no_grad():
        _call(module, inputs)
        for path, entering, _ in seen:
            calls.setdefault(path, []).append(tuple(entering.shape))
    return tuple(
        path
        for path, shapes in calls.items()
        if len(shapes) == 1
        and len(shapes[0]) == 2
        and shapes[0][0] == rows
        and all(owners[id(p)] == 1 for p in module.get_submodule(path).parameters())
        and module.get_submodule(path).weight.requires_grad
    )


def _plain_dense(module: nn.Module) -> Iterator[str]:
    for path, part in module.named_modules():
        if type(part) is nn.Linear and "weight" in part._parameters:
            yield path


@contextmanager
def _recorded(
    module: nn.Module, paths: tuple[str, ...]
) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
    """Record path, what enters and what leaves of dense layers of a private copy."""
    seen: list[tuple[str, Tensor, Tensor]] = []

    def hook(path: str) -> Any:
        def keep(part: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            seen.append((path, given[0].detach().clone(), out))
            return out.clone()  # what follows may work in place

        return keep

    handles = [module.get_submodule(path).register_forward_hook(hook(path)) for path in paths]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _call(module: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return module(**inputs)
    return module(*(inputs if isinstance(inputs, tuple) else (inputs,)))


def _factors(
    subject: Subject, inputs: Any, plan: NtkPlan
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return what enters the dense layers and what comes back to them, for every output."""
    module = copy.deepcopy(subject.module)
    with _recorded(module, plan.layers) as seen:
        outputs = select_output(_call(module, inputs), subject.output)
        by_path = {path: (entering, out) for path, entering, out in seen}
        leaving = [by_path[path][1] for path in plan.layers]
        flat = outputs.reshape(len(outputs), -1).sum(0)
        back = [
            torch.autograd.grad(one, leaving, retain_graph=True, materialize_grads=True)
            for one in flat
        ]
    entering = []
    for path in plan.layers:
        given, bias = by_path[path][0], module.get_submodule(path).bias
        if bias is not None and bias.requires_grad:
            given = torch.cat([given, torch.ones_like(given[:, :1])], dim=1)
        entering.append(given)
    return tuple(entering), tuple(torch.stack(parts, dim=1) for parts in zip(*back, strict=True))


def _batched(subject: Subject, inputs: Any, names: tuple[str, ...]) -> Tensor:
    """Jacobians `[rows, outputs, parameters]` of all rows at once."""
    if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(inputs)):
        raise TypeError("inputs that are no tensors have no rows")

    def outputs(chosen: dict[str, Tensor], row: Any) -> Tensor:
        one = tree_map(lambda leaf: leaf[None], row)
        return subject.forward({**subject.parameters, **chosen}, one).reshape(-1)

    chosen = {name: subject.parameters[name] for name in names}
    rows, count = row_count(inputs), subject.forward(subject.parameters, rows_of(inputs, 0, 1))
    numbers = sum(leaf[0].numel() for leaf in tree_leaves(inputs)) * count.numel()
    chunk = max(1, min(64, ACTIVITIES // max(1, numbers)))
    blocks = []
    for start in range(0, rows, chunk):
        part = rows_of(inputs, start, start + chunk)
        found = vmap(jacrev(outputs), in_dims=(None, 0))(chosen, part)
        blocks.append(torch.cat([found[name].detach().flatten(2) for name in names], dim=2))
    return torch.cat(blocks)


def _looped(subject: Subject, inputs: Any, names: tuple[str, ...]) -> Tensor:
    """Return the same by plain autograd, one row and one output at a time."""
    rows = []
    for i in range(row_count(inputs)):
        chosen = {name: subject.parameters[name].clone().requires_grad_() for name in names}
        one = subject.forward({**subject.parameters, **chosen}, rows_of(inputs, i, i + 1))
        per_output = []
        for value in one.reshape(-1):
            parts = torch.autograd.grad(
                value, list(chosen.values()), retain_graph=True, materialize_grads=True
            )
            per_output.append(torch.cat([part.reshape(-1) for part in parts]))
        rows.append(torch.stack(per_output))
    return torch.stack(rows)


def _size(subject: Subject, names: tuple[str, ...]) -> int:
    return sum(subject.parameters[name].numel() for name in names)


def _widths(subject: Subject, path: str, outputs: int) -> int:
    layer = subject.module.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    return layer.in_features + 1 + outputs * layer.out_features
