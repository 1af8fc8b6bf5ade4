"""A stabilized Runge-Kutta step, for flows whose rates lie orders of magnitude apart.

The method RKC of second order of Sommeijer, Shampine and Verwer (1998) with a fixed number of
stages: its stability interval on the negative real axis, where the rates of a gradient flow lie
near a minimum, grows with the square of the stages, 93 for 12 against 3.3 for the 6 of Dormand
and Prince. What it costs is accuracy: use it where stability limits the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from whynet.training.runge_kutta import Field, Flow, Method, Tolerance, excess

STAGES: Final = 12
DAMPING: Final = 2 / 13


@dataclass(frozen=True)
class Coefficients:
    """Of the stages 0, 1, …: weights of the recursion, and nodes; the stability interval."""

    before: tuple[float, ...]
    earlier: tuple[float, ...]
    slope: tuple[float, ...]
    first_slope: tuple[float, ...]
    nodes: tuple[float, ...]
    reach: float


def coefficients(stages: int) -> Coefficients:
    """Return the coefficients of the method from Chebyshev polynomials and their derivatives.

    >>> round(coefficients(12).reach, 1)
    93.4
    """
    at = 1 + DAMPING / stages**2
    value, first, second = [1.0, at], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, stages + 1):
        value.append(2 * at * value[-1] - value[-2])
        first.append(2 * value[-2] + 2 * at * first[-1] - first[-2])
        second.append(4 * first[-2] + 2 * at * second[-1] - second[-2])
    scale = first[stages] / second[stages]
    b = [second[j] / first[j] ** 2 if j >= 2 else 0.0 for j in range(stages + 1)]
    b[0] = b[1] = b[2]
    nodes = [scale * second[j] / first[j] if j >= 2 else 0.0 for j in range(stages + 1)]
    nodes[1] = nodes[2] / first[2]
    later = range(2, stages + 1)
    slope = [2 * b[j] * scale / b[j - 1] for j in later]
    return Coefficients(
        (0.0, 0.0, *(2 * b[j] * at / b[j - 1] for j in later)),
        (0.0, 0.0, *(-b[j] / b[j - 2] for j in later)),
        (0.0, b[1] * scale, *slope),
        (
            0.0,
            0.0,
            *(-(1 - b[j - 1] * value[j - 1]) * s for j, s in zip(later, slope, strict=True)),
        ),
        tuple(nodes),
        (at + 1) / scale,
    )


TABLE: Final = coefficients(STAGES)


def _attempt(
    field: Field, flow: Flow, step: Tensor, tolerance: Tolerance
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return state, velocity and loss after a step, and its error over the tolerance."""
    length = step.to(flow.state.dtype)[:, None]
    begin, pull = flow.state, length * flow.velocity
    earlier, state = begin, begin + TABLE.slope[1] * pull
    for j in range(2, STAGES + 1):
        slope, _ = field(flow.clock + TABLE.nodes[j - 1] * step, state)
        # Differences from the start: they lose fewer digits than the weights 1 - μ - ν.
        moved = TABLE.before[j] * (state - begin) + TABLE.earlier[j] * (earlier - begin)
        moved = moved + TABLE.slope[j] * length * slope + TABLE.first_slope[j] * pull
        earlier, state = state, begin + moved
    velocity, loss = field(flow.clock + step, state)
    error = 0.8 * (begin - state) + 0.4 * (pull + length * velocity)
    return state, velocity, loss, excess(error, begin, state, tolerance)


CHEBYSHEV: Final = Method(_attempt, 1 / 3)
