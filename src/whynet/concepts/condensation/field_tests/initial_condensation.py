"""Did its neurons turn, from a tiny start, to where the data alone say they must?"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whynet.concepts.condensation.theory.first_directions import turned
from whynet.concepts.condensation.workplace import called
from whynet.core.field_test import Broken, Check, FieldTest
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.neuron_moments import find_layers
from whynet.models.subject import Subject

FIELD_TEST = FieldTest(
    asks="Did its neurons turn, from a tiny start, to where the data alone say they must?",
    predicts="directions of incoming weights",
    items="hidden units",
    needs=("train-data", "float-inputs", "initialization", "deterministic", "trainable"),
    assumptions={
        "two-layers": "one hidden layer of neurons between two linear maps, and nothing else "
        "that is trained",
        "multiplicity-one": "an activation that is zero at zero and has a slope there",
        "small": "weights that are still so small that outputs hardly moved",
        "grew": "weights that grew by an order of magnitude and more",
        "plain-steps": "weights that move by the step size times their gradient",
    },
    control=Broken(
        "other-targets",
        "the targets",
        "The targets are shuffled among the training rows: the same law of pulls, and another.",
    ),
    cites=("zhou2022",),
    cost="two passes over the training data, and a decomposition of features times outputs",
)

MULTIPLICITY_ONE = ("tanh", "gelu", "silu")
STILL = 0.2
"""Largest movement of outputs over the size of the residual."""
GROWN = 10.0

Array = NDArray[Any]


@dataclass(frozen=True)
class Pair:
    """The two layers of a network, by their names in it."""

    first: str
    last: str


def _layers(subject: Subject) -> Pair | None:
    """Return the two layers; None where there are other ones, or other parameters."""
    held = [(n, m) for n, m in subject.module.named_modules() if isinstance(m, nn.Linear)]
    neurons = find_layers(subject)
    if len(held) != 2 or len(neurons) != 1 or neurons[0].path != held[0][0]:
        return None
    (first, inner), (last, outer) = held
    owned = {id(p) for layer in (inner, outer) for p in layer.parameters()}
    alone = all(id(p) in owned and p.requires_grad for p in subject.module.parameters())
    fits = inner.out_features == outer.in_features
    return Pair(first, last) if alone and fits and neurons[0].calls == 1 else None


def check_on(subject: Subject, seed: int) -> tuple[Check, ...] | NotApplicable:
    """Check the form, the activation, and that weights grew much and are still small."""
    if subject.loss.name not in ("mse", "cross_entropy", "bce") or not _one_target(subject):
        return NotApplicable(
            "This does not apply: the residual at the start is known of one squared error, "
            "cross-entropy or binary cross-entropy an example."
        )
    if subject.initial is None:
        return NotApplicable("This does not apply: the network before training is not known.")
    if _layers(subject) is None:
        found = "it is not made of two linear layers with neurons between them."
        return (Check("two-layers", "not met", found),)
    checks = [Check("two-layers", "met", "two linear layers hold all that is trained.")]
    activation = find_layers(subject)[0].activation
    smooth = activation in MULTIPLICITY_ONE
    words = f"the activation is {activation}."
    checks.append(Check("multiplicity-one", "met" if smooth else "not met", words))
    if not smooth:
        return tuple(checks)
    now, before = (s.outputs("train")[0].double().numpy() for s in (subject, subject.initial))
    residual = _residual(subject, _targets(subject))
    moved = _size((now - now.mean(0)) - (before - before.mean(0))) / max(_size(residual), 1e-300)
    words = f"outputs moved apart by {moved:.2g} of the residual of a constant."
    checks.append(Check("small", "met" if moved <= STILL else "not met", words))
    if moved > STILL:
        return tuple(checks)
    growth = _length(subject) / max(_length(subject.initial), 1e-300)
    words = f"weights grew to {growth:.2g} times their start."
    checks.append(Check("grew", "met" if growth >= GROWN else "not met", words))
    if growth < GROWN:
        return tuple(checks)
    rest = Check("plain-steps", "cannot be checked", "how the weights were moved is not known.")
    return (*checks, rest)


def _one_target(subject: Subject) -> bool:
    """Whether an example has one output, and one label where the loss is of classes."""
    if len(subject.output_shape) > 2:
        return False
    if subject.loss.name != "cross_entropy":
        return True
    targets = subject.outputs("train")[1]
    whole = not targets.is_floating_point() and targets.ndim == 1
    return whole and bool(((targets >= 0) & (targets < subject.output_shape[-1])).all())


def _size(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def _length(subject: Subject) -> float:
    inner, outer = _weights(subject)
    return float(np.sqrt((inner**2).sum() + (outer**2).sum()))


def _weights(subject: Subject) -> tuple[Array, Array]:
    """Return incoming weights with their bias, `[units, features]`, and outgoing ones."""
    pair = _layers(subject)
    assert pair is not None
    first, last = (subject.module.get_submodule(path) for path in (pair.first, pair.last))
    inner = first.get_parameter("weight").detach().double().cpu().numpy()
    if first.bias is not None:
        bias = first.get_parameter("bias").detach().double().cpu().numpy()
        inner = np.concatenate([inner, bias[:, None]], axis=1)
    return inner, last.get_parameter("weight").detach().double().cpu().numpy().T


def _targets(subject: Subject) -> Array:
    """Return targets as outputs would be, `[rows, outputs]`; classes one-hot."""
    targets = subject.outputs("train")[1]
    if subject.loss.name != "cross_entropy":
        return np.asarray(targets.double().numpy().reshape(len(targets), -1))
    return np.asarray(np.eye(subject.output_shape[-1])[targets.numpy().reshape(-1)])


def _residual(subject: Subject, targets: Array) -> Array:
    """Return minus the gradient at a constant output: the best one where a bias reaches it."""
    pair = _layers(subject)
    assert pair is not None
    if subject.module.get_submodule(pair.last).bias is not None:
        return np.asarray(targets - targets.mean(0))
    constant = {"mse": 0.0, "bce": 0.5, "cross_entropy": 1 / targets.shape[1]}
    return np.asarray(targets - constant[subject.loss.name])


def _inputs(subject: Subject) -> Array:
    """Return what the first layer reads of the training rows, with its constant."""
    pair = _layers(subject)
    assert pair is not None
    module = copy.deepcopy(subject.module)
    first = module.get_submodule(pair.first)
    seen: list[Array] = []
    first.register_forward_pre_hook(lambda layer, args: seen.append(_rows(args[0])))
    with torch.no_grad():
        for inputs, _ in subject.batches("train"):
            called(module, inputs, subject.output)
    rows = np.concatenate(seen)
    return rows if first.bias is None else np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _rows(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().cpu().numpy().reshape(-1, tensor.shape[-1])


def predict_on(subject: Subject, seed: int, *, broken: bool = False) -> Array:
    """Return the direction of every unit, from the start, the data and how far all weights grew.

    Where the units point is not looked at; of the trained weights their length together is.
    """
    assert subject.initial is not None
    targets = _targets(subject)
    if broken:
        generator = np.random.default_rng(seed_from("initial-condensation", seed, "targets"))
        targets = targets[generator.permutation(len(targets))]
    rows = _inputs(subject)
    pull = rows.T @ _residual(subject, targets) / len(rows)
    return _units(turned(pull, *_weights(subject.initial), _length(subject)))


def measure_on(subject: Subject, seed: int) -> Array:
    """Return the direction of every unit of the network."""
    return _units(_weights(subject)[0])


def _units(inner: Array) -> Array:
    return np.asarray(inner / np.maximum(np.linalg.norm(inner, axis=1, keepdims=True), 1e-300))


def another_on(subject: Subject, other: Subject, seed: int) -> Array:
    """Return the same of another seed, unit by unit."""
    return measure_on(other, seed)


def rivals_on(subject: Subject, seed: int) -> Mapping[str, Array]:
    """Return the directions that units started with."""
    assert subject.initial is not None
    return {"its own start": measure_on(subject.initial, seed)}
