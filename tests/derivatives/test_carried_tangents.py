"""Operations that carry tangents along, against PyTorch's reverse mode three times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.derivatives.making import normal
from tests.derivatives.test_rewritten_operations import CASES as REWRITTEN
from tests.derivatives.test_rewritten_operations import MATRIX, held
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from whynet.derivatives.carried_tangents import carrying
from whynet.derivatives.exact_kernels import exact_kernels

TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-5}

CASES: dict[str, Callable[..., Tensor]] = {
    **REWRITTEN,
    "softmax": lambda x, w, b: F.softmax(x * w + b, dim=-1),
    "softmax_middle": lambda x, w, b: torch.softmax(x * w + b, 1),
    "softmax_method": lambda x, w, b: (x * w + b).softmax(dim=0),
    "layer_norm_of_linear": lambda x, w, b: F.layer_norm(F.linear(x, held(x, w)), (6,), w, b),
}
del CASES["layer_norm_transposed"]  # its weight is a slice, as is the next one's an expansion
del CASES["layer_norm_two_axes"]


def leaves(dtype: torch.dtype) -> list[Tensor]:
    shapes = ((3, 4, 6), (6,), (6,))
    return [normal(*shape, seed=i, dtype=dtype).requires_grad_() for i, shape in enumerate(shapes)]


def weights(like: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(normal(*like.shape, seed=i, dtype=like.dtype) for i in (20, 21))


def pulled_back(value: Tensor, tangent: Tensor, points: list[Tensor]) -> tuple[Tensor, ...]:
    pairs = zip((value, tangent), weights(value), strict=True)
    ends = [(end, weight) for end, weight in pairs if end.requires_grad]
    return torch.autograd.grad(
        [end for end, _ in ends],
        points,
        [weight for _, weight in ends],
        materialize_grads=True,
    )


def by_carrying(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Outputs, tangents, and the derivatives of weighted sums of both."""
    points = leaves(dtype)
    along = [normal(*p.shape, seed=10 + i, dtype=dtype) for i, p in enumerate(points)]
    with exact_kernels(), forward_ad.dual_level(), carrying():
        pairs = zip(points, along, strict=True)
        reached = function(*(forward_ad.make_dual(*pair) for pair in pairs))
        value, tangent = forward_ad.unpack_dual(reached)
    return [value.detach(), tangent.detach(), *pulled_back(value, tangent, points)]


class PlainNormalization(TorchFunctionMode):
    """Writes layer normalization out: PyTorch's own is wrong when differentiated three times."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.layer_norm:
            return plain_layer_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def plain_layer_norm(
    x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    centered = x - x.mean(-1, keepdim=True)
    found = centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt()
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


def by_reverse(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
    points = leaves(dtype)
    along = [normal(*p.shape, seed=10 + i, dtype=dtype) for i, p in enumerate(points)]
    with PlainNormalization():
        value = function(*points)
    dummy = torch.zeros_like(value).requires_grad_()
    options = {"create_graph": True, "materialize_grads": True}
    pulled = torch.autograd.grad(value, points, dummy, **options)
    (tangent,) = torch.autograd.grad(pulled, dummy, along, **options)
    return [value.detach(), tangent.detach(), *pulled_back(value, tangent, points)]


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", list(CASES))
def test_outputs_tangents_and_their_derivatives(name: str, dtype: torch.dtype) -> None:
    found, wanted = by_carrying(CASES[name], dtype), by_reverse(CASES[name], dtype)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() <= TOLERANCE[dtype] * (1 + other.abs().max())


def test_what_is_not_known_is_left_to_pytorch() -> None:
    """Of another precision, in place, without a tangent, or with several axes."""
    x = normal(3, 4, 6).requires_grad_()
    half = x.detach().half()
    with exact_kernels(), carrying():
        assert torch.equal(F.softmax(x, -1, dtype=torch.float32), x.softmax(-1, torch.float32))
        assert F.gelu(half).dtype == torch.float16
        assert torch.equal(F.linear(x, MATRIX), x @ MATRIX.T)
        with forward_ad.dual_level():
            moved = forward_ad.make_dual(x, x.detach())
            both = F.layer_norm(moved, (4, 6))
            edited = F.elu(moved.clone(), inplace=True)
    assert "NativeLayerNorm" in type(both.grad_fn).__name__
    assert "Elu" in type(edited.grad_fn).__name__
