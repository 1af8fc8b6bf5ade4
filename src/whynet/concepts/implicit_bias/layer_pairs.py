"""Consecutive dense layers of any network that can be rescaled against each other.

Where a network computes the same after what enters its hidden units is multiplied by positive
factors and what leaves them divided, gradient flow on any loss conserves, unit by unit, squared
incoming minus squared outgoing weights (Du, Hu and Lee 2018, arXiv:1806.00900, theorem 2.1);
where the factors may be any invertible matrix, the whole matrix of them (Arora, Cohen and Hazan
2018, arXiv:1802.06509, theorem 1). The symmetry is tried on the network itself, so that whatever
stands between the layers, beside them or around them is taken account of.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whynet.core.seeds import seed_from
from whynet.models.features import linear_layers
from whynet.models.subject import Subject

Array = NDArray[Any]

ROWS: Final = 64
"""Rows on which the symmetry is tried."""

SAME: Final = 1e-8
"""Largest change of an output, relative to the largest output, in float64."""


@dataclass(frozen=True)
class LayerPair:
    """Two dense layers, one after the other.

    Attributes:
        first: path of the one that is before (foreign text).
        second: path of the one after.
        units: hidden units between them.
        linear: whether units may be mixed by any invertible matrix, not only rescaled.

    """

    first: str
    second: str
    units: int
    linear: bool


@dataclass(frozen=True)
class Growth:
    """How squared weights of a pair changed in training, over their mean size at the start.

    Attributes:
        entering: of what enters the units, biases included, `[units, 1]`; for linear pairs of all
            their inner products, `[units, units]`.
        leaving: the same of what leaves them.
        linear: which of the two.

    """

    entering: Array
    leaving: Array
    linear: bool


def layer_pairs(subject: Subject, seed: int = 0) -> tuple[LayerPair, ...]:
    """Find the pairs of a subject, in the order in which they are called.

    Cost: three forward passes over 64 rows for each pair of dense layers.
    """
    exact = subject.in_precision(torch.float64)
    examples = exact.examples(exact.any_split)
    rows = range(min(ROWS, examples.count))
    inputs, _ = examples.take(rows, device=exact.device, dtype=torch.float64)
    called: list[tuple[str, nn.Module]] = []

    def see(path: str, layer: nn.Module, read: Tensor, output: Tensor) -> None:
        called.append((path, layer))

    with torch.no_grad(), linear_layers(exact.module, see):
        outputs = exact.forward(exact.parameters, inputs)
    once = [one for one in called if sum(path == one[0] for path, _ in called) == 1]
    found = []
    for (first, before), (second, after) in pairwise(once):
        if not isinstance(before, nn.Linear) or not isinstance(after, nn.Linear):
            continue
        names = {f"{path}.weight".lstrip(".") for path in (first, second)}
        if before.out_features != after.in_features or not names <= exact.parameters.keys():
            continue
        for linear in (True, False):
            pair = LayerPair(first, second, before.out_features, linear)
            if _same(exact, pair, inputs, outputs, seed):
                found.append(pair)
                break
    return tuple(found)


def _same(subject: Subject, pair: LayerPair, inputs: Any, outputs: Tensor, seed: int) -> bool:
    """Whether the network computes the same after the units of a pair are rescaled or mixed."""
    generator = np.random.default_rng(seed_from("layer-pairs", seed, pair.first, pair.second))
    factors = np.diag(np.exp(generator.uniform(-0.7, 0.7, pair.units)))
    if pair.linear:
        drawn = generator.standard_normal((pair.units, pair.units))
        factors = factors @ np.linalg.qr(drawn)[0]
    mix = torch.as_tensor(factors, device=subject.device)
    changed = dict(subject.parameters)
    weight, bias, after = (
        f"{path}.{name}".lstrip(".")
        for path, name in ((pair.first, "weight"), (pair.first, "bias"), (pair.second, "weight"))
    )
    changed[weight] = mix @ changed[weight]
    changed[after] = changed[after] @ torch.linalg.inv(mix)
    if bias in changed:
        changed[bias] = mix @ changed[bias]
    elif bias in subject.frozen:
        return False  # a bias that training leaves alone breaks the conservation
    with torch.no_grad():
        again = subject.forward(changed, inputs)
    size = float(outputs.abs().max())
    return bool(float((again - outputs).abs().max()) <= SAME * max(size, 1e-300))


def growths(subject: Subject, initial: Subject, pairs: tuple[LayerPair, ...]) -> list[Growth]:
    """Return how the squared weights of each pair changed from the start."""
    linear = all(pair.linear for pair in pairs)
    found = []
    for pair in pairs:
        now, before = _squares(subject, pair), _squares(initial, pair)
        entering, leaving = now[0] - before[0], now[1] - before[1]
        scale = float(np.mean([np.diagonal(part).mean() for part in before])) or 1.0
        if not linear:
            entering, leaving = (np.diagonal(part)[:, None] for part in (entering, leaving))
        found.append(Growth(entering / scale, leaving / scale, linear))
    return found


def _squares(subject: Subject, pair: LayerPair) -> tuple[Array, Array]:
    """Return inner products of what enters the units and of what leaves them, `[units, units]`."""

    def of(path: str, name: str) -> Array | None:
        value = getattr(subject.module.get_submodule(path), name)
        return None if value is None else np.asarray(value.detach().double().cpu().numpy())

    weight, bias, after = (
        of(pair.first, "weight"),
        of(pair.first, "bias"),
        of(pair.second, "weight"),
    )
    assert weight is not None and after is not None
    entering = weight @ weight.T
    if bias is not None:
        entering = entering + np.outer(bias, bias)
    return entering, after.T @ after
