"""Dense layers whose derivatives add their parts up in place, in rows of their own layout.

PyTorch differentiates a dense layer product by product: it makes some of the parts transposed and
adds them in passes of their own. Here a layer is one node of the graph, for each of two uses: a
gradient that is differentiated once more in reverse, and a tangent that is carried along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

MaybeTensor = Tensor | None
"""What may be absent: a tangent, a bias, a gradient."""

FULL = 16
"""Columns that fill the kernels of float32 products on a CPU: fewer take longer, from `FEW` on."""

FEW = 5


def dense(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Apply a dense layer whose gradients can be differentiated once more in reverse.

    Args:
        input: `[..., features]`.
        weight: `[units, features]`.
        bias: `[units]`.

    Cost: three matrix products for value and gradients, six more for the derivative of these.

    """
    rows = input if input.ndim == 2 else input.reshape(-1, input.shape[-1])
    found: Tensor = _Dense.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return found if input.ndim == 2 else found.reshape(*input.shape[:-1], len(weight))


class _Dense(torch.autograd.Function):
    """Rows [R, features] times a matrix, and a bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: MaybeTensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _affine(bias, x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[MaybeTensor, ...]:
        wanted = tuple(ctx.needs_input_grad)
        found = _DenseBackward.apply(gradients[0], *ctx.saved_tensors, wanted)  # type: ignore[no-untyped-call]
        return tuple(found)


class _DenseBackward(torch.autograd.Function):
    """The gradients by rows, matrix and bias (those that are wanted), differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]
    ) -> tuple[MaybeTensor, ...]:
        ctx.save_for_backward(g, x, weight)
        ctx.set_materialize_grads(False)
        return (
            g @ weight if wanted[0] else None,
            g.T @ x if wanted[1] else None,
            g.sum(0) if wanted[2] else None,
        )

    @staticmethod
    def backward(ctx: Any, *cotangents: MaybeTensor) -> tuple[MaybeTensor, ...]:
        g, x, weight = ctx.saved_tensors
        u, v, c = cotangents
        by_g = by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            pairs = [(x, None if v is None else v.T), (u, weight.T)]
            by_g = _sum_of_products(pairs, c)
            if by_g is None and c is not None:
                by_g = c.expand_as(g)
        if ctx.needs_input_grad[1] and v is not None:
            by_x = g @ v
        if ctx.needs_input_grad[2] and u is not None:
            by_weight = g.T @ u
        return by_g, by_x, by_weight, None


def carried_dense(
    x: Tensor,
    moved: MaybeTensor,
    weight: Tensor,
    turned: MaybeTensor,
    bias: MaybeTensor,
    shifted: MaybeTensor,
) -> tuple[Tensor, Tensor]:
    """Apply a dense layer to rows and carry their tangent along; to be differentiated once.

    Args:
        x: `[..., features]`.
        moved: its tangent.
        weight: `[units, features]`.
        turned: its tangent.
        bias: `[units]`.
        shifted: its tangent. One of the tangents is there.

    Cost: three matrix products, and five back.

    """
    found: tuple[Tensor, Tensor]
    if x.ndim == 2:
        found = _CarriedDense.apply(x, moved, weight, turned, bias, shifted)  # type: ignore[no-untyped-call]
        return found
    rows = x.reshape(-1, x.shape[-1])
    along = None if moved is None else moved.reshape(rows.shape)
    found = _CarriedDense.apply(rows, along, weight, turned, bias, shifted)  # type: ignore[no-untyped-call]
    shape = (*x.shape[:-1], len(weight))
    return found[0].reshape(shape), found[1].reshape(shape)


class _CarriedDense(torch.autograd.Function):
    """Rows [R, features] times a matrix, and a bias, with the tangent of that."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        moved: MaybeTensor,
        weight: Tensor,
        turned: MaybeTensor,
        bias: MaybeTensor,
        shifted: MaybeTensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, moved, weight, turned)
        ctx.set_materialize_grads(False)
        value = _affine(bias, x, weight)
        if turned is not None:
            tangent = _affine(shifted, x, turned)
            if moved is not None:
                _add_product(tangent, moved, weight.T)
        elif moved is not None:
            tangent = _affine(shifted, moved, weight)
        else:
            assert shifted is not None
            tangent = shifted.expand(value.shape)
        return value, tangent

    @staticmethod
    def backward(ctx: Any, *gradients: MaybeTensor) -> tuple[MaybeTensor, ...]:
        x, moved, weight, turned = ctx.saved_tensors
        g, h = gradients
        by_x = by_moved = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_x = _sum_of_products([(g, weight), (h, turned)])
        if moved is not None and ctx.needs_input_grad[1]:
            by_moved = _sum_of_products([(h, weight)])
        if ctx.needs_input_grad[2]:
            pairs = [(g, x), (h, moved)]
            by_weight = _sum_of_products([(None if a is None else a.T, b) for a, b in pairs])
        if ctx.needs_input_grad[4] and g is not None:
            by_bias = g.sum(0)
        return by_x, by_moved, by_weight, None, by_bias, None


def _affine(added: MaybeTensor, rows: Tensor, matrix: Tensor) -> Tensor:
    return _sum_of_two(added, rows, matrix.T)


def _sum_of_two(added: MaybeTensor, left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices and add a row or a matrix, which is left as it is."""
    columns = right.shape[1]
    if _is_narrow(left, right):
        filled = functional.pad(right.T, (0, 0, 0, FULL - columns)).T
        found = (left @ filled)[:, :columns]
        return found.contiguous() if added is None else found + added
    return left @ right if added is None else torch.addmm(added, left, right)


def _is_narrow(left: Tensor, right: Tensor) -> bool:
    """Whether a product of matrices is faster with columns of zeros added to the right one."""
    few = FEW <= right.shape[1] < FULL
    return few and left.dtype == torch.float32 and left.device.type == "cpu"


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add a product of matrices to a total, in place."""
    if _is_narrow(left, right):
        return total.add_(_sum_of_two(None, left, right))
    return total.addmm_(left, right)


def _sum_of_products(
    pairs: Sequence[tuple[MaybeTensor, MaybeTensor]], added: MaybeTensor = None
) -> MaybeTensor:
    """Add up products of matrices, and a row to each of theirs; None where no pair is whole."""
    whole = [(left, right) for left, right in pairs if left is not None and right is not None]
    if not whole:
        return None
    if any(stacked(tensor) for pair in whole for tensor in pair) or stacked(added):
        # Many vectors at once: PyTorch's vectorization knows no sums in place.
        parts = [left @ right for left, right in whole]
        return sum(parts[1:], parts[0]) if added is None else sum(parts, added)
    (left, right), *others = whole
    total = _sum_of_two(added, left, right)
    for left, right in others:
        _add_product(total, left, right)
    return total


def stacked(tensor: MaybeTensor) -> bool:
    """Whether many vectors stand in it at once, under either of PyTorch's ways to vectorize."""
    functorch = torch._C._functorch
    return tensor is not None and (
        functorch.is_batchedtensor(tensor) or functorch.is_legacy_batchedtensor(tensor)
    )
