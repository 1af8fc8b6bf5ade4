"""A network in one phrase."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from torch import nn

_ACTIVATIONS = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.SiLU,
    nn.ELU,
    nn.PReLU,
    nn.Softplus,
    nn.ReLU6,
    nn.Hardtanh,
    nn.SELU,
    nn.Mish,
)


def describe_architecture(module: nn.Module) -> str:
    """Say what a network is in one phrase, from the modules it is made of.

    Chains of linear layers are written by their widths (`64–128–10 ReLU network`), others by
    what dominates them and how many weight layers they have.

    Returns:
        A phrase without an article; class names are the user's and must be escaped.

    """
    leaves = [child for child in module.modules() if not any(child.children())]
    activations = Counter(name for child in leaves if (name := _activation(child)))
    activation = activations.most_common(1)[0][0] if activations else ""
    linear = [child for child in leaves if isinstance(child, nn.Linear)]
    weights = [child for child in leaves if _has_weights(child)]
    if linear and len(linear) == len(weights) and _is_chain(linear):
        widths = "–".join(
            str(w) for w in [linear[0].in_features, *(c.out_features for c in linear)]
        )
        kind = f"{activation} network" if activation else "linear network"
        if len(linear) == 1:
            kind = "linear model"
        return f"{widths} {kind}"
    family = _family(module, leaves)
    name = type(module).__name__
    own = "" if name == "Sequential" else f" ({name})"
    with_activation = f"{activation} " if activation else ""
    return f"{with_activation}{family} with {len(weights)} weight layers{own}"


def _activation(child: nn.Module) -> str:
    """Name the activation a module is, or return an empty string; as Hugging Face calls its own,
    `NewGELUActivation` and `GELUTanh` are ways to compute GELU."""
    name = type(child).__name__
    if isinstance(child, _ACTIVATIONS):
        return name
    if "GELU" in name:
        return "GELU"
    return name.removesuffix("Activation") if name.endswith("Activation") else ""


def _has_weights(child: nn.Module) -> bool:
    """Whether a module counts as a weight layer: it has parameters and does not normalize."""
    normalizes = "norm" in type(child).__name__.lower()
    return not normalizes and next(child.parameters(recurse=False), None) is not None


def _is_chain(linear: list[nn.Linear]) -> bool:
    return all(first.out_features == second.in_features for first, second in pairwise(linear))


def _family(module: nn.Module, leaves: list[nn.Module]) -> str:
    if any(isinstance(child, nn.MultiheadAttention) for child in module.modules()):
        return "transformer"
    if any("attention" in type(child).__name__.lower() for child in module.modules()):
        return "transformer"
    if any(isinstance(child, (nn.RNNBase, nn.RNNCellBase)) for child in leaves):
        return "recurrent network"
    if any(isinstance(child, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for child in leaves):
        return "convolutional network"
    return "network"
