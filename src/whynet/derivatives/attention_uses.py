"""Attention of `nn.MultiheadAttention` taken apart into the matrices that it applies.

PyTorch's function reads all parameters at once, where a watch cannot see them one by one. Here its
projections are called by themselves, and the heads between them by the same function with identity
matrices as its parameters, so that masks, causal hints and averaged weights are PyTorch's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Rows, a matrix and a bias to what `functional.linear` gives."""

PROJECTIONS: Final = frozenset({
    "in_proj_weight", "in_proj_bias", "out_proj_weight", "out_proj_bias",
    "q_proj_weight", "k_proj_weight", "v_proj_weight",
})  # fmt: skip
"""Arguments that `attention` hands to its `linear`."""

_FUNCTION = functional.multi_head_attention_forward
_SIGNATURE = inspect.signature(_FUNCTION)


def attention_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call of `functional.multi_head_attention_forward` by name."""
    bound = _SIGNATURE.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def attention(given: Mapping[str, Any], linear: Linear) -> tuple[Tensor, Tensor | None] | None:
    """Call the function with each projection by itself.

    Args:
        given: its arguments by name.
        linear: multiplies by the projections. Where queries and keys differ, the packed matrix is
            applied whole to each and a third of what leaves is taken.

    Returns:
        What the function returns; None where rows are added to the keys, keys are given, or a bias
        is cut for three separate matrices.

    Cost: besides the function's own, four products with identity matrices.

    """
    apart = given["use_separate_proj_weight"]
    if any(given[name] is not None for name in ("bias_k", "bias_v", "static_k", "static_v")):
        return None
    if apart and given["in_proj_bias"] is not None:
        return None
    entering = [given[name] for name in ("query", "key", "value")]
    if apart:
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        parts = [linear(x, given[name], None) for x, name in zip(entering, names, strict=True)]
    else:
        packed: dict[int, Tensor] = {}
        for x in entering:
            if id(x) not in packed:
                packed[id(x)] = linear(x, given["in_proj_weight"], given["in_proj_bias"])
        parts = [packed[id(x)].chunk(3, dim=-1)[i] for i, x in enumerate(entering)]
    one = torch.eye(given["embed_dim_to_check"], dtype=parts[0].dtype, device=parts[0].device)
    plain = dict.fromkeys(PROJECTIONS)
    matrices = ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj_weight")
    changed = dict(zip(("query", "key", "value"), parts, strict=True))
    found, weights = _FUNCTION(
        **{**given, **changed, **plain, **dict.fromkeys(matrices, one)}
        | {"use_separate_proj_weight": True}
    )
    return linear(found, given["out_proj_weight"], given["out_proj_bias"]), weights
