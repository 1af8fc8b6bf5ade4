"""Units of one layer with a homogeneous activation, and new incoming weights for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whynet.concepts.condensation.workplace import outgoing_of
from whynet.models.channel_flow import is_simple, reads_of
from whynet.models.channel_nodes import (
    Activated,
    Entries,
    Group,
    Node,
    Normalized,
    Pooled,
    Produced,
)
from whynet.models.channel_values import affine_of
from whynet.models.resizing import held_state, set_tensor


@dataclass(frozen=True, eq=False)
class HomogeneousUnits:
    """Units of one layer before their activation.

    Attributes:
        node: the affine node that enters the activation.
        slope: of the activation below zero.
        rows: `[width, features + 1]`, incoming weights and bias.
        outgoing: `[width, all outgoing weights]`, of all readers beside each other.

    """

    node: Node
    slope: float
    rows: Tensor
    outgoing: Tensor


def homogeneous_units(
    module: nn.Module, group: Group, *, maxima: bool = False
) -> HomogeneousUnits | None:
    """Read a group as units of one layer with a homogeneous activation, or return None.

    Between activation and readers may stand means over positions, and maxima where allowed.
    """
    if not is_simple(group):
        return None
    activated = {_before_pooling(node, maxima) for node in reads_of(group)}
    node = next(iter(activated))
    if len(activated) > 1 or not isinstance(node, Activated) or node.slope is not None:
        return None
    if node.name not in ("relu", "leaky_relu", "prelu"):
        return None
    plain = node.child.child if isinstance(node.child, Normalized) else node.child
    affine = affine_of(node.child, held_state(module))
    if not isinstance(plain, Produced) or affine is None:
        return None
    rows = torch.cat([affine[0], affine[1][:, None]], 1)
    slope = -float(node.function(rows.new_full((1, 1), -1.0)))
    parts = [outgoing_of(module, r, group.width).flatten(1) for r in group.readers]
    outgoing = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    return HomogeneousUnits(node.child, slope, rows, outgoing)


def _before_pooling(node: Node, maxima: bool) -> Node:
    while isinstance(node, Pooled) and (maxima or not node.largest):
        node = node.child
    return node


def write_rows(module: nn.Module, node: Node, slots: Tensor, rows: Tensor) -> None:
    """Give units new incoming weights and biases, through batch normalization where it stands."""
    state = {name: tensor.detach().clone() for name, tensor in held_state(module).items()}
    produced = node.child if isinstance(node, Normalized) else node
    assert isinstance(produced, Produced)
    layer, bias = produced.layer, rows[:, -1]
    changed = {layer.weight: state[layer.weight]}
    weight = state[layer.weight]
    target = weight.transpose(0, 1) if layer.turned else weight
    target[slots] = rows[:, :-1].reshape(len(slots), *target.shape[1:])
    if isinstance(node, Normalized):
        # Normalization becomes the identity; what it adds is the bias.
        values = [(node.mean, 0.0 * bias), (node.variance, 0.0 * bias + 1 - node.epsilon)]
        if node.weight is not None:
            values.append((node.weight, 0.0 * bias + 1))
        if node.bias is not None:
            values.append((node.bias, bias))
        else:
            values[0] = (node.mean, -bias)
        bias = 0.0 * bias
    else:
        values = []
    if layer.bias is not None:
        values.append((Entries(layer.bias, torch.arange(len(target))), bias))
    for entries, value in values:
        changed[entries.name] = state[entries.name]
        changed[entries.name][entries.places[slots]] = value
    for name, tensor in changed.items():
        set_tensor(module, name, tensor)
