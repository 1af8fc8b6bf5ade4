"""Do consecutive layers of a network keep the imbalance they started with?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whynet.concepts.implicit_bias.layer_pairs import Growth, growths, layer_pairs
from whynet.core.field_test import Broken, Check, FieldTest
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.subject import Subject

FIELD_TEST = FieldTest(
    asks="Do its consecutive layers keep the imbalance they started with?",
    predicts="growth of what leaves each hidden unit, read off what enters it,",
    items="hidden units",
    needs=("train-data", "initialization", "deterministic", "trainable"),
    assumptions={
        "symmetry": "consecutive dense layers that can be rescaled against each other",
        "trained": "weights that training moved",
        "unregularized": "nothing but the loss pulling on the weights",
        "plain-steps": "weights that move by the step size times their gradient",
    },
    control=Broken(
        "other-units",
        "which unit",
        "Each unit is given the growth of what enters another unit of its layer, drawn at random.",
    ),
    cites=("du2018", "arora2018"),
    cost="a few products of weight matrices: under a second",
)

MOVED = 1e-6
"""Least relative change of squared weights that is a training."""

Array = NDArray[Any]


def check_on(subject: Subject, seed: int) -> tuple[Check, ...] | NotApplicable:
    """Check that layers can be rescaled against each other, and that training moved them."""
    if subject.initial is None:
        return NotApplicable("This does not apply: the network before training is not known.")
    pairs = layer_pairs(subject, seed)
    if not pairs:
        found = "no two consecutive dense layers compute the same when units are rescaled by them."
        return (Check("symmetry", "not met", found),)
    units = sum(pair.units for pair in pairs)
    kind = "any invertible map" if all(pair.linear for pair in pairs) else "positive factors"
    found = (
        f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} of layers with {units:,} hidden "
        f"units compute the same when these are rescaled by {kind}."
    )
    held = Check("symmetry", "met", found)
    largest = max(float(np.abs(growth.entering).max()) for growth in _growths(subject, seed))
    words = f"the squared weights of a unit changed by up to {largest:.2g} of their size."
    if largest <= MOVED:
        return (held, Check("trained", "not met", words))
    unknown = "what else moved the weights is not known."
    return (
        held,
        Check("trained", "met", words),
        Check("unregularized", "cannot be checked", unknown),
        Check("plain-steps", "cannot be checked", unknown),
    )


def predict_on(subject: Subject, seed: int, *, broken: bool = False) -> Array:
    """Return how much what leaves each unit grew, read off what enters it: they grow alike."""
    generator = np.random.default_rng(seed_from("dln-balanced", seed, "units"))
    found = []
    for growth in _growths(subject, seed):
        entering = growth.entering
        if broken:
            order = _others(len(entering), generator)
            entering = entering[np.ix_(order, order)] if growth.linear else entering[order]
        found.append(entering)
    return stacked(found)


def _others(count: int, generator: np.random.Generator) -> Array:
    """Return a random cyclic order, in which no unit stays where it is."""
    order = generator.permutation(count)
    shifted = np.empty(count, dtype=np.intp)
    shifted[order] = np.roll(order, 1)
    return shifted


def measure_on(subject: Subject, seed: int) -> Array:
    """Return how much what leaves each unit grew."""
    return stacked([growth.leaving for growth in _growths(subject, seed)])


def another_on(subject: Subject, other: Subject, seed: int) -> Array:
    """Return what another seed's relation between entering and leaving weights predicts.

    Units of two seeds are not the same ones. They are paired in the order of the growth of what
    enters them, which the theory reads as well; for linear networks the principal axes of it are.
    """
    found = []
    for own, theirs in zip(_growths(subject, seed), _growths(other, seed), strict=True):
        if own.linear:
            axes, others = (np.linalg.eigh(part.entering)[1] for part in (own, theirs))
            along = np.diagonal(others.T @ theirs.leaving @ others)
            found.append(axes * along @ axes.T)
        else:
            paired = np.empty_like(own.leaving)
            paired[np.argsort(own.entering[:, 0])] = theirs.leaving[
                np.argsort(theirs.entering[:, 0])
            ]
            found.append(paired)
    return stacked(found)


def rivals_on(subject: Subject, seed: int) -> Mapping[str, Array]:
    """Return none."""
    return {}


def _growths(subject: Subject, seed: int) -> list[Growth]:
    initial = subject.initial
    assert initial is not None
    return growths(subject, initial, layer_pairs(subject, seed))


def stacked(parts: list[Array]) -> Array:
    """Put the units of all pairs below each other, padded by zeros to one length."""
    longest = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, ((0, 0), (0, longest - p.shape[1]))) for p in parts])
