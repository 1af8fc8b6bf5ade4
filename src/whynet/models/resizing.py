"""Networks of the same form with smaller widths: parameters cut, attributes of layers kept true."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.channel_nodes import Group, Layer

_AXES: Final[tuple[tuple[type[nn.Module], dict[str, int]], ...]] = (
    (nn.Linear, {"out_features": 0, "in_features": 1}),
    (nn.Conv1d, {"out_channels": 0, "in_channels": 1}),
    (nn.Conv2d, {"out_channels": 0, "in_channels": 1}),
    (nn.Conv3d, {"out_channels": 0, "in_channels": 1}),
    (nn.ConvTranspose1d, {"out_channels": 1, "in_channels": 0}),
    (nn.ConvTranspose2d, {"out_channels": 1, "in_channels": 0}),
    (nn.ConvTranspose3d, {"out_channels": 1, "in_channels": 0}),
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
    if weight is not None and _is_depthwise(owner):
        held.groups = weight.shape[0] * held.groups // held.out_channels
        held.in_channels, held.out_channels = held.groups, weight.shape[0]
    elif weight is not None:
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


def _is_depthwise(owner: Any) -> bool:
    return isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d) and (
        1 < owner.groups == owner.in_channels
    )


def places_that_stay(
    group: Group, stays: Tensor
) -> Iterator[tuple[str, int, Tensor, Literal["made", "read"]]]:
    """Yield what is left of the parameters that have units of a group, once some go.

    Args:
        group: the group.
        stays: `[units]`, whether each stays.

    Yields:
        The name of a parameter or buffer, an axis, `[size]` which places along it stay, and
        whether units are made there or read. Where a name comes again, only places that stay each
        time do.

    """
    for layer in group.producers:
        assert layer.outputs is not None
        left = _left(layer.outputs, stays)
        yield layer.weight, layer.out_axis, left, "made"
        if layer.bias is not None:
            yield layer.bias, 0, left, "made"
    for vector in group.vectors:
        yield vector.name, vector.axis, _left(vector.units, stays), "made"
    for layer in group.readers:
        assert layer.source is not None
        yield layer.weight, layer.in_axis, _left(layer.source.columns, stays), "read"


def _left(units: Tensor, stays: Tensor) -> Tensor:
    return torch.where(units < 0, True, stays.cpu()[units.clamp_min(0)])


def cut(module: nn.Module, *changes: tuple[Group, Tensor]) -> None:
    """Keep some units of groups in every parameter that has them, in their order.

    Args:
        module: changed in place.
        changes: groups as found on this module, and `[units]`, whether each stays.

    """
    left: dict[tuple[str, int], Tensor] = {}
    for group, stays in changes:
        for name, axis, places, _ in places_that_stay(group, stays):
            known = left.get((name, axis))
            left[name, axis] = places if known is None else known & places
    for (name, axis), places in left.items():
        tensor = held_state(module)[name]
        kept = torch.nonzero(places).reshape(-1).to(tensor.device)
        set_tensor(module, name, tensor.index_select(axis, kept))


def columns_of(layer: Layer) -> Tensor:
    """Return `[units, positions]`, the input features of a layer that belong to each unit."""
    assert layer.source is not None
    units = layer.source.columns
    places = torch.nonzero(units >= 0).reshape(-1)
    places = places[units[places].argsort(stable=True)]
    return places.reshape(int(units.max()) + 1, -1)


def resized(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
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
