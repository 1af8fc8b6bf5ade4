"""Second moments, extremes and a bounded sample of the neurons of every layer, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from whynet.core.seeds import seed_from
from whynet.models.data.examples import Examples
from whynet.models.layer_inputs import Patches, layer_inputs
from whynet.models.neurons import GATE, Activate, Firing, by_example, following
from whynet.models.subject import Subject

MOST_EXAMPLES: Final = 10_000
"""Examples that are run through the network; of more, a seeded subset."""

MOST_UNITS: Final = 512
"""Units of a layer that are compared with each other; of more, a seeded subset."""

SAMPLE_ROWS: Final = 2_048
"""Rows of a layer (examples times positions) that are kept."""

WIDE_INPUT: Final = 1_024
"""Above this many inputs a layer keeps at most so many rows of them."""

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Layer:
    """A hidden layer of neurons.

    Attributes:
        path: dotted name in the network (foreign text).
        activation: name of its activation function.
        width: number of neurons.
        normalized: whether batch normalization stands between layer and activation.
        has_bias: whether the layer adds a bias.
        calls: how often it fires in one forward pass.
        grouped: whether it is a grouped convolution, whose neurons read different inputs.

    """

    path: str
    activation: str
    width: int
    normalized: bool
    has_bias: bool
    calls: int
    grouped: bool

    @property
    def gated(self) -> bool:
        """Whether its neurons are products of gates and values."""
        return self.activation.endswith(GATE)


@dataclass(frozen=True)
class GateLaw:
    """What gates are made by.

    Attributes:
        size: root of the mean square of what enters them, over rows and units.
        activate: their activation.

    """

    size: float
    activate: Activate


@dataclass(frozen=True)
class Record:
    """What the neurons of one layer did on the data; rows are examples times positions.

    Attributes:
        layer: the layer.
        units: `[compared]`, indices of the units that are compared with each other.
        rows: number of rows.
        second: `[compared, compared]`, mean of z zᵀ over rows, z what enters the activation.
        activity_mean: `[compared]`, mean of what leaves it.
        activity_second: `[compared, compared]`, mean of its products.
        peak: `[width]`, largest absolute value that leaves the activation.
        reach: `[width]`, largest absolute value that enters it.
        most: `[width]`, largest value that enters it.
        bend: `[width]`, largest absolute difference between what leaves and what enters.
        sample: `[kept, compared]`, z at seeded rows.
        sample_example: `[kept]`, which example a row of `sample` belongs to, 0, 1, 2…; examples
            are in random order.
        inputs: `[kept, features]`, what the layer read at seeded rows; patches of a convolution.
            None for grouped convolutions, where no axis counts the examples, and where gates and
            values read different tensors.
        gates: of products, how large what enters the gates is and what they do to it; None
            where `inputs` is.

    """

    layer: Layer
    units: np.ndarray
    rows: int
    second: np.ndarray
    activity_mean: np.ndarray
    activity_second: np.ndarray
    peak: np.ndarray
    reach: np.ndarray
    most: np.ndarray
    bend: np.ndarray
    sample: np.ndarray
    sample_example: np.ndarray
    inputs: np.ndarray | None
    gates: GateLaw | None


def find_layers(subject: Subject, split: Split = "train") -> tuple[Layer, ...]:
    """Return the hidden layers of neurons of a network, in the order in which they fire.

    Cost: one forward pass over two examples.
    """
    examples = subject.examples(split)
    inputs, _ = examples.take(
        range(min(2, examples.count)), device=subject.device, dtype=subject.dtype
    )
    firings: list[Firing] = []
    with torch.no_grad(), following(subject.module, firings.append) as mode:
        output = mode.is_activation(subject.forward(subject.parameters, inputs))
    calls: dict[str, list[Firing]] = {}
    for firing in firings:
        calls.setdefault(firing.path, []).append(firing)
    return tuple(_layer(many) for path, many in calls.items() if path != output)


def _layer(firings: list[Firing]) -> Layer:
    first = firings[0]
    return Layer(
        path=first.path,
        activation=first.activation,
        width=int(first.before.shape[-1]),
        normalized=first.normalized,
        has_bias=getattr(first.module, "bias", None) is not None,
        calls=len(firings),
        grouped=getattr(first.module, "groups", 1) > 1,
    )


def record(
    subject: Subject, layers: tuple[Layer, ...], split: Split = "train", seed: int = 0
) -> tuple[Record, ...]:
    """Run the data through the network and accumulate what its neurons did.

    Args:
        subject: the network with its data.
        layers: as `find_layers` returns them.
        split: which data.
        seed: of the subsets and sampled rows; they depend on nothing else.

    Returns:
        One record a layer. Memory: a batch, and per layer at most about 30 MB beside it. Cost:
        one forward pass, and products of order `rows * compared^2` a layer.

    """
    examples = _bounded(subject.examples(split), seed)
    gathered = {layer.path: _Gathering(layer, examples.count, seed) for layer in layers}
    offset = 0
    for inputs, _ in examples.batches(
        subject.batch_size, device=subject.device, dtype=subject.dtype
    ):
        count = _count(inputs)

        def see(firing: Firing, count: int = count, offset: int = offset) -> None:
            gathering = gathered.get(firing.path)
            if gathering is not None:
                gathering.add(firing, count, offset)

        with torch.no_grad(), following(subject.module, see):
            subject.forward(subject.parameters, inputs)
        offset += count
    return tuple(gathering.record() for gathering in gathered.values())


def seen_by(inputs: np.ndarray, layer: Layer) -> np.ndarray:
    """Return what the weights of a layer multiply, as `input_spectrum` takes it, float64."""
    rows = inputs.astype(float)
    if layer.normalized:
        return np.asarray(rows - rows.mean(0))
    if layer.has_bias:
        return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    return rows


def input_spectrum(inputs: np.ndarray, layer: Layer) -> np.ndarray:
    """Return the eigenvalues of the second moment of a layer's inputs.

    With a bias the inputs have a constant 1 beside them; with batch normalization, which takes
    every mean away, they are centered instead.
    """
    rows = seen_by(inputs, layer)
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(gram / len(rows))
    return np.asarray(values[values > 1e-12 * max(float(values.max()), 1e-300)])


def outputs_without(
    subject: Subject, silenced: Mapping[str, np.ndarray], split: Split
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each batch the outputs as they are and with some neurons held at zero.

    Args:
        subject: the network; nothing of it is changed.
        silenced: layer to indices of units.
        split: which data, at most `MOST_EXAMPLES` of them.

    """
    units = {path: torch.as_tensor(indices) for path, indices in silenced.items()}
    examples = _bounded(subject.examples(split), 0)
    for inputs, _ in examples.batches(
        subject.batch_size, device=subject.device, dtype=subject.dtype
    ):
        pair = []
        for held in ({}, units):
            with torch.no_grad(), following(subject.module, _ignore, silenced=held):
                pair.append(subject.forward(subject.parameters, inputs))
        yield pair[0], pair[1]


def _ignore(firing: Firing) -> None:
    """See nothing."""


def _bounded(examples: Examples, seed: int) -> Examples:
    if examples.count <= MOST_EXAMPLES:
        return examples
    generator = np.random.default_rng(seed_from("neurons", "examples", seed))
    return examples.subset(np.sort(generator.permutation(examples.count)[:MOST_EXAMPLES]))


def _count(inputs: Any) -> int:
    if isinstance(inputs, dict):
        return len(next(iter(inputs.values())))
    return len(inputs[0] if isinstance(inputs, tuple) else inputs)


class _Gathering:
    """The growing record of one layer."""

    def __init__(self, layer: Layer, examples: int, seed: int) -> None:
        self.layer = layer
        generator = np.random.default_rng(seed_from("neurons", layer.path, seed))
        chosen = min(examples, max(64, SAMPLE_ROWS // layer.calls))
        order = generator.permutation(examples)[:chosen]
        self.rank = np.full(examples, -1)
        self.rank[order] = np.arange(chosen)
        per_example = max(1, SAMPLE_ROWS // (chosen * layer.calls))
        self.places = generator.random((chosen, per_example))
        self.units = np.arange(layer.width)
        if layer.width > MOST_UNITS:
            self.units = np.sort(generator.permutation(layer.width)[:MOST_UNITS])
        compared = len(self.units)
        self.rows = 0
        self.second = torch.zeros(compared, compared, dtype=torch.float64)
        self.activity = torch.zeros(compared, dtype=torch.float64)
        self.activity_second = torch.zeros_like(self.second)
        self.extremes = torch.zeros(4, layer.width, dtype=torch.float64)
        self.extremes[2] = -torch.inf
        self.sample: list[np.ndarray] = []
        self.sample_rank: list[np.ndarray] = []
        self.inputs: list[np.ndarray] = []
        self.inputs_rank: list[np.ndarray] = []
        self.has_inputs = not layer.grouped
        self.gate_squares = 0.0
        self.activate: Activate | None = None

    def add(self, firing: Firing, count: int, offset: int) -> None:
        """Add what a layer did on one batch."""
        before = firing.before.reshape(-1, self.layer.width)
        after = firing.after.reshape(-1, self.layer.width)
        found = torch.stack(
            [
                after.abs().amax(0),
                before.abs().amax(0),
                before.amax(0),
                (after - before).abs().amax(0),
            ]
        )
        self.extremes = torch.maximum(self.extremes, found.to("cpu", torch.float64))
        z, active = before[:, self.units].double(), after[:, self.units].double()
        self.second += (z.T @ z).cpu()
        self.activity += active.sum(0).cpu()
        self.activity_second += (active.T @ active).cpu()
        self.rows += len(before)
        if firing.gates is not None:
            self.gate_squares += float(firing.gates.before.double().square().sum())
            self.activate = firing.gates.activate
        ranks = self.rank[offset : offset + count]
        self._sample(firing, count, ranks)

    def _sample(self, firing: Firing, count: int, ranks: np.ndarray) -> None:
        here = np.flatnonzero(ranks >= 0)
        rows = by_example(firing.before[..., self.units], count)
        if rows is None or len(here) == 0:
            self.has_inputs = self.has_inputs and rows is not None
            return
        picked, owner = self._pick(rows, here, ranks)
        self.sample.append(picked)
        self.sample_rank.append(owner)
        if not self.has_inputs:
            return
        patches = None if firing.inputs is None else layer_inputs(firing, count)
        if patches is None:
            self.has_inputs = False
            return
        features = int(np.prod(patches.shape[2:]))
        if features > WIDE_INPUT:
            most = max(1, WIDE_INPUT // (self.places.shape[1] * self.layer.calls))
            here = here[ranks[here] < most]
        picked, owner = self._pick(patches, here, ranks)
        self.inputs.append(picked.reshape(len(picked), features))
        self.inputs_rank.append(owner)

    def _pick(
        self, rows: Tensor | Patches, here: np.ndarray, ranks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take seeded positions of the examples `here`; several may coincide."""
        positions = rows.shape[1]
        per_example = min(positions, self.places.shape[1])
        place = (self.places[ranks[here], :per_example] * positions).astype(int)
        owner = np.repeat(ranks[here], per_example)
        example = torch.as_tensor(here)[:, None].expand(len(here), per_example)
        picked = rows[example, torch.as_tensor(place)]
        return picked.reshape(-1, *rows.shape[2:]).cpu().numpy(), owner

    def record(self) -> Record:
        """Return what has been gathered."""
        rows = max(1, self.rows)
        peak, reach, most, bend = (line.numpy() for line in self.extremes)
        sample, owner = _ordered(self.sample, self.sample_rank, len(self.units))
        inputs, gates = None, None
        if self.has_inputs and self.inputs:
            inputs, _ = _ordered(self.inputs, self.inputs_rank, 0)
            if self.activate is not None:
                size = float(np.sqrt(self.gate_squares / (rows * self.layer.width)))
                gates = GateLaw(size, self.activate)
        return Record(
            self.layer,
            self.units,
            self.rows,
            (self.second / rows).numpy(),
            (self.activity / rows).numpy(),
            (self.activity_second / rows).numpy(),
            peak,
            reach,
            most,
            bend,
            sample,
            owner,
            inputs,
            gates,
        )


def _ordered(
    pieces: list[np.ndarray], owners: list[np.ndarray], width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Join pieces in the order of their examples' ranks, whatever the batches were."""
    if not pieces:
        return np.zeros((0, width)), np.zeros(0, dtype=int)
    rows, owner = np.concatenate(pieces), np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return rows[order], owner[order]
