"""Diagonal linear networks `β = u^L − v^L`: sparse regression data, and their gradient flow.

Off the support entries move a thousand times slower than on it, so that explicit integrators
crawl. The flow is integrated by RODAS3 (Sandu et al. 1997, Atmospheric Environment 31), a
linearly implicit method of order 3, with the exact Hessian; each member has its own step size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.claim import Cell

Array = NDArray[Any]

GAMMA: Final = 0.5
STAGES: Final = ((), (), (2.0, 0.0), (2.0, 0.0, 1.0))
COUPLING: Final = ((), (4.0,), (1.0, -1.0), (1.0, -1.0, -8 / 3))
LIMIT: Final = 20_000
"""Most steps tried by a member."""


@dataclass(frozen=True)
class SparseRegressions:
    """Problems of equal shape, one a cell.

    Attributes:
        inputs: `[cells, rows, features]`, Gaussian over the root of the rows.
        signal: `[cells, features]`, a few entries of ±1.
        targets: `[cells, rows]`, `X` times the signal, without noise.

    """

    inputs: Array
    signal: Array
    targets: Array


def sparse_regressions(cells: Sequence[Cell], *, shared: tuple[str, ...]) -> SparseRegressions:
    """Draw the problems of some cells with equal `rows`, `features` and `sparsity`.

    Args:
        cells: of one group.
        shared: parameters that the draws do not depend on.

    """
    inputs, signals = [], []
    for cell in cells:
        rows, features = int(cell.number("rows")), int(cell.number("features"))
        sparsity = int(cell.number("sparsity"))
        generator = np.random.default_rng(cell.seed_for("data", shared=shared))
        inputs.append(generator.standard_normal((rows, features)) / np.sqrt(rows))
        signal = np.zeros(features)
        chosen = generator.choice(features, min(sparsity, features), replace=False)
        signal[chosen] = generator.choice([-1.0, 1.0], len(chosen))
        signals.append(signal)
    x, signal = np.stack(inputs), np.stack(signals)
    return SparseRegressions(x, signal, np.einsum("bnd,bd->bn", x, signal))


@dataclass(frozen=True)
class Flowed:
    """Where the flows of some networks ended.

    Attributes:
        weights: `β`, `[members, features]`.
        residuals: `‖Xβ − y‖/‖y‖`, `[members]`.
        times: `[members]`.
        steps: of each member.

    """

    weights: Array
    residuals: Array
    times: Array
    steps: Array


def flowed(
    inputs: Array,
    targets: Array,
    start: Array,
    speed: Array,
    depth: int,
    *,
    residual: float = 1e-5,
    tolerance: float = 1e-4,
    until: float = 1e9,
) -> Flowed:
    """Follow `u' = −c ∂L/∂u` and `v' = −c ∂L/∂v` with `L = ½‖X(u^L − v^L) − y‖²`.

    Args:
        inputs: `X`, `[members, rows, features]`.
        targets: `y`, `[members, rows]`.
        start: of `u` and of `v` alike, `[members, features]`, positive.
        speed: `c`, `[members, features]`; gradient flow has ones.
        depth: `L`.
        residual: a member stops where `‖Xβ − y‖/‖y‖` is at most this.
        tolerance: error of a step, relative to each entry.
        until: latest time.

    """
    x, y, first, pace = (
        torch.as_tensor(np.asarray(a, dtype=np.float64)) for a in (inputs, targets, start, speed)
    )
    run = _Flow(x, y, torch.cat([pace, pace], 1), depth)
    state = torch.cat([first, first], 1)
    if until <= 0:
        raise ValueError("a flow ends after time 0")
    time, steps = torch.zeros(len(x), dtype=x.dtype), torch.zeros(len(x), dtype=torch.int64)
    step = torch.full_like(time, 1e-4)
    left = torch.arange(len(x))
    for _ in range(LIMIT):
        misfit = run.misfit(state[left]).norm(dim=1) / run.y.norm(dim=1)
        moving = (misfit > residual) & (time[left] < until)
        if not bool(moving.all()):
            left, run = left[moving], run.select(moving)
        if len(left) == 0:
            break
        pace_now = torch.minimum(step[left], until - time[left])
        new, error = run.step(state[left], pace_now, tolerance)
        good = error <= 1
        state[left] = torch.where(good[:, None], new, state[left])
        time[left] += torch.where(good, pace_now, 0.0)
        steps[left] += 1
        factor = (0.9 * error.clamp(min=1e-9) ** (-1 / 3)).clamp(0.2, 5.0)
        step[left] = pace_now * factor.nan_to_num(nan=0.2)
    whole = _Flow(x, y, torch.cat([pace, pace], 1), depth)
    misfit = whole.misfit(state).norm(dim=1) / y.norm(dim=1)
    found = (whole.weights(state), misfit, time, steps)
    return Flowed(*(np.asarray(part.numpy()) for part in found))


@dataclass(frozen=True)
class _Flow:
    """The field of some members, whose state is `[members, 2 · features]`: `u`, then `v`."""

    x: Tensor
    y: Tensor
    speed: Tensor
    depth: int

    def select(self, chosen: Tensor) -> _Flow:
        return _Flow(self.x[chosen], self.y[chosen], self.speed[chosen], self.depth)

    def weights(self, state: Tensor) -> Tensor:
        u, v = state.chunk(2, 1)
        return u**self.depth - v**self.depth

    def misfit(self, state: Tensor) -> Tensor:
        return torch.einsum("bnd,bd->bn", self.x, self.weights(state)) - self.y

    def pull(self, state: Tensor) -> Tensor:
        """Return `Xᵀ(Xβ − y)` for `u`, and its negative for `v`."""
        half = torch.einsum("bnd,bn->bd", self.x, self.misfit(state))
        return torch.cat([half, -half], 1)

    def field(self, state: Tensor) -> Tensor:
        return -self.speed * self.depth * state ** (self.depth - 1) * self.pull(state)

    def step(self, state: Tensor, step: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Return the state after one step, and its error over the tolerance."""
        order = self.depth
        bend = order * (order - 1) * state ** (order - 2) * self.pull(state)
        diagonal = 1 / (self.speed * step[:, None] * GAMMA) + bend
        stable = (diagonal > 0).all(1)
        slope = order * state ** (order - 1)
        jacobian = torch.cat([self.x, -self.x], 2) * slope[:, None, :]
        scaled = jacobian / diagonal[:, None, :]
        eye = torch.eye(self.x.shape[1], dtype=self.x.dtype)
        core = torch.linalg.cholesky_ex(eye + scaled @ jacobian.mT)[0]

        def solved(right: Tensor) -> Tensor:
            right = right / self.speed
            inner = torch.cholesky_solve(torch.einsum("bnd,bd->bn", scaled, right)[..., None], core)
            return right / diagonal - torch.einsum("bnd,bn->bd", scaled, inner[..., 0])

        moves: list[Tensor] = []
        field = self.field(state)
        for place, parts in zip(STAGES, COUPLING, strict=True):
            if place:
                inside = state + sum(a * k for a, k in zip(place, moves, strict=True))
                field = self.field(inside)
            pull = sum((c * k for c, k in zip(parts, moves, strict=True)), torch.zeros_like(state))
            moves.append(solved(field + pull / step[:, None]))
        new = state + 2 * moves[0] + moves[2] + moves[3]
        size = torch.maximum(state.abs(), new.abs())
        error = (moves[3] / (tolerance * size)).square().mean(1).sqrt()
        sound = stable & torch.isfinite(new).all(1) & (new > 0).all(1)
        return new, torch.where(sound, error, torch.inf)
