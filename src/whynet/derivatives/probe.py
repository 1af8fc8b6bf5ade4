"""A few rows of the data on which ways of differentiating are held against differences.

All references are differences of float64 values; the loss itself is the last judge.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from whynet.core.seeds import seed_from
from whynet.derivatives.differences import (
    GRADIENT_SLOPE,
    VALUE_CURVATURE,
    VALUE_SLOPE,
    central_difference,
    precision,
    second_difference,
    step_length,
)
from whynet.derivatives.flat import Vector, dot, norm
from whynet.derivatives.objective import Objective, held_fixed, widen
from whynet.derivatives.ways import BatchProduct, loss_gradient

ROWS = 16
GROUPS = 8
PAIRED = 4
SHRINK = (1.0, 1 / 16, 1 / 256)
"""Factors on the step of each attempt: a difference across a kink is taken again, shorter."""


@dataclass
class Probe:
    """A small batch, its loss and gradient, and references for directions.

    Attributes:
        objective: what is differentiated.
        wide: the same in float64.
        inputs: the rows.
        targets: their targets.
        value: summed loss of the rows, by the float64 copy.
        gradient: gradient of that sum, one tensor per parameter, by the objective itself.
        seed: seed of the directions.
        epsilon: round-off of the float64 copy's outputs (a network may cast on its way).
        rounding: relative difference between the objective's loss and the float64 copy's.

    """

    objective: Objective
    wide: Objective
    inputs: Any
    targets: Any
    value: float
    gradient: Vector
    seed: int
    epsilon: float
    rounding: float = 0.0
    _references: dict[int, tuple[Vector, Vector, float]] = field(default_factory=dict)

    @property
    def point(self) -> Vector:
        """The parameters."""
        return tuple(self.objective.parameters.values())

    @property
    def size(self) -> int:
        """Number of scalar parameters."""
        return sum(p.numel() for p in self.point)

    @property
    def wide_point(self) -> Vector:
        """The parameters in float64."""
        return tuple(self.wide.parameters.values())

    @property
    def coarse(self) -> float:
        """Round-off of the objective's own precision, the coarsest parameter's."""
        return max(precision(p) for p in self.point)

    @property
    def scale(self) -> float:
        """Norm of the parameters, at least 1."""
        return max(1.0, norm(self.wide_point))

    @property
    def size_of_terms(self) -> float:
        """Size of what is summed up in the loss, which itself may cancel to nothing."""
        return abs(self.value) + self.scale * norm(self.gradient)

    def direction(self, *key: str | int) -> Vector:
        """Draw a direction of norm 1 in which every parameter tensor has equal weight."""
        generator = torch.Generator().manual_seed(seed_from("direction", self.seed, *key))
        fixed = held_fixed(self.objective)
        share = len(self.point) ** -0.5
        pieces = []
        for name, p in self.objective.parameters.items():
            draw = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device)
            if name in fixed:
                draw = draw.masked_fill(fixed[name], 0)
            length = float(draw.square().sum()) ** 0.5
            pieces.append(draw * (share / length) if length else draw)
        return tuple(pieces)

    def loss_at(self, parameters: Vector) -> float:
        """Summed loss of the rows in float64 at other parameters."""
        named = dict(zip(self.wide.parameters, parameters, strict=True))
        with torch.no_grad():
            return float(self.wide.loss(named, widen(self.inputs), widen(self.targets)))

    def gradient_at(self, parameters: Vector) -> Vector:
        """Gradient of that loss by reverse mode in float64."""
        inputs, targets = widen(self.inputs), widen(self.targets)
        return loss_gradient(self.wide, parameters, inputs, targets)[2]

    def reference(self, attempt: int) -> tuple[Vector, Vector, float]:
        """Direction v, `H v` by float64 differences of the gradient, and its own relative miss."""
        if attempt not in self._references:
            v = self.direction("hessian", attempt)
            step = SHRINK[attempt] * step_length(self.wide_point, v, self.epsilon, GRADIENT_SLOPE)
            near, far = (
                central_difference(self.gradient_at, self.wide_point, v, s)
                for s in (step, 2 * step)
            )
            self._references[attempt] = v, near, self.product_miss(far, near, attempt)
        return self._references[attempt]

    def product_miss(self, found: Vector, wanted: Vector, attempt: int = 0) -> float:
        """Largest relative miss of a product over the parameter tensors.

        Each tensor's miss is relative to its own norm, or to a tenth of the whole where that is
        more; round-off of the gradient over the attempt's step sets the floor below which
        everything counts as zero.

        """
        noise = norm(self.gradient) + abs(self.value) / self.scale
        rounding = 1e4 * self.epsilon ** (1 - GRADIENT_SLOPE) / SHRINK[attempt]
        floor = noise / self.scale * max(1e4 * self.coarse, rounding)
        least = max(0.1 * norm(wanted), floor)
        misses = [
            norm((f.double() - w,)) / max(norm((w,)), least, 1e-300)
            for f, w in zip(found, wanted, strict=True)
        ]
        return _largest(misses)

    def value_miss(self, product: Callable[[Vector], Vector], attempt: int) -> float:
        """Relative miss of `v^T H v` against the second difference of the loss itself.

        Kinks within the step change both this difference and that of the gradient over the same
        step; what the latter explains (four times its own gap) is no miss.

        """
        v = self.direction("loss", attempt)
        step = SHRINK[attempt] * step_length(self.wide_point, v, self.epsilon, VALUE_CURVATURE)
        wanted = second_difference(self.loss_at, self.wide_point, v, step)
        slope = central_difference(self.gradient_at, self.wide_point, v, step)
        image = product(self.narrow(v))
        found = dot(v, image)
        typical = norm(image) / math.sqrt(self.size)
        noise = 1e4 * self.epsilon * self.size_of_terms / step**2
        noise += 1e2 * self.coarse * (norm(self.gradient) + abs(self.value)) / self.scale**2
        gap = abs(found - wanted) - 4 * abs(found - dot(v, slope))
        return _largest([max(0.0, gap) / max(abs(wanted), typical, noise, 1e-300)])

    def asymmetry(self, product: Callable[[Vector], Vector]) -> float:
        """Root mean square of `u^T H v - v^T H u` over pairs, relative to a typical `u^T H v`.

        A gradient can be right at these parameters and yet be no derivative around them.

        """
        vectors = [self.direction("symmetry", i) for i in range(PAIRED)]
        images = [product(self.narrow(v)) for v in vectors]
        gaps = [
            dot(vectors[i], images[j]) - dot(vectors[j], images[i])
            for i in range(PAIRED)
            for j in range(i)
        ]
        noise = 1e2 * self.coarse * (norm(self.gradient) + abs(self.value) / self.scale)
        sizes = [norm(image) / math.sqrt(self.size) for image in images]
        typical = math.hypot(*sizes, noise / self.scale, 1e-150) / math.sqrt(PAIRED)
        return _largest([math.hypot(*gaps) / math.sqrt(len(gaps)) / typical])

    def gradient_miss(self, attempt: int) -> float:
        """Largest relative miss of the gradient against differences of the loss, over groups."""
        count = min(GROUPS, len(self.point))
        direction = self.direction("gradient", attempt)
        misses = []
        total = norm(self.gradient) / math.sqrt(self.size)
        for group in range(count):
            v = tuple(
                piece if i % count == group else torch.zeros_like(piece)
                for i, piece in enumerate(direction)
            )
            length = norm(v)
            if not length:
                continue
            step = SHRINK[attempt] * step_length(self.wide_point, v, self.epsilon, VALUE_SLOPE)

            def value(parameters: Vector) -> Vector:
                return (torch.tensor(self.loss_at(parameters), dtype=torch.float64),)

            wanted = float(central_difference(value, self.wide_point, v, step)[0])
            found = dot(self.gradient, v)
            mine = self.gradient[group::count]
            typical = norm(mine) / math.sqrt(sum(p.numel() for p in mine))
            noise = 1e3 * self.epsilon * self.size_of_terms / step
            noise += length * max(
                1e4 * self.coarse * total, 1e2 * self.coarse * abs(self.value) / self.scale
            )
            misses.append(abs(found - wanted) / max(abs(wanted), length * typical, noise, 1e-300))
        return _largest(misses)

    def agrees_at_once(self, product: BatchProduct) -> bool:
        """Whether two vectors taken at once give what they give one by one, without a fallback."""
        if product.many is None:
            return False
        vectors = [self.narrow(self.direction("vmap", i)) for i in range(2)]
        stacked = tuple(torch.stack(pair) for pair in zip(*vectors, strict=True))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*performance drop")
                together = product.many(stacked)
        except Exception:  # noqa: BLE001 - operations without a batching rule raise anything
            return False
        for i, vector in enumerate(vectors):
            alone = product.one(vector)
            apart = tuple(t[i].double() - a.double() for t, a in zip(together, alone, strict=True))
            if not norm(apart) <= 1e-3 * norm(alone) + 1e-12:
                return False
        return True

    def narrow(self, direction: Vector) -> Vector:
        """Cast a float64 direction to the parameters' dtypes."""
        return tuple(v.to(p.dtype) for v, p in zip(direction, self.point, strict=True))


def find_epsilon(wide: Objective, inputs: Any) -> tuple[float, Tensor]:
    """Round-off of the float64 copy's outputs, and those outputs."""
    with torch.no_grad():
        outputs = wide.forward(wide.parameters, widen(inputs))
    return precision(outputs), outputs


def _largest(misses: list[float]) -> float:
    """Largest of some misses; infinity where one is not a number."""
    return max((m if m == m else float("inf") for m in misses), default=0.0)
