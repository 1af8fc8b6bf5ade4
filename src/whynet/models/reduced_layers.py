"""Hidden layers between two linear layers, and a network in which the second reads fewer units.

Covered are layers whose activation is read by one linear layer and by nothing else, unit by unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from whynet.models.data.examples import Examples
from whynet.models.features import linear_layers, outgoing
from whynet.models.neurons import Firing, following, spatial_axes
from whynet.models.subject import Subject
from whynet.numerics.unit_subsets import Layer

MOST_UNITS: Final = 4_096
"""Width above which a layer is not covered: its moments would not fit into memory."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """A hidden layer that can be made smaller.

    Attributes:
        path: dotted name of the layer that makes the units (foreign text).
        reader: dotted name of the linear layer that reads their activation.
        width: number of units.
        biased: whether the reader adds a bias.
        incoming: `[width]`, length of each unit's incoming weights.

    """

    path: str
    reader: str
    width: int
    biased: bool
    incoming: np.ndarray


@dataclass(frozen=True)
class Reduction:
    """The units that stay, and what the reader does with them.

    Attributes:
        kept: indices of units.
        weight: `[outputs, kept]`.
        shift: `[outputs]`, added to the reader's bias.

    """

    kept: np.ndarray
    weight: np.ndarray
    shift: np.ndarray


def find_hidden(subject: Subject) -> tuple[tuple[Hidden, ...], tuple[str, ...]]:
    """Return the hidden layers that are covered, and the names of those that are not.

    Cost: two forward passes over at most four examples, and one for each candidate.
    """
    examples = subject.examples("train")
    inputs, _ = examples.take(
        range(min(4, examples.count)), device=subject.device, dtype=subject.dtype
    )
    firings: list[Firing] = []
    reads: list[tuple[str, nn.Module, Tensor]] = []

    def see(path: str, layer: nn.Module, read: Tensor, output: Tensor) -> None:
        reads.append((path, layer, read.detach().clone()))

    with torch.no_grad(), following(subject.module, firings.append) as mode:
        with linear_layers(subject.module, see):
            outputs = subject.forward(subject.parameters, inputs)
        own = mode.is_activation(outputs)
    found, others = [], []
    for path in dict.fromkeys(firing.path for firing in firings if firing.path != own):
        hidden = _hidden([f for f in firings if f.path == path], reads)
        if hidden is not None and _alone(subject, hidden, inputs, outputs):
            found.append(hidden)
        else:
            others.append(path)
    return tuple(found), tuple(others)


def _hidden(firings: list[Firing], reads: list[tuple[str, nn.Module, Tensor]]) -> Hidden | None:
    """Match the one activation of a linear layer with the one linear layer that reads it."""
    first = firings[0]
    if len(firings) > 1 or spatial_axes(first.module) or first.after.shape[-1] > MOST_UNITS:
        return None
    readers = [
        (path, layer)
        for path, layer, read in reads
        if read.shape == first.after.shape and torch.equal(read, first.after)
    ]
    if len(readers) != 1 or sum(path == readers[0][0] for path, _, _ in reads) > 1:
        return None
    path, layer = readers[0]
    return Hidden(
        first.path,
        path,
        int(first.after.shape[-1]),
        getattr(layer, "bias", None) is not None,
        outgoing(first.module).double().norm(dim=1).cpu().numpy(),
    )


def _alone(subject: Subject, hidden: Hidden, inputs: Any, outputs: Tensor) -> bool:
    """Whether nothing but the reader reads the units: silence them, and hand it what it read."""
    kept: list[Tensor] = []

    def note(path: str, layer: nn.Module, read: Tensor, output: Tensor) -> None:
        if path == hidden.reader:
            kept.append(output.detach().clone())

    def restore(path: str, layer: nn.Module, read: Tensor, output: Tensor) -> Tensor | None:
        return kept[0] if path == hidden.reader else None

    silent = {hidden.path: torch.arange(hidden.width)}
    for held, see in (({}, note), (silent, restore)):
        with (
            torch.no_grad(),
            following(subject.module, _ignore, silenced=held),
            linear_layers(subject.module, see),
        ):
            without = subject.forward(subject.parameters, inputs)
    return torch.equal(without, outputs)


def _ignore(firing: Firing) -> None:
    """See nothing."""


def moments(subject: Subject, layers: Sequence[Hidden], examples: Examples) -> dict[str, Layer]:
    """Accumulate the moments of what the readers read; layer to its moments.

    Memory: twice `width^2` a layer in float64. Cost: one forward pass, and products of order
    `rows * width^2` a layer.
    """
    byname = {hidden.reader: hidden for hidden in layers}
    sums = {h.reader: torch.zeros(h.width, dtype=torch.float64) for h in layers}
    seconds = {h.reader: torch.zeros(h.width, h.width, dtype=torch.float64) for h in layers}
    rows, weights = dict.fromkeys(byname, 0), {}

    def see(path: str, layer: nn.Module, read: Tensor, output: Tensor) -> None:
        if path in byname:
            flat = read.detach().reshape(-1, read.shape[-1]).double()
            sums[path] += flat.sum(0).cpu()
            seconds[path] += (flat.T @ flat).cpu()
            rows[path] += len(flat)
            weights[path] = outgoing(layer).double().cpu().numpy()

    with torch.no_grad(), linear_layers(subject.module, see):
        for inputs, _ in examples.batches(
            subject.batch_size, device=subject.device, dtype=subject.dtype
        ):
            subject.forward(subject.parameters, inputs)
    made = {}
    for reader, hidden in byname.items():
        mean, moment = (sums[reader] / rows[reader]).numpy(), seconds[reader] / rows[reader]
        mean = mean if hidden.biased else np.zeros_like(mean)
        made[hidden.path] = Layer(mean, moment.numpy() - np.outer(mean, mean), weights[reader])
    return made


def outputs_of(
    subject: Subject, examples: Examples, hidden: Hidden, reductions: Sequence[Reduction]
) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
    """Yield targets, the outputs as they are, and those of each reduction, batch by batch.

    The reader of a reduced network computes from the units that stay alone. All of them run
    through the same operations, so that what differs is the reduction.
    """
    for inputs, targets in examples.batches(
        subject.batch_size, device=subject.device, dtype=subject.dtype
    ):
        each = []
        for reduction in (None, *reductions):
            with torch.no_grad(), _reduced(subject, hidden, reduction):
                each.append(subject.forward(subject.parameters, inputs).cpu())
        yield targets.cpu(), each[0], each[1:]


@contextmanager
def _reduced(subject: Subject, hidden: Hidden, reduction: Reduction | None) -> Iterator[None]:
    like: dict[str, Any] = {"dtype": subject.dtype, "device": subject.device}

    def see(path: str, layer: Any, read: Tensor, output: Tensor) -> Tensor | None:
        if path != hidden.reader or reduction is None:
            return None
        weight = torch.tensor(reduction.weight, **like)
        shift = torch.tensor(reduction.shift, **like)
        fresh = read[..., torch.as_tensor(reduction.kept, device=read.device)] @ weight.T + shift
        return fresh + layer.bias if hidden.biased else fresh

    with linear_layers(subject.module, see):
        yield
