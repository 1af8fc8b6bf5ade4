"""What guarantees need: mistakes, the error under noise in the weights, norms and margins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from whynet.concepts.generalization.instruments.margins import margin
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.batch_norm import batch_normalized
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Split, Subject
from whynet.numerics import intervals
from whynet.numerics.kl_inverse import kl_inverse_lower, kl_inverse_upper

INSTRUMENT = Instrument(
    title="what guarantees need: mistakes, error under noise in the weights, norms, margins",
    unit="fraction",
    needs=("classification", "deterministic"),
    cost="the first round one pass over the data, every round 1600 forward passes of 32 rows",
    cites=("clopper1934", "dziugaite2017", "bartlett2017"),
    closed_form="noisy-halfspace",
    rounds=50,
    draws=True,
    unit_permutation_invariant=False,
)

NOISE = tuple(2.0 ** (half / 2) for half in range(-4, 4))
"""Sizes of the noise, in units of the root mean square of the initial weights."""

DRAWS, ROWS = 200, 32
"""Draws of weights in a round, and rows of training data that each of them meets."""

MARGINS = tuple(2.0**power for power in range(-10, 21))
MOST_WIDTH = 1024
"""Layers of at most that width have their singular values computed."""

LEVEL = 0.95
LIPSCHITZ = (nn.ReLU, nn.Tanh, nn.Identity, nn.Dropout)
"""Activations of slope at most 1 (in evaluation mode) that keep zero at zero."""


@dataclass(frozen=True)
class State:
    """The subject, what it is measured with, and the sums of the draws so far.

    Attributes:
        rows: split to the rows that carry a label.
        start: initial weights, or None where a prior around them cannot be had.
        unit: root mean square of the initial weights.
        once: what the first round measured.
        errors: `[noise]`, sums over draws of the share of mistakes.

    """

    subject: Subject
    seed: int
    rows: Mapping[Split, np.ndarray]
    start: Mapping[str, Tensor] | None
    unit: float
    notes: tuple[str, ...]
    once: Mapping[str, Quantity] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    errors: np.ndarray | None = None
    rounds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Find the rows that carry a label, and the weights before training."""
    splits: list[Split] = [s for s in ("train", "test") if getattr(subject, s) is not None]
    if not splits:
        return NotApplicable("This does not apply: neither training nor test data were given.")
    if not has_one_label(subject.loss, subject.outputs(splits[0])[0]):
        return NotApplicable("This does not apply: an example carries more than one label.")
    rows = {split: np.flatnonzero(_labels(subject, split) != IGNORED) for split in splits}
    rows = {split: found for split, found in rows.items() if len(found)}
    if not rows:
        return NotApplicable("This does not apply: no example carries a label.")
    obstacle = _prior_obstacle(subject)
    if obstacle or subject.initial is None:
        return State(subject, seed, rows, None, 1.0, (f"No PAC-Bayes bound: {obstacle}.",))
    held = subject.initial.parameters
    square = sum(float(value.double().square().sum()) for value in held.values())
    return State(subject, seed, rows, held, math.sqrt(square / _count(held)), ())


def _prior_obstacle(subject: Subject) -> str:
    """Say why no prior around the initial weights can be had; empty where one can."""
    if subject.train is None:
        return "no training data were given"
    if subject.initial is None:
        return "the network's initial weights are not known (give --init-weights)"
    if not subject.parameters:
        return "no parameter is trainable"
    if batch_normalized(subject.module):
        return "running statistics of batch normalization are taken from the training data"
    before, now = subject.initial.frozen, subject.frozen
    if any(not torch.equal(before[name], now[name]) for name in now):
        return "buffers or frozen parameters are not those of the initial network"
    if not any(bool(value.any()) for value in subject.initial.parameters.values()):
        return "all initial weights are zero"
    return ""


def _labels(subject: Subject, split: Split) -> np.ndarray:
    outputs, targets = subject.outputs(split)
    return np.asarray(labels_of(targets, outputs, subject.loss).numpy().reshape(-1))


def _count(parameters: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in parameters.values())


def advance(state: State) -> State:
    """Measure once what is not drawn, then the error at 200 draws of noise of each size."""
    if state.rounds == 0:
        layers, norms = _norms(state)
        once = _mistakes(state) | _distance(state) | norms
        state = replace(state, once=once, layers=layers)
    if state.start is not None and "train" in state.rows:
        drawn = _perturbed(state).sum(axis=0)
        state = replace(state, errors=drawn if state.errors is None else state.errors + drawn)
    return replace(state, rounds=state.rounds + 1)


def _mistakes(state: State) -> dict[str, Quantity]:
    """Mistakes on the test data, and those of the most frequent label of the training data."""
    subject, found = state.subject, dict[str, Quantity]()
    held = {split: _labels(subject, split)[rows] for split, rows in state.rows.items()}
    for split in held:
        found[f"{split}_examples"] = Quantity(len(held[split]), unit="count")
    first: Split = "train" if "train" in held else "test"
    last: Split = "test" if "test" in held else "train"
    values, counts = np.unique(held[first], return_counts=True)
    other = int(np.count_nonzero(held[last] != values[int(counts.argmax())]))
    found["constant_error"] = Quantity.from_estimate(intervals.proportion(other, len(held[last])))
    if "test" in held:
        answers = subject.loss.predictions(subject.outputs("test")[0]).numpy().reshape(-1)
        wrong = int((answers[state.rows["test"]] != held["test"]).sum())
        found["test_mistakes"] = Quantity(wrong, unit="count")
        found["test_error"] = Quantity.from_estimate(intervals.proportion(wrong, len(held["test"])))
    return found


def _distance(state: State) -> dict[str, Quantity]:
    if state.start is None:
        return {}
    now = state.subject.parameters
    square = sum(
        float((value.double() - state.start[name].double()).square().sum())
        for name, value in now.items()
    )
    return {
        "distance": Quantity(math.sqrt(square), how="Euclidean, from the initial weights"),
        "unit_of_noise": Quantity(state.unit, how="root mean square of the initial weights"),
        "parameters": Quantity(_count(now), unit="count"),
    }


def _perturbed(state: State) -> np.ndarray:
    """Return the share of mistakes `[draws, sizes]` of networks with noise in their weights.

    Each draw meets rows of its own, so that draws are independent; the sizes share a draw.
    """
    subject, rows = state.subject, state.rows["train"]
    generator = np.random.default_rng(seed_from("bound-ingredients", state.seed, state.rounds))
    shares = np.zeros((DRAWS, len(NOISE)))
    for draw in range(DRAWS):
        chosen = rows[generator.integers(len(rows), size=ROWS)]
        flat = generator.standard_normal(_count(subject.parameters), dtype=np.float32)
        pieces = torch.split(
            torch.from_numpy(flat), [value.numel() for value in subject.parameters.values()]
        )
        noise = {
            name: piece.reshape(value.shape).to(value)
            for (name, value), piece in zip(subject.parameters.items(), pieces, strict=True)
        }
        shares[draw] = _errors(subject, noise, state.unit, chosen)
    return shares


def _errors(
    subject: Subject, noise: Mapping[str, Tensor], unit: float, rows: np.ndarray
) -> np.ndarray:
    """Share of mistakes on some training rows for each size of the noise, a batch at a time."""
    wrong = np.zeros(len(NOISE))
    for first in range(0, len(rows), subject.batch_size):
        inputs, targets = subject.examples("train").take(
            rows[first : first + subject.batch_size], device=subject.device, dtype=subject.dtype
        )
        for size, relative in enumerate(NOISE):
            moved = {
                name: value + relative * unit * noise[name]
                for name, value in subject.parameters.items()
            }
            with torch.no_grad():
                outputs = subject.forward(moved, inputs)
            labels = labels_of(targets, outputs, subject.loss).reshape(-1)
            wrong[size] += int((subject.loss.predictions(outputs).reshape(-1) != labels).sum())
    return wrong / len(rows)


def chain(module: nn.Module) -> list[tuple[str, nn.Linear]] | None:
    """Return the linear layers of a plain chain with activations of slope at most 1.

    Returns:
        Path and layer, in order; None for any other network.

    """
    if isinstance(module, nn.Linear):
        return [("linear", module)]
    if type(module) is not nn.Sequential:
        return None
    layers: list[tuple[str, nn.Linear]] = []
    for name, child in module.named_modules():
        if type(child) is nn.Linear:
            layers.append((name, child))
        elif isinstance(child, nn.Flatten):
            if layers or child.start_dim != 1:
                return None
        elif isinstance(child, nn.LeakyReLU):
            if abs(child.negative_slope) > 1:
                return None
        elif type(child) is not nn.Sequential and type(child) not in LIPSCHITZ:
            return None
    return layers or None


def _norms(state: State) -> tuple[tuple[str, ...], dict[str, Quantity]]:
    """Norms of the matrices of a plain chain with their biases folded in; empty for others."""
    subject, layers = state.subject, chain(state.subject.module)
    if "train" not in state.rows or layers is None:
        return (), {}
    flattened = any(isinstance(child, nn.Flatten) for child in subject.module.modules())
    widest = max(max(layer.weight.shape) + 1 for _, layer in layers)
    if (len(subject.facts.input_shape) != 1 and not flattened) or widest > MOST_WIDTH:
        return (), {}
    folded = any(layer.bias is not None for _, layer in layers)
    now = matrices(layers, folded)
    before = [np.zeros_like(matrix) for matrix in now]
    if subject.initial is not None:
        before = matrices(chain(subject.initial.module) or [], folded)
    elif folded:
        for matrix in before[:-1]:
            matrix[-1, -1] = 1.0
    square = sum(
        float(inputs.double().flatten(1).square().sum(1).cpu().numpy()[keep].sum())
        for inputs, keep in _scored_batches(state)
    )
    count = len(state.rows["train"])
    outputs, targets = (tensor[state.rows["train"]] for tensor in subject.outputs("train"))
    leads = margin(subject.loss, outputs, targets).double().numpy()
    return tuple(name for name, _ in layers), {
        "spectral_norm": Quantity([np.linalg.norm(m, 2) for m in now], dims=("layer",)),
        "row_distance": Quantity(
            [np.linalg.norm(m - b, axis=1).sum() for m, b in zip(now, before, strict=True)],
            dims=("layer",),
            how="from the initial weights" if subject.initial is not None else "from zero",
        ),
        "input_norm": Quantity(math.sqrt(square + count * folded), how="over all training rows"),
        "width": Quantity(max(max(matrix.shape) for matrix in now), unit="count"),
        "margin_error": Quantity(
            [float((leads <= gamma).mean()) for gamma in MARGINS], dims=("gamma",), unit="fraction"
        ),
    }


def _scored_batches(state: State) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Iterate over batches of training inputs and the positions in them that carry a label."""
    first = 0
    scored = np.zeros(state.subject.examples("train").count, dtype=bool)
    scored[state.rows["train"]] = True
    for inputs, targets in state.subject.batches("train"):
        yield inputs, scored[first : first + len(targets)]
        first += len(targets)


def matrices(layers: list[tuple[str, nn.Linear]], folded: bool) -> list[np.ndarray]:
    """Return the layers as matrices in float64, biases as a column that meets a constant 1.

    Each matrix but the last passes the constant on; activations leave it alone.
    """
    found = []
    for index, (_, layer) in enumerate(layers):
        weight = layer.weight.detach().cpu().double().numpy()
        if folded:
            bias = np.zeros(len(weight))
            if layer.bias is not None:
                bias = layer.bias.detach().cpu().double().numpy()
            weight = np.concatenate([weight, bias[:, None]], axis=1)
            if index < len(layers) - 1:
                constant = np.zeros((1, weight.shape[1]))
                constant[0, -1] = 1.0
                weight = np.concatenate([weight, constant])
        found.append(weight)
    return found


def read(state: State) -> Measurement:
    """Return what was counted, and the mean error under noise with its Chernoff interval."""
    quantities, coords = dict(state.once), dict[str, object]()
    if state.layers:
        coords |= {"layer": list(state.layers), "gamma": list(MARGINS)}
    if state.errors is not None:
        draws = DRAWS * state.rounds
        mean = np.clip(state.errors / draws, 0.0, 1.0)
        budget = math.log(2 / (1 - LEVEL)) / draws
        quantities["perturbed_error"] = Quantity(
            mean,
            np.minimum(kl_inverse_lower(mean, budget), mean),
            np.maximum(kl_inverse_upper(mean, budget), mean),
            dims=("noise",),
            unit="fraction",
            kind="certified",
            level=LEVEL,
            how="Chernoff bounds of draws in [0, 1], inverse of kl",
            over="draws of weights",
        )
        quantities["draws"] = Quantity(draws, unit="count")
        coords["noise"] = list(NOISE)
    return Measurement.of(quantities, coords=coords, cites=INSTRUMENT.cites, notes=state.notes)
