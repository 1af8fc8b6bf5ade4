"""Which way to Gauss-Newton products is right, held against float64 differences."""

from __future__ import annotations

import math
from itertools import product as pairs
from typing import Any

import torch

from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.differences import VALUE_SLOPE, central_difference, step_length
from whynet.derivatives.flat import Vector, dot, norm
from whynet.derivatives.gauss_newton import (
    JACOBIAN_WAYS,
    OUTPUT_WAYS,
    GaussNewtonPlan,
    JacobianWay,
    OutputWay,
    prepare_gauss_newton,
)
from whynet.derivatives.objective import widen
from whynet.derivatives.obstacles import obstacle
from whynet.derivatives.probe import SHRINK, Probe
from whynet.derivatives.signal_products import gauss_newton_signals
from whynet.derivatives.single_pass import single_pass
from whynet.derivatives.ways import BatchProduct, leaves_of, reverse
from whynet.models.fitting_rows import cut, row_count

AGREES = 1e-2
"""Relative miss below which a single pass may stand in for what was chosen."""


SAME = 1e5
"""Round-offs that two products without differences may be apart."""


def choose_gauss_newton(probe: Probe, threshold: float) -> GaussNewtonPlan | NotApplicable:
    """Return the first pair of ways whose product agrees with float64 differences.

    The reference is `J^T H J v` with J by differences of the outputs and H by differences of the
    loss's gradient in the outputs; `J^T` itself is checked by `<J^T H J v, v> = <H J v, J v>`.

    Args:
        probe: rows, network and directions.
        threshold: relative miss above which a pair is refused.

    """
    said: list[str] = []
    try:
        references = _references(probe)
    except Exception as error:  # noqa: BLE001 - the network is foreign code and may raise anything
        return NotApplicable(f"Gauss-Newton products cannot be checked: {obstacle(error)}.")
    known = probe.objective.derivatives is not None
    loss_ways = [way for way in OUTPUT_WAYS if known or way != "closed-form"]
    for way, loss_way in pairs(JACOBIAN_WAYS, loss_ways):
        try:
            product = prepare_gauss_newton(
                probe.objective, probe.wide, probe.inputs, probe.targets, way, loss_way
            )
            check = math.inf
            for vector, wanted, own in references:
                found = product.one(probe.narrow(vector))
                check = min(check, max(own, probe.product_miss(found, wanted)))
        except Exception as error:  # noqa: BLE001 - operations refuse with whatever type they like
            said.append(f"{way} with {loss_way} fails ({obstacle(error)})")
            continue
        if check <= threshold:
            return GaussNewtonPlan(
                way,
                loss_way,
                check,
                probe.agrees_at_once(product),
                _single_pass_agrees(probe, references),
                _signals_agree(probe, references[0][0], product, (way, loss_way)),
            )
        said.append(f"{way} with {loss_way} misses by {check:.1%}")
    return NotApplicable(f"No way to Gauss-Newton products is right here: {said[0]}.")


def _signals_agree(
    probe: Probe, vector: Vector, product: BatchProduct, ways: tuple[JacobianWay, OutputWay]
) -> bool:
    """Whether stored signals pay for some number of vectors, and give the same product."""
    if product.many is None:
        return False

    def never(inputs: Any, targets: Any) -> BatchProduct:
        raise ValueError("the probed rows use the parameters otherwise than the first of them")

    signals = gauss_newton_signals(probe.objective, ways[1], never)
    plan = signals.plan(probe.inputs)
    if plan is None:
        return False
    narrow = probe.narrow(vector)
    count, most = row_count(probe.inputs), signals.block_rows(plan)
    few = cut(probe.inputs, count, 0, most), cut(probe.targets, count, 0, most)
    try:
        if most < count:
            product = prepare_gauss_newton(probe.objective, probe.wide, *few, *ways)
        found = signals.product(plan, *few)
        miss = probe.product_miss(found.one(narrow), widen(product.one(narrow)))
        return miss <= SAME * probe.coarse and probe.agrees_at_once(found)
    except Exception:  # noqa: BLE001 - a network that cannot be watched raises whatever it likes
        return False


def _single_pass_agrees(probe: Probe, references: list[tuple[Vector, Vector, float]]) -> bool:
    """Whether a product in a single pass agrees with differences as well as with another way."""
    product = single_pass(probe.objective, gauss_newton=True)
    try:
        misses = [
            probe.product_miss(
                product(probe.inputs, probe.targets, probe.narrow(vector)), wanted, attempt
            )
            for attempt, (vector, wanted, _) in enumerate(references)
        ]
    except Exception:  # noqa: BLE001 - operations refuse forward mode with whatever type they like
        return False
    return min(misses) <= AGREES


def _references(probe: Probe) -> list[tuple[Vector, Vector, float]]:
    """Directions, their products by differences, and how far reverse mode is from the adjoint."""
    inputs, targets = widen(probe.inputs), widen(probe.targets)
    product = prepare_gauss_newton(
        probe.wide, probe.wide, inputs, targets, "finite-differences", "finite-differences"
    )
    return [
        (v, product.one(v), _adjoint_miss(probe, inputs, v, SHRINK[attempt], attempt))
        for attempt in range(len(SHRINK))
        for v in (probe.direction("gauss-newton", attempt),)
    ]


def _adjoint_miss(probe: Probe, inputs: Any, vector: Vector, shrink: float, attempt: int) -> float:
    """Relative miss of `<J^T u, v> = <u, J v>` with J v by differences, u random."""
    leaves = leaves_of(probe.wide)
    outputs = probe.wide.forward(leaves, inputs)
    generator = torch.Generator().manual_seed(seed_from("adjoint", probe.seed, attempt))
    draw = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    u = draw.to(outputs.device, outputs.dtype)
    pulled = reverse((outputs,), tuple(leaves.values()), (u,))
    names = tuple(leaves)

    def forward(values: Vector) -> Vector:
        with torch.no_grad():
            return (probe.wide.forward(dict(zip(names, values, strict=True)), inputs),)

    step = shrink * step_length(probe.wide_point, vector, probe.epsilon, VALUE_SLOPE)
    pushed = central_difference(forward, probe.wide_point, vector, step)
    found, wanted = dot(pulled, vector), dot((u,), pushed)
    typical = norm(pulled) / math.sqrt(probe.size)
    noise = 1e3 * probe.epsilon * norm((outputs.detach(),)) / max(step, 1e-300)
    return abs(found - wanted) / max(abs(wanted), typical, noise, 1e-300)
