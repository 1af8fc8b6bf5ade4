"""Two networks of one architecture: how far their weights are apart, and after matching units."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.models.neurons import Firing, by_example, following
from whynet.models.subject import Split, Subject
from whynet.numerics.matching import (
    Floats,
    Matching,
    correlations,
    cosine,
    match_units,
    relative_distance,
)

MOST_ROWS = 2048
"""Of examples that neurons are matched on."""

_SAME_FUNCTION = 1e-4


@dataclass(frozen=True)
class LayerDistance:
    """How far the weights of one layer are apart.

    Attributes:
        path: dotted name of the layer (foreign text).
        distance: norm of the difference over the root mean square of the two norms.
        cosine: cosine of the angle between them.

    """

    path: str
    distance: float
    cosine: float


@dataclass(frozen=True)
class Alignment:
    """A second network whose hidden neurons were put into the order of a first one's.

    Attributes:
        module: a copy of the second network, its neurons permuted; the same function.
        correlation: mean correlation of the matched neurons over the examples.
        by_chance: the same, matched on shuffled examples.
        kept: share of the neurons whose partner stood in the same place.
        neurons: how many were matched.
        changed: largest change of an output by the permutation, relative to the largest output.

    """

    module: nn.Module
    correlation: float
    by_chance: float
    kept: float
    neurons: int
    changed: float


def weight_distance(first: nn.Module, second: nn.Module) -> tuple[LayerDistance, ...]:
    """Return the distance of all parameters (path `""`) and of each layer, in their order.

    Args:
        first: a network.
        second: one with parameters of the same names and shapes.

    """
    groups: dict[str, list[tuple[Floats, Floats]]] = {"": []}
    others = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        pair = (_flat(parameter), _flat(others[name]))
        groups[""].append(pair)
        groups.setdefault(name.rpartition(".")[0] or name, []).append(pair)
    found = []
    for path, pairs in groups.items():
        if pairs:
            left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
            found.append(LayerDistance(path, relative_distance(left, right), cosine(left, right)))
    return tuple(found)


def align(first: Subject, second: Subject, split: Split) -> Alignment | NotApplicable:
    """Put the hidden neurons of a second network into the order of a first one's.

    Neurons are matched layer by layer by the correlation of their activations over at most
    2048 examples. That the permuted network computes the same function is checked on them.
    Only the order is matched, not the scale of neurons.

    Returns:
        The permuted network, or why there is none: it is offered for chains of linear layers.

    """
    chain = _chain(first.module)
    if chain is None:
        return NotApplicable(
            "Neurons are matched in chains of linear layers with an activation between any two; "
            "this network is of another form."
        )
    names = [name for name, _ in chain]
    ours, theirs = _activations(first, split), _activations(second, split)
    if not all(name in ours and name in theirs for name in names[:-1]):
        return NotApplicable("The activation of a hidden layer could not be followed.")
    every_row = [rows for side in (ours, theirs) for pair in side.values() for rows in pair]
    if not all(len(rows) > 1 and np.isfinite(rows).all() for rows in every_row):
        return NotApplicable("Neurons are matched on at least two examples, finite activations.")
    shuffle = np.random.default_rng(0)
    matchings, chance = [], []
    for name in names[:-1]:
        (before, after), (other_before, other_after) = ours[name], theirs[name]
        matchings.append(
            match_units(correlations(after, other_after), correlations(before, other_before))
        )
        order = shuffle.permutation(len(after))
        chance.append(match_units(correlations(after, other_after[order])).correlation)
    module = _permuted(second.module, names, matchings)
    changed = _changed(second, module, split)
    if changed > _SAME_FUNCTION:
        return NotApplicable(
            "Permuting the hidden neurons of this network changes its function, so that there is "
            "more in it than a chain of linear layers."
        )
    every = np.concatenate([matching.correlation for matching in matchings])
    kept = np.concatenate([m.partner == np.arange(len(m.partner)) for m in matchings])
    return Alignment(
        module,
        float(every.mean()),
        float(np.concatenate(chance).mean()),
        float(kept.mean()),
        len(every),
        changed,
    )


def _flat(parameter: Tensor) -> Floats:
    return np.asarray(parameter.detach().double().cpu().numpy().ravel())


def _chain(module: nn.Module) -> list[tuple[str, nn.Linear]] | None:
    """Return the linear layers of a network that has parameters nowhere else, as a chain."""
    linear = [(n, child) for n, child in module.named_modules() if isinstance(child, nn.Linear)]
    held = sum(p.numel() for _, child in linear for p in child.parameters())
    whole = sum(p.numel() for p in module.parameters())
    fits = all(one.out_features == two.in_features for (_, one), (_, two) in pairwise(linear))
    if len(linear) < 2 or held != whole or not fits or next(module.buffers(), None) is not None:
        return None
    return linear


def _activations(subject: Subject, split: Split) -> dict[str, tuple[Floats, Floats]]:
    """Return `[rows, width]` before and after the activation of every followed layer."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    batch = 0

    def see(firing: Firing) -> None:
        before, after = by_example(firing.before, batch), by_example(firing.after, batch)
        if before is not None and after is not None and not firing.normalized:
            rows = tuple(part.flatten(0, 1).double().cpu() for part in (before, after))
            seen.setdefault(firing.path, []).append((rows[0], rows[1]))

    done = 0
    with torch.no_grad(), following(subject.module, see):
        for inputs, targets in subject.batches(split):
            batch = len(targets)
            subject.forward(subject.parameters, inputs)
            done += batch
            if done >= MOST_ROWS:
                break
    return {
        path: (
            torch.cat([pair[0] for pair in pairs])[:MOST_ROWS].numpy(),
            torch.cat([pair[1] for pair in pairs])[:MOST_ROWS].numpy(),
        )
        for path, pairs in seen.items()
    }


def _permuted(module: nn.Module, names: Sequence[str], matchings: Sequence[Matching]) -> nn.Module:
    fresh = copy.deepcopy(module)
    with torch.no_grad():
        for (name, after), matching in zip(pairwise(names), matchings, strict=True):
            layer, reader = fresh.get_submodule(name), fresh.get_submodule(after)
            assert isinstance(layer, nn.Linear)
            assert isinstance(reader, nn.Linear)
            order = torch.as_tensor(matching.partner, device=layer.weight.device)
            layer.weight.copy_(layer.weight[order].clone())
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[order].clone())
            reader.weight.copy_(reader.weight[:, order].clone())
    return fresh


def _changed(subject: Subject, module: nn.Module, split: Split) -> float:
    """Return the largest relative change of an output on one batch, in float64."""
    wide = torch.float64
    old = subject.in_precision(wide)
    new = subject.replaced(module, dtype=wide)
    inputs, _ = next(old.batches(split))
    with torch.no_grad():
        one, two = old.forward(old.parameters, inputs), new.forward(new.parameters, inputs)
    return float((one - two).abs().max() / one.abs().max().clamp_min(1e-300))
