"""Does a network linearized at its start predict what the network was trained to?"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.concepts.kernels.instruments import lazy_or_rich
from whynet.concepts.kernels.linearized import Tangents, tangents
from whynet.concepts.kernels.theory.linearized_descent import flow_to_loss
from whynet.core.field_test import Broken, Check, FieldTest
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.numerics import kernel_matrices as matrices

FIELD_TEST = FieldTest(
    asks="Does the network linearized at its start predict what it was trained to?",
    predicts="answers on unseen rows",
    items="test examples",
    needs=("train-data", "test-data", "initialization", "deterministic", "trainable"),
    assumptions={
        "trained": "outputs that training moved",
        "same-rows": "a linearized network that saw the same training rows",
    },
    control=Broken(
        "other-start",
        "its own start",
        "The network is linearized at its initial weights shuffled within each tensor: the same "
        "law of weights, and another start.",
    ),
    cites=("lee2019", "jacot2018", "chizat2019"),
    cost="the kernel at the start on up to 1,500 rows, twice: seconds for small networks",
)

STILL = 1e-3
"""Change of outputs, relative to their spread, below which nothing was trained."""

Array = NDArray[Any]


def check_on(subject: Subject, seed: int) -> tuple[Check, ...] | NotApplicable:
    """Check that training moved the outputs, and that the kernel of all rows is affordable."""
    state = lazy_or_rich.start(subject, seed)
    if isinstance(state, NotApplicable):
        return state
    now, before = (network.outputs("test")[0].numpy() for network in state.networks)
    spread = max(float(np.sqrt(((f - f.mean(0)) ** 2).mean())) for f in (now, before))
    moved = float(np.sqrt(((now - before) ** 2).mean())) / max(spread, 1e-300)
    words = f"outputs moved by {moved:.2g} of their spread."
    if moved <= STILL:
        return (Check("trained", "not met", words),)
    fitted, rows = len(state.fitted), len(state.train.rows)
    return (
        Check("trained", "met", words),
        Check(
            "same-rows",
            "met" if fitted == rows else "not met",
            f"the kernel is affordable for {fitted:,} of {rows:,} training rows.",
        ),
    )


def predict_on(subject: Subject, seed: int, *, broken: bool = False) -> Array:
    """Return labels, or outputs in regression, of the linearized network on unseen rows.

    In regression gradient flow ends when the linearized network fits the training rows as well
    as the network does; with labels the ridge serves training rows left out best. What the
    network says of unseen rows is not looked at.
    """
    state = _state(_shuffled_start(subject, seed) if broken else subject, seed)
    initial, plan = state.networks[1], state.plans[1]
    train = state.train.at(state.fitted)
    parts = [
        initial.examples(part.split).take(part.rows, device=initial.device, dtype=initial.dtype)[0]
        for part in (train, state.test)
    ]
    held = tangents(initial, plan, (parts[0], parts[1]), train, state.test)
    if train.labels is not None:
        return _labels(subject, _ridge(held, train.targets))
    outputs = state.networks[0].outputs("train")[0].numpy().reshape(train.targets.shape[0], -1)
    loss = float(((outputs[train.rows] - train.targets) ** 2).mean())
    shape = (-1, 1) if held.full else train.targets.shape
    found = flow_to_loss(
        held.kernel,
        held.cross,
        (held.start.reshape(shape), held.offset.reshape(-1, shape[1])),
        train.targets.reshape(shape),
        loss,
    )
    return found.reshape(held.offset.shape)


def _ridge(held: Tangents, targets: Array) -> Array:
    residual = targets - held.start
    shaped = residual.reshape(-1, 1) if held.full else residual
    fitted = matrices.regression(held.kernel, held.cross, shaped)
    return np.asarray(held.offset + fitted.chosen.reshape(held.offset.shape))


def _labels(subject: Subject, outputs: Array) -> Array:
    shape = subject.outputs("test")[0].shape[1:]
    shaped: Tensor = torch.from_numpy(outputs).reshape(len(outputs), *shape)
    return np.asarray(subject.loss.predictions(shaped).numpy().reshape(-1))


def _state(subject: Subject, seed: int) -> lazy_or_rich.State:
    state = lazy_or_rich.start(subject, seed)
    assert isinstance(state, lazy_or_rich.State)
    return state


def _shuffled_start(subject: Subject, seed: int) -> Subject:
    """Return the subject with its initial weights shuffled within each tensor."""
    initial = subject.initial
    assert initial is not None
    module = copy.deepcopy(initial.module)
    generator = np.random.default_rng(seed_from("ntk-linearized", seed, "start"))
    with torch.no_grad():
        for parameter in module.parameters():
            order = torch.from_numpy(generator.permutation(parameter.numel()))
            parameter.copy_(
                parameter.reshape(-1)[order.to(parameter.device)].reshape(parameter.shape)
            )
    return subject.started(module)


def measure_on(subject: Subject, seed: int) -> Array:
    """Return labels, or outputs in regression, of the network on the same rows."""
    return another_on(subject, subject, seed)


def another_on(subject: Subject, other: Subject, seed: int) -> Array:
    """Return the same of another seed."""
    test = _state(subject, seed).test
    outputs = other.in_precision(torch.float64).outputs("test")[0].numpy()
    outputs = outputs.reshape(len(outputs), -1)[test.rows]
    return outputs if test.labels is None else _labels(subject, outputs)


def rivals_on(subject: Subject, seed: int) -> Mapping[str, Array]:
    """Return none."""
    return {}
