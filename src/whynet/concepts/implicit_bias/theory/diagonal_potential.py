"""Where gradient flow of a diagonal linear network ends: the minimizer of an explicit potential.

The network is `β = u^L − v^L`, entry by entry, from `u = v = α`, with loss `½‖Xβ − y‖²`. Along the
flow `β = α^L h(z)` with `z` in the row space of `X`, whence `β` at the end minimizes the potential
whose gradient is the inverse of `h` among all solutions of `Xβ = y`. For `L = 2` this is the
hyperbolic entropy: Woodworth et al. 2020 (arXiv:2002.09277), theorems 1 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whynet.core.errors import InputError

Array = NDArray[Any]

RESIDUAL: Final = 1e-10
"""Relative residual of `Xβ = y` at which Newton's method has arrived."""

ITERATIONS: Final = 100
HALVINGS: Final = 60


def link(depth: int, position: ArrayLike) -> Array:
    """Return `h(z)`: what an entry of `β` is, over `α^L`, where the flow has moved it by `z`.

    `2 sinh z` for two layers; `(1 − z)^(−L/(L−2)) − (1 + z)^(−L/(L−2))` with `|z| < 1` for more.
    """
    z = np.asarray(position, dtype=np.float64)
    if depth == 2:
        return np.asarray(2 * np.sinh(z))
    power = -depth / (depth - 2)
    return np.asarray((1 - z) ** power - (1 + z) ** power)


def link_slope(depth: int, position: ArrayLike) -> Array:
    """Return the derivative of `link`."""
    z = np.asarray(position, dtype=np.float64)
    if depth == 2:
        return np.asarray(2 * np.cosh(z))
    power = depth / (depth - 2)
    return np.asarray(power * ((1 - z) ** (-power - 1) + (1 + z) ** (-power - 1)))


def link_integral(depth: int, position: ArrayLike) -> Array:
    """Return the integral of `link` from 0; infinite outside of its domain."""
    z = np.asarray(position, dtype=np.float64)
    if depth == 2:
        with np.errstate(over="ignore"):
            return np.asarray(2 * (np.cosh(z) - 1))
    power = 2 / (depth - 2)
    inside = np.abs(z) < 1
    safe = np.where(inside, z, 0.0)
    sums = ((1 - safe) ** -power + (1 + safe) ** -power - 2) / power
    return np.where(inside, sums, np.inf)


def two_layer_potential(value: ArrayLike) -> Array:
    """Return `q(z) = 2 − √(4 + z²) + z arcsinh(z/2)`, the potential of two layers over `α²`."""
    z = np.asarray(value, dtype=np.float64)
    return np.asarray(2 - np.sqrt(4 + z**2) + z * np.arcsinh(z / 2))


def flow_limit(inputs: ArrayLike, targets: ArrayLike, start: ArrayLike, depth: int) -> Array:
    """Return the end of the gradient flow from `u = v = α`.

    Solves the dual problem `min_ν Σ Ψ((Xᵀν)_i) − ν·y` with `Ψ' = α^L h` by damped Newton; many
    problems of one shape at once.

    Args:
        inputs: `X`, `[..., rows, features]`, of full row rank.
        targets: `y`, `[..., rows]`, not zero.
        start: `α > 0`, a number for each problem `[...]`, or for each of its features
            `[..., features]`.
        depth: `L`, at least 2.

    Returns:
        `β`, `[..., features]`.

    Raises:
        InputError: the equations could not be met to `RESIDUAL`.

    """
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    outer, features = x.shape[:-2], x.shape[-1]
    scale = np.asarray(start, dtype=np.float64)
    if scale.shape != (*outer, features):
        scale = np.broadcast_to(scale, outer)[..., None] * np.ones(features)
    problem = _Dual(
        x.reshape(-1, *x.shape[-2:]), y.reshape(-1, y.shape[-1]), scale.reshape(-1, features), depth
    )
    dual = problem.solve()
    return problem.primal(dual).reshape(*outer, features)


@dataclass(frozen=True)
class _Dual:
    """Dual problems `[problems]` of one shape; its unknown is `[problems, rows]`."""

    x: Array
    y: Array
    start: Array
    depth: int

    @property
    def pace(self) -> Array:
        """How far the flow moves an entry's `z`, over the fastest entry."""
        relative = self.start / self.start.max(1, keepdims=True)
        return np.asarray(relative ** (self.depth - 2))

    def position(self, dual: Array) -> Array:
        return np.asarray(self.pace * np.einsum("bnd,bn->bd", self.x, dual))

    def primal(self, dual: Array) -> Array:
        return np.asarray(self.start**self.depth * link(self.depth, self.position(dual)))

    def value(self, dual: Array) -> Array:
        parts = self.start**self.depth / self.pace
        whole = (parts * link_integral(self.depth, self.position(dual))).sum(1)
        return np.asarray(whole - (dual * self.y).sum(1))

    def gradient(self, dual: Array) -> Array:
        return np.asarray(np.einsum("bnd,bd->bn", self.x, self.primal(dual)) - self.y)

    def direction(self, dual: Array, gradient: Array) -> Array:
        """Return Newton's step, shortened so that no `z` moves by more than one or leaves."""
        z = self.position(dual)
        weights = self.start**self.depth * self.pace * link_slope(self.depth, z)
        matrix = np.einsum("bnd,bd,bmd->bnm", self.x, weights, self.x)
        step = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
        room = np.full_like(z, 2.0) if self.depth == 2 else 0.95 * (1 - np.abs(z))
        move = np.abs(self.position(step))
        ratio = (move / room).max(1)
        return np.asarray(step / np.maximum(ratio, 1.0)[:, None])

    def select(self, chosen: Array) -> _Dual:
        return _Dual(self.x[chosen], self.y[chosen], self.start[chosen], self.depth)

    def solve(self) -> Array:
        dual, size = np.zeros_like(self.y), np.linalg.norm(self.y, axis=1)
        left = np.arange(len(self.y))
        for _ in range(ITERATIONS):
            gradient = self.select(left).gradient(dual[left])
            far = np.linalg.norm(gradient, axis=1) > RESIDUAL * size[left]
            left, gradient = left[far], gradient[far]
            if len(left) == 0:
                return dual
            try:
                dual[left] = self.select(left).improved(dual[left], gradient)
            except np.linalg.LinAlgError:
                break
        found = f"{len(left)} problems whose equations could not be met"
        raise InputError("inputs", found, "full row rank, and a start that is not too small")

    def improved(self, dual: Array, gradient: Array) -> Array:
        """Return the dual after one damped step of each problem."""
        step = self.direction(dual, gradient)
        slope, value = (gradient * step).sum(1), self.value(dual)
        length = np.ones(len(dual))
        for _ in range(HALVINGS):
            tried = dual + length[:, None] * step
            new = (self.gradient(tried) * step).sum(1)
            lower = self.value(tried) <= value + 1e-13 * np.abs(value)
            good = (new <= 0) | (lower & (new <= -0.5 * slope))
            if good.all():
                break
            length = np.where(good, length, length / 2)
        return np.asarray(dual + length[:, None] * step)
