"""What one step of a network does to covariances and tangent kernels of pairs of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whynet.concepts.kernels.theory.wide_reader import Law, Step

Array = NDArray[Any]


@dataclass(frozen=True)
class Pairs:
    """Covariance of a unit's value at pairs of inputs, and the tangent kernel there.

    Attributes:
        covariance: `[pairs..., places...]`, over units of one layer and draws of the weights.
        tangent: the same shape.
        sides: spatial sides that are left; places are one place of both inputs, or where `full` a
            place of either.
        full: whether places of the two inputs differ.

    """

    covariance: Array
    tangent: Array
    sides: int
    full: bool

    @property
    def places(self) -> int:
        """Number of axes of places."""
        return self.sides * (2 if self.full else 1)


def at_inputs(left: Array, right: Array, *, full: bool, own: bool) -> Pairs:
    """Return the inputs' own covariance, `x·x'` over their features.

    Args:
        left: `[n, features, ...]`.
        right: `[m, features, ...]`, or as `left` where `own`.
        full: whether places of the two inputs differ.
        own: each input with itself only.

    """
    n, features, *sizes = left.shape
    sides = len(sizes)
    one, other = left.reshape(n, features, -1), right.reshape(len(right), features, -1)
    if not sides:
        one, other = one[..., 0], other[..., 0]
        found = (one * other).sum(1) if own else one @ other.T
    elif own:
        found = np.einsum("icp,icq->ipq" if full else "icp,icp->ip", one, other)
    else:
        found = np.einsum("icp,jcq->ijpq" if full else "icp,jcp->ijp", one, other, optimize=True)
    pairs = (n,) if own else (n, len(right))
    found = found.reshape(*pairs, *sizes, *(sizes if full else ()))
    return Pairs(found / features, np.zeros_like(found), sides, full and sides > 0)


def after(step: Step, states: Sequence[Pairs], left: Array, right: Array) -> Pairs:
    """Return the state after a step.

    Args:
        step: what is done.
        states: that go in.
        left: variances of what goes in at the first of the pairs, broadcast against the state.
        right: at the second.

    """
    state = states[0]
    if step.kind == "affine":
        held = _averaged(state, step.window) if step.window else state
        return _affine(held, step.law)
    if step.kind == "activation":
        assert step.activation is not None
        values, slopes = step.activation.averages(left, right, state.covariance)
        return Pairs(values, state.tangent * slopes, state.sides, state.full)
    if step.kind == "flatten":
        return _flattened(state)
    if step.kind == "pool":
        return _pooled(state, step.window)
    if step.kind == "add":
        other = states[1]
        return Pairs(
            state.covariance + other.covariance,
            state.tangent + other.tangent,
            state.sides,
            state.full,
        )
    if step.kind in ("scale", "channels"):
        square = step.factor**2
        scaled = Pairs(state.covariance * square, state.tangent * square, state.sides, state.full)
        return scaled if step.law is None else _affine(scaled, step.law)
    scale = 1 / np.sqrt((left + step.factor) * (right + step.factor))
    return _affine(
        Pairs(state.covariance * scale, state.tangent * scale, state.sides, state.full), step.law
    )


def _affine(state: Pairs, law: Law | None) -> Pairs:
    """Multiply by fresh weights and add fresh biases."""
    assert law is not None
    tangent = state.tangent * (law.gain * law.variance)
    if law.trained:
        tangent += law.gain * state.covariance
    if law.bias_trained:
        tangent += law.bias
    covariance = state.covariance * (law.gain * law.variance)
    covariance += law.bias * law.bias_variance
    return Pairs(covariance, tangent, state.sides, state.full)


def _averaged(state: Pairs, window: tuple[tuple[int, ...], ...]) -> Pairs:
    """Average over the places that a convolution reads; outside there are zeros."""
    if not state.sides:
        raise ValueError("a convolution on what has no places")
    size, stride, padding = window
    axes = [state.covariance.ndim - state.places + i for i in range(state.places)]
    kernels, steps, pads = (pair * (2 if state.full else 1) for pair in (size, stride, padding))
    widths = [(0, 0)] * state.covariance.ndim
    for axis, pad in zip(axes, pads, strict=True):
        widths[axis] = (pad, pad)
    count = int(np.prod(size))
    found = []
    for held in (state.covariance, state.tangent):
        padded = np.pad(held, widths) if any(pads) else held
        ends = [(padded.shape[a] - k) // s for a, k, s in zip(axes, kernels, steps, strict=True)]
        total: Any = 0.0
        for offset in product(*(range(k) for k in size)):
            where = [slice(None)] * held.ndim
            for axis, o, s, e in zip(
                axes, offset * (2 if state.full else 1), steps, ends, strict=True
            ):
                where[axis] = slice(o, o + e * s + 1, s)
            total = total + padded[tuple(where)]
        found.append(total / count)
    return Pairs(found[0], found[1], state.sides, state.full)


def _flattened(state: Pairs) -> Pairs:
    """Average over places: units at all of them are read with weights of their own."""
    if not state.sides:  # copies, since a state may be changed in place by who alone reads it
        return Pairs(state.covariance.copy(), state.tangent.copy(), 0, False)
    found = []
    for held in (state.covariance, state.tangent):
        if state.full:
            pairs = held.shape[: held.ndim - state.places]
            count = int(np.prod(held.shape[held.ndim - state.sides :]))
            square = held.reshape(*pairs, count, count)
            found.append(np.einsum("...pp->...", square) / count)
        else:
            found.append(held.mean(tuple(range(held.ndim - state.sides, held.ndim))))
    return Pairs(found[0], found[1], 0, False)


def _pooled(state: Pairs, window: tuple[tuple[int, ...], ...]) -> Pairs:
    """Average units over places before they are read: all pairs of places in it count."""
    if not state.full:
        raise ValueError("pooling needs all pairs of places")
    axes = [state.covariance.ndim - state.places + i for i in range(state.places)]
    if not window:
        means = [held.mean(tuple(axes)) for held in (state.covariance, state.tangent)]
        return Pairs(means[0], means[1], 0, False)
    size, stride, _ = (pair * 2 for pair in window)
    found = []
    for held in (state.covariance, state.tangent):
        for axis, k, s in zip(axes, size, stride, strict=True):
            cut = np.lib.stride_tricks.sliding_window_view(held, k, axis)
            held = cut[(slice(None),) * axis + (slice(None, None, s),)].mean(-1)
        found.append(held)
    return Pairs(found[0], found[1], state.sides, True)
