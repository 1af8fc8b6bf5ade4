"""Covariance of the outputs and tangent kernel of a network's architecture at infinite width.

Over draws of its weights a network whose hidden layers are wide has Gaussian outputs with a
covariance K, the same for each output and independent between them (Neal 1996; Lee et al. 2018,
arXiv:1711.00165; Matthews et al. 2018; with convolutions Novak et al. 2019, arXiv:1810.05148, and
Garriga-Alonso et al. 2019, arXiv:1808.05587), and the tangent kernel Θ (Jacot et al. 2018,
arXiv:1806.07572; any architecture: Yang 2020, arXiv:2006.14548). Both follow from the inputs, step
by step. Layers keep their own parametrization: where factors `1/√fan` stand in the forward pass,
Θ has a limit; where they stand in the weights (`nn.Linear`), Θ grows with the widths, and its
leading order at the widths that the network has is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from whynet.concepts.kernels.theory.infinite_width import WideKernels
from whynet.concepts.kernels.theory.wide_reader import Step
from whynet.concepts.kernels.theory.wide_states import Pairs, after, at_inputs
from whynet.concepts.kernels.theory.wide_steps import wide_steps
from whynet.core.errors import InputError
from whynet.numerics.rectified_entries import rectified_then_dense

Array = NDArray[Any]

TILE = 2**17
"""Numbers of a tile of pairs that is taken through all steps at once."""


@dataclass(frozen=True)
class InfiniteNetwork:
    """An architecture at infinite width.

    Attributes:
        steps: what it does.
        notes: on what was measured of it.

    """

    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def pools(self) -> bool:
        """Whether pairs of different places are needed."""
        return any(step.kind == "pool" for step in self.steps)

    def kernels(self, first: Any, second: Any = None, *, dtype: Any = np.float64) -> WideKernels:
        """Return covariance and tangent kernel, `[n, m]`.

        Args:
            first: n inputs `[n, features]` or `[n, channels, ...]`.
            second: m inputs; the first ones where None.
            dtype: of the result, float64 or float32; all is computed in float64.

        Raises:
            InputError: the inputs do not go with the network.

        Cost: a few elementwise operations a step and pair; with pooling, a pair of inputs and a
        pair of places. One half of a symmetric kernel is computed. Memory: the result, a tile, and
        the variances of all steps.

        """
        one, symmetric = _inputs(first, "first"), second is None
        other = one if symmetric else _inputs(second, "second")
        if one.shape[1:] != other.shape[1:]:
            raise InputError("second", f"rows of shape {other.shape[1:]}", f"{one.shape[1:]}")
        variances, tangent = self._own_values(one)
        across = variances if symmetric else self._own_values(other)[0]
        found = np.empty((2, len(one), len(other)), dtype=dtype)
        for rows, columns in _tiles(one, other, self.pools, symmetric=symmetric):
            state = self._run(
                at_inputs(one[rows], other[columns], full=self.pools, own=False),
                [v[rows] for v in variances],
                [v[columns] for v in across],
            )
            for place, part in enumerate((state.covariance, state.tangent)):
                found[place, rows, columns] = part
                if symmetric:
                    found[place, columns, rows] = part.T
        if symmetric:  # where the cosine is 1 by construction, not up to round-off
            np.fill_diagonal(found[0], variances[-1])
            np.fill_diagonal(found[1], tangent)
        return WideKernels(found[0], found[1])

    def error(self, inputs: Any) -> float:
        """Return the largest bound on what a series of an activation leaves out at these inputs.

        It is of a single average, value or slope, before the weights multiply it; 0 where all
        activations have closed forms.
        """
        variances, _ = self._own_values(_inputs(inputs, "inputs"))
        bounds = [0.0]
        for step in self.steps:
            if step.activation is not None and step.activation.series is not None:
                bounds += step.activation.series.error(variances[step.inputs[0]])
        return max(bounds)

    def _own_values(self, inputs: Array) -> tuple[list[Array], Array]:
        """Return variances after each step, `[n, places...]`, and the tangent kernel's diagonal."""
        places = int(np.prod(inputs.shape[2:])) ** (2 if self.pools else 1)
        size = max(1, TILE // places)
        blocks = [self._own(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        variances = [np.concatenate(parts) for parts in zip(*(b[0] for b in blocks), strict=True)]
        return variances, np.concatenate([block[1] for block in blocks])

    def _own(self, inputs: Array) -> tuple[list[Array], Array]:
        states: list[Pairs] = []
        found: list[Array] = []
        for step in self.steps:
            if step.kind == "input":
                state = at_inputs(inputs, inputs, full=self.pools, own=True)
            else:
                held = states[step.inputs[0]]
                left, right = _beside(found[step.inputs[0]], held, own=True)
                state = _after(step, [states[i] for i in step.inputs], left, right)
            states.append(state)
            found.append(_diagonal(state))
        return found, states[-1].tangent

    def _run(self, start: Pairs, left: list[Array], right: list[Array]) -> Pairs:
        states: list[Pairs | None] = []
        for number, step in enumerate(self.steps):
            if step.kind == "input":
                states.append(start)
                continue
            before = step.inputs[0]
            if number - 1 in self._joined:  # this dense layer was taken with the units before it
                states.append(states[-1])
                continue
            held = states[before]
            assert held is not None
            if number in self._joined:
                states.append(
                    _both(step, self.steps[number + 1], held, left[before], right[before])
                )
                continue
            one = _beside(left[step.inputs[0]], held, own=False)[0]
            other = _beside(right[step.inputs[0]], held, own=False)[1]
            given = [state for i in step.inputs if (state := states[i]) is not None]
            states.append(_after(step, given, one, other))
            for i in step.inputs:
                if self._last[i] == number:
                    states[i] = None  # its memory is of no more use
        assert states[-1] is not None
        return states[-1]

    @cached_property
    def _joined(self) -> frozenset[int]:
        """Return rectified steps that only the dense step right after them reads."""
        uses = [i for step in self.steps for i in step.inputs]
        return frozenset(
            number
            for number, (step, following) in enumerate(pairwise(self.steps))
            if step.activation is not None
            and step.activation.slope is not None
            and following.kind == "affine"
            and following.inputs == (number,)
            and not following.window
            and uses.count(number) == uses.count(step.inputs[0]) == 1
        )

    @cached_property
    def _last(self) -> dict[int, int]:
        """Return which step uses a state last."""
        return {i: number for number, step in enumerate(self.steps) for i in step.inputs}


def infinite_width(
    module: nn.Module, *, variances: Mapping[str, float] | None = None
) -> InfiniteNetwork:
    """Read the limit of infinite width from a network at its initialization.

    Known are dense layers, convolutions (without groups and dilation), flattening, average pooling,
    sums of branches that end in layers of their own, layer and RMS normalization over features,
    batch normalization in evaluation mode with the statistics that it is made with, and the
    activations of `whynet.concepts.kernels.theory.wide_activations`: closed forms of (leaky)
    rectified units, erf, GELU, sine, cosine; a series with a stated error of tanh, sigmoid, SiLU,
    softplus, GELU by tanh. Weights are drawn independently around zero; the variance of each
    tensor is recognized (1, or LeCun's, He's or PyTorch's over the fan-in, within four standard
    errors; where several of them are, the likeliest, those that other tensors have before others,
    which a note says), or else measured, which a note says too.

    Args:
        module: the network; it is not changed.
        variances: of the entries of parameters by name, where they are not to be read.

    Raises:
        InputError: something in it has no known limit; the sentence names it.

    """
    return InfiniteNetwork(*wide_steps(module, variances))


def _inputs(value: Any, argument: str) -> Array:
    found = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if found.ndim < 2 or not len(found) or not np.issubdtype(found.dtype, np.number):
        shape = tuple(found.shape)
        raise InputError(argument, f"an array of shape {shape}", "rows of numbers, at least one")
    if not np.isfinite(found).all():
        raise InputError(argument, "inputs that are not finite", "finite ones")
    return found.astype(np.float64)


def _after(step: Step, states: list[Pairs], left: Array, right: Array) -> Pairs:
    state = states[0]
    spatial = bool(step.window) or (step.kind == "pool")
    if spatial and (state.sides == 0 or (step.window and len(step.window[0]) != state.sides)):
        raise InputError(
            "first", f"inputs with {state.sides} spatial sides at {step.name}", "the network's own"
        )
    if step.kind == "affine" and not step.window and state.sides:
        raise InputError(
            "model", f"{step.name} on what has places", "flattening or pooling before it"
        )
    return after(step, states, left, right)


def _both(step: Step, dense: Step, held: Pairs, left: Array, right: Array) -> Pairs:
    """Take a rectified step and the dense one after it at once, in place where nothing is lost."""
    law, activation = dense.law, step.activation
    assert law is not None
    assert activation is not None
    assert activation.slope is not None
    if held.sides:
        one, other = _beside(left, held, own=False)[0], _beside(right, held, own=False)[1]
        return _after(dense, [_after(step, [held], one, other)], one, other)
    rectified_then_dense(
        held.covariance,
        held.tangent,
        left,
        right,
        activation.slope,
        law.gain * law.variance,
        law.gain if law.trained else 0.0,
        law.bias * law.bias_variance,
        law.bias if law.bias_trained else 0.0,
    )
    return held


def _diagonal(state: Pairs) -> Array:
    """Return the variances, `[n, places...]`, of the pairs of inputs with themselves."""
    if not state.full:
        return state.covariance
    n, *sizes = state.covariance.shape
    half = sizes[: state.sides]
    count = int(np.prod(half))
    square = state.covariance.reshape(n, count, count)
    return np.array(np.einsum("npp->np", square).reshape(n, *half))


def _beside(variances: Array, state: Pairs, *, own: bool) -> tuple[Array, Array]:
    """Return variances `[n, places...]` shaped against a state, as its left and its right side."""
    n, *places = variances.shape
    empty = (1,) * len(places)
    before, behind = ((*places, *empty), (*empty, *places)) if state.full else (tuple(places),) * 2
    if own:
        return variances.reshape(n, *before), variances.reshape(n, *behind)
    return variances.reshape(n, 1, *before), variances.reshape(1, n, *behind)


def _tiles(
    one: Array, other: Array, full: bool, *, symmetric: bool
) -> Iterator[tuple[slice, slice]]:
    """Cut pairs into tiles; of a symmetric kernel those on and above the diagonal."""
    places = int(np.prod(one.shape[2:])) ** (2 if full else 1)
    n, m = len(one), len(other)
    wide = max(1, min(m, TILE // places))
    tall = max(1, min(n, TILE // (places * wide)))
    for top in range(0, n, tall):
        for start in range(top if symmetric else 0, m, wide):
            yield slice(top, min(n, top + tall)), slice(start, min(m, start + wide))
