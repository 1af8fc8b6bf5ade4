"""Layers refitted by least squares on data, so that they return what they did in another network.

The other network is the one before anything was made smaller; what its layers returned on the
data is the target. Nothing is trained: each layer is one linear least-squares problem, in the
order in which layers are called, so that every layer answers for those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from scipy import linalg
from torch import Tensor, nn

from whynet.models.channel_nodes import Layer
from whynet.models.layer_calls import (
    MOST_FEATURES,
    LayerCalled,
    from_rows,
    rows_read,
    watching_layers,
    weight_rows,
)
from whynet.models.resizing import held_state, set_tensor

_CUT: Final = 1e-11
"""Of the largest eigenvalue, features scaled to unit length: below it a direction is not read."""

_MANY: Final = 256
"""Features above which a Cholesky factorization is tried before all eigenvalues are computed."""

Batches = Callable[[], Iterator[Any]]
"""Makes an iterator over batches of inputs, the same ones each time."""

Run = Callable[[nn.Module, Any], Tensor]
"""Calls a network on a batch of inputs."""


@dataclass(eq=False)
class Moments:
    """Sums over rows of what a layer reads and of what it is to return."""

    rows: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(0))
    target: Tensor = field(default_factory=lambda: torch.zeros(0))
    second: Tensor = field(default_factory=lambda: torch.zeros(0))
    cross: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, read: Tensor, wanted: Tensor) -> None:
        """Take in rows `[rows, features]` and `[rows, outputs]`."""
        if self.rows == 0:
            self.mean, self.target = read.new_zeros(read.shape[1]), read.new_zeros(wanted.shape[1])
            self.second = read.new_zeros(read.shape[1], read.shape[1])
            self.cross = read.new_zeros(read.shape[1], wanted.shape[1])
        self.rows += len(read)
        self.mean += read.sum(0)
        self.target += wanted.sum(0)
        self.second += read.T @ read
        self.cross += read.T @ wanted

    def centered(self, biased: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return means of features and targets, second moment and cross moment about them."""
        mean, target = self.mean / self.rows, self.target / self.rows
        if not biased:
            mean, target = torch.zeros_like(mean), torch.zeros_like(target)
        second = self.second / self.rows - torch.outer(mean, mean)
        cross = self.cross / self.rows - torch.outer(mean, target)
        return mean.numpy(), target.numpy(), second.numpy(), cross.numpy()


@dataclass(frozen=True, eq=False)
class Original:
    """What the layers of the network returned before anything was changed, batch by batch.

    Attributes:
        returned: name of a layer's weight to its rows `[rows, outputs]` of each batch.
        outputs: the network's outputs of each batch.

    """

    returned: dict[str, list[Tensor]]
    outputs: list[Tensor]


def record(module: nn.Module, names: Sequence[str], batches: Batches, run: Run) -> Original:
    """Keep what layers return on the data. Memory: their outputs on all rows."""
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    outputs = []

    def see(call: LayerCalled) -> None:
        if call.layer.weight in kept:
            rows = rows_read(call, held_state(module)[call.layer.weight])
            if rows is not None:
                kept[call.layer.weight].append(rows[1].clone())

    with torch.no_grad(), watching_layers(module, see):
        for inputs in batches():
            outputs.append(run(module, inputs))
    return Original(kept, outputs)


def moments_of(
    module: nn.Module,
    original: Original,
    names: Sequence[str],
    batches: Batches,
    run: Run,
    outputs: Mapping[str, Tensor] | None = None,
) -> dict[str, Moments]:
    """Gather what layers of a network read now beside what they returned in the original one.

    Args:
        module: the network as it is now.
        original: what its layers returned before.
        names: weights of the layers.
        batches: makes an iterator over batches of inputs.
        run: calls the network.
        outputs: weight to `[outputs now, outputs before]`, what each output of the layer is to
            return of those before; the same where it is not named.

    """
    left = outputs or {}
    made: dict[str, Moments] = {}
    batch = 0

    def see(call: LayerCalled) -> None:
        name = call.layer.weight
        if name not in names or batch >= len(original.returned[name]):
            return
        weight = held_state(module)[name]
        if weight_rows(call.layer, weight).shape[1] > MOST_FEATURES:
            return
        rows = rows_read(call, weight)
        if rows is not None:
            wanted = original.returned[name][batch]
            wanted = wanted @ left[name].T if name in left else wanted
            made.setdefault(name, Moments()).add(rows[0], wanted)

    with torch.no_grad(), watching_layers(module, see):
        for inputs in batches():
            run(module, inputs)
            batch += 1
    return made


def solve(moments: Moments, biased: bool) -> tuple[Tensor, Tensor | None]:
    """Return the weights `[outputs, features]` and the bias of least mean square error."""
    mean, target, second, cross = moments.centered(biased)
    scale = np.sqrt(np.diag(second))
    there = scale > 1e-12 * max(float(scale.max(initial=0.0)), 1e-300)
    weight = np.zeros((len(target), len(mean)))
    if there.any():
        unit = second[np.ix_(there, there)] / np.outer(scale[there], scale[there])
        wanted = cross[there] / scale[there][:, None]
        weight[:, there] = (_least_squares(unit, wanted) / scale[there][:, None]).T
    bias = torch.as_tensor(target - weight @ mean) if biased else None
    return torch.as_tensor(weight), bias


def _least_squares(unit: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Solve in the directions of eigenvalues above the cut; all are where the condition says so."""
    if len(unit) > _MANY:
        factor, failed = linalg.lapack.dpotrf(unit, lower=1)
        size = float(np.abs(unit).sum(0).max())
        if not failed and linalg.lapack.dpocon(factor, size, uplo="L")[0] > 10 * _CUT:
            return np.asarray(linalg.cho_solve((factor, True), wanted, check_finite=False))
    return np.asarray(linalg.pinvh(unit, rtol=_CUT) @ wanted)


def refit(
    module: nn.Module,
    layers: Sequence[Layer],
    original: Original,
    batches: Batches,
    run: Run,
    outputs: Mapping[str, Tensor],
) -> None:
    """Refit layers one after the other, each on what it reads once those before are refitted.

    Arguments as those of `moments_of`; the module is changed in place.
    """
    for layer in layers:
        found = moments_of(module, original, (layer.weight,), batches, run, outputs)
        if layer.weight not in found:
            continue
        weight, bias = solve(found[layer.weight], layer.bias is not None)
        old = held_state(module)[layer.weight]
        set_tensor(module, layer.weight, from_rows(layer, weight, old).to(old))
        if layer.bias is not None and bias is not None:
            set_tensor(module, layer.bias, bias.to(old))
