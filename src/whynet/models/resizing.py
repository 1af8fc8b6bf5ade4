"""Networks of the same form with smaller widths: parameters cut, attributes of layers kept true."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.channel_nodes import Group, Layer

_AXES: Final[tuple[tuple[type[nn.Module], dict[str, int]], ...]] = (
    (nn.Linear, {"out_features": 0, "in_features": 1}),
    (nn.Conv1d, {"out_channels": 0, "in_channels": 1}),
    (nn.Conv2d, {"out_channels": 0, "in_channels": 1}),
    (nn.Conv3d, {"out_channels": 0, "in_channels": 1}),
    (nn.PReLU, {"num_parameters": 0}),
)
"""Kinds of layers to their attributes and the axis of the weight each of them repeats."""


def held_state(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, tied ones once, also buffers that are not saved."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def set_tensor(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer by one of any shape; attributes of its layer follow."""
    path, _, short = name.rpartition(".")
    owner = module.get_submodule(path) if path else module
    old = owner._parameters.get(short)
    if old is not None:
        owner._parameters[short] = nn.Parameter(value.detach().clone(), old.requires_grad)
    else:
        owner._buffers[short] = value.detach().clone()
    refresh(owner)


def refresh(owner: nn.Module) -> None:
    """Set the sizes that a layer repeats in its attributes to those of its tensors."""
    held: Any = owner
    weight = owner._parameters.get("weight")
    if weight is not None:
        for kind, axes in _AXES:
            if isinstance(owner, kind):
                for attribute, axis in axes.items():
                    setattr(held, attribute, weight.shape[axis])
        if type(owner).__name__ == "Conv1D" and hasattr(owner, "nf"):
            held.nx, held.nf = weight.shape
        elif {"in_features", "out_features"} <= vars(owner).keys() and weight.ndim == 2:
            held.out_features, held.in_features = weight.shape
    if isinstance(owner, nn.modules.batchnorm._NormBase):
        sizes = [weight, owner._parameters.get("bias"), owner._buffers.get("running_mean")]
        held.num_features = next((len(t) for t in sizes if t is not None), held.num_features)


def cut(module: nn.Module, group: Group, stays: Tensor) -> None:
    """Keep some channels of a group in every parameter that has them, in their order.

    Args:
        module: changed in place.
        group: as found on this module.
        stays: `[channels]`, whether each stays.

    """
    state = held_state(module)
    kept = torch.nonzero(stays).reshape(-1)
    for layer in dict.fromkeys(group.producers):
        axis = 1 if layer.kind == "transposed" else 0
        set_tensor(module, layer.weight, state[layer.weight].index_select(axis, kept))
        if layer.bias is not None:
            set_tensor(module, layer.bias, state[layer.bias][kept])
    for name in group.vectors:
        tensor = state[name]
        axis = next(a for a in range(tensor.ndim) if tensor.shape[a] == group.width)
        set_tensor(module, name, tensor.index_select(axis, kept))
    for layer in group.readers:
        assert layer.source is not None
        columns = torch.nonzero(stays[layer.source.columns.long()]).reshape(-1)
        current = held_state(module)[layer.weight]  # a layer may write what it reads
        axis = 0 if layer.kind == "transposed" else 1
        set_tensor(module, layer.weight, current.index_select(axis, columns))


def columns_of(layer: Layer, width: int) -> Tensor:
    """Return `[channels, positions]`, the input features of a layer that belong to each channel."""
    assert layer.source is not None
    return layer.source.columns.long().argsort(stable=True).reshape(width, -1)


def load_resized(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a network with the tensors of a state dict, whatever their widths.

    Args:
        module: a network of the same architecture; not changed.
        state: as `state_dict` of the smaller network returns it.

    Raises:
        InputError: names differ, or a tensor has another number of axes.

    """
    fresh = copy.deepcopy(module)
    wanted = fresh.state_dict(keep_vars=True)
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        raise InputError(
            "state",
            f"missing {missing[:3]} and unexpected {unexpected[:3]} entries",
            "the state dict of a smaller network of the same architecture",
        )
    for name, tensor in state.items():
        old = wanted[name]
        if not isinstance(old, Tensor) or not isinstance(tensor, Tensor):
            raise InputError("state", f"{name!r}, which is no tensor", "tensors")
        if tensor.ndim != old.ndim or any(
            a > b for a, b in zip(tensor.shape, old.shape, strict=True)
        ):
            raise InputError(
                "state",
                f"{name!r} of shape {tuple(tensor.shape)}",
                f"at most {tuple(old.shape)}, as the network has it",
            )
        if tensor.shape != old.shape:
            set_tensor(fresh, name, tensor.to(old))
    fresh.load_state_dict(dict(state))
    return fresh
