"""The spectrum of a curvature matrix in rounds: what the instruments of this concept share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.curvature.effort import FULL, PROBES, TOP, Effort, effort_for
from whynet.core.estimate import Estimate
from whynet.core.measurement import Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.products import CurvatureOperator, gauss_newton, gradient, hessian
from whynet.derivatives.subject_objective import describe, objective_from, plan_for
from whynet.models.subject import Subject
from whynet.numerics import lanczos_quadrature as slq
from whynet.numerics.diagonal_moments import DiagonalMoments, diagonal_moments, together
from whynet.numerics.extreme_eigenvalues import ExtremeEigenvalues, extreme_eigenvalues
from whynet.numerics.long_products import long_norm, long_product
from whynet.numerics.moment_brackets import cumulative_bounds
from whynet.numerics.spectral_grid import density_grid
from whynet.numerics.trace_estimate import deflated_trace

ADAPTIVE_STEPS = 30
"""Most Lanczos steps for adaptive sharpness."""

CONVERGED = 1e-3
"""Residual over eigenvalue below which a Ritz vector is removed exactly from the bulk."""

DEPTHS = (0.1, 0.01, 0.001)
"""Depths below zero, over the largest eigenvalue, beyond which eigenvalues are counted."""

MOVED = 1e-5
"""Share of the largest eigenvalue by which others may be off: round-off, vectors taken out."""

BASIS_NUMBERS = 2**26
"""Numbers that the Lanczos bases of the probes that run together may hold."""


@dataclass(frozen=True)
class State:
    """An operator, its extreme eigenvalues and what its probes said so far.

    Attributes:
        slope: [P], the gradient.
        point: [P], the parameters.
        adaptive: adaptive sharpness, where it was asked for.
    """

    operator: CurvatureOperator
    seed: int
    key: str
    check: str
    said: tuple[str, ...]
    slope: Tensor
    point: Tensor
    extremes: ExtremeEigenvalues | None = None
    deflation: Tensor | None = None
    known: np.ndarray = field(default_factory=lambda: np.zeros(0))
    adaptive: Estimate | None = None
    samples: tuple[np.ndarray, ...] = ()
    moments: tuple[DiagonalMoments, ...] = ()
    quadratures: tuple[slq.Quadrature, ...] = ()
    effort: Effort = FULL

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, with what happened on the way (that memory ran out)."""
        return (*self.said, *self.operator.notes)

    @property
    def rounds(self) -> int:
        """Rounds that were run."""
        return len(self.samples)


def begin(
    subject: Subject, seed: int, which: Literal["hessian", "gauss-newton"]
) -> State | NotApplicable:
    """Find out how to differentiate and make the operator on the training loss."""
    plan = plan_for(subject)
    if isinstance(plan, NotApplicable):
        return plan
    effort = effort_for(subject)
    objective = objective_from(subject, "train", effort.rows)
    make = hessian if which == "hessian" else gauss_newton
    operator = make(objective, plan)
    if isinstance(operator, NotApplicable):
        return operator
    count = subject.examples("train").count
    notes = [f"The loss is averaged over {min(effort.rows, count):,} of {count:,} training rows."]
    notes += [effort.note] if effort.note else []
    notes.append("The network is in evaluation mode; weight decay is not part of the loss.")
    point = operator.layout.flatten(tuple(objective.parameters.values()))
    slope = gradient(objective)
    return State(operator, seed, which, describe(plan), tuple(notes), slope, point, effort=effort)


def with_extremes(state: State, converged_at: float = CONVERGED) -> State:
    """Run Lanczos for the ends of the spectrum, and keep the converged vectors for deflation.

    Args:
        state: before any round.
        converged_at: residual over eigenvalue below which a vector counts as converged.

    """
    if state.extremes is not None:
        return state
    layout = state.operator.layout
    extremes = extreme_eigenvalues(
        state.operator.matvec,
        state.operator.size,
        k=TOP,
        steps=min(state.effort.lanczos_steps, state.operator.size),
        seed=seed_from(state.key, state.seed, "start vector"),
        dtype=layout.dtype,
        device=layout.device,
    )
    # No more steps are taken: the basis, as large as all steps times the parameters, can go.
    bare = replace(extremes.krylov, basis=extremes.vectors.new_empty(state.operator.size, 0))
    extremes = replace(extremes, krylov=bare)
    converged = [
        index
        for index, (value, residual) in enumerate(
            zip(extremes.top, extremes.residuals, strict=True)
        )
        if residual <= converged_at * abs(value.value)
    ]
    basis = extremes.vectors[:, converged] if converged else None
    if basis is not None and basis.shape[1] >= state.operator.size:
        basis = None  # nothing would be left for the probes
    known = np.zeros(0)
    if basis is not None:
        parts = torch.split(basis, max(1, BASIS_NUMBERS // state.operator.size), dim=1)
        forms = [long_product(part.T, state.operator.matmat(part)).diagonal() for part in parts]
        known = np.asarray(torch.cat(forms).cpu())
    return replace(state, extremes=extremes, deflation=basis, known=known)


def with_adaptive(state: State) -> State:
    """Add the largest eigenvalue of D H D, D the magnitudes of the parameters, once.

    Unlike that of H it is the same for all networks that rescaling two layers of a ReLU network
    makes of one another (Kwon et al. 2021, arXiv:2102.11600).
    """
    if state.adaptive is not None:
        return state
    operator, scale = state.operator, state.point.abs()
    found = extreme_eigenvalues(
        lambda vector: scale * operator.matvec(scale * vector),
        operator.size,
        k=1,
        steps=min(ADAPTIVE_STEPS, state.effort.lanczos_steps, operator.size),
        seed=seed_from(state.key, state.seed, "adaptive"),
        dtype=operator.dtype,
        device=operator.device,
    )
    return replace(state, adaptive=found.top[0])


def with_trace(state: State) -> State:
    """Add one set of Hutchinson probes, by parameter, on what the top eigenvectors leave."""
    operator = state.operator
    found = diagonal_moments(
        operator.matmat,
        operator.size,
        probes=PROBES,
        seed=seed_from(state.key, state.seed, "trace", state.rounds),
        blocks=operator.layout.sizes,
        deflation=state.deflation,
        dtype=operator.dtype,
        device=operator.device,
    )
    samples = (*state.samples, found.block_samples.sum(1))
    return replace(state, samples=samples, moments=(*state.moments, found))


def with_quadrature(state: State) -> State:
    """Add one set of Lanczos quadratures, whose first moments are the trace samples.

    Bases are reorthogonalized: without that, float32 loses them within 16 steps on networks whose
    spectrum is mostly zero. Only as many probes run together as their bases leave room for.
    """
    layout, size = state.operator.layout, state.operator.size
    left = size - (0 if state.deflation is None else state.deflation.shape[1])
    steps = max(1, min(state.effort.quadrature_steps, left))
    together = max(1, min(PROBES, BASIS_NUMBERS // (steps * size)))
    found = slq.join(
        [
            slq.lanczos_quadrature(
                state.operator.matmat,
                size,
                steps=steps,
                probes=min(together, PROBES - first),
                seed=seed_from(state.key, state.seed, "quadrature", state.rounds, first),
                deflation=state.deflation,
                dtype=layout.dtype,
                device=layout.device,
            )
            for first in range(0, PROBES, together)
        ]
    )
    return replace(
        state,
        samples=(*state.samples, found.trace_samples()),
        quadratures=(*state.quadratures, found),
    )


def ends(state: State) -> dict[str, Quantity]:
    """Return largest and smallest eigenvalue, the top ones by rank, and the gradient's norm."""
    extremes = state.extremes
    assert extremes is not None
    top = list(extremes.top)
    return {
        "largest": Quantity.from_estimate(top[0]),
        "smallest": Quantity.from_estimate(extremes.smallest),
        "top": Quantity.stacked(top, "rank"),
        "gradient_norm": Quantity(
            float(long_norm(state.slope)), how="norm of the gradient of the loss, up to round-off"
        ),
    }


def trace(state: State) -> Estimate:
    """Return the trace: the deflated part exactly, the rest with Student's t over the probes."""
    return deflated_trace(float(state.known.sum()), np.concatenate(state.samples))


def layers(state: State) -> dict[str, Quantity]:
    """Return the traces of the blocks of each parameter, and the Frobenius norm of the whole."""
    joined = together(state.moments)
    return {
        "layer_trace": Quantity.stacked(joined.block_traces(), "parameter"),
        "frobenius_norm": Quantity.from_estimate(joined.frobenius_norm()),
    }


def gradient_share(state: State) -> dict[str, Quantity]:
    """Return the share of the gradient in the span of the top vectors, and that of a random one.

    All but the last of the vectors are taken: the gap to it bounds how far their span may be off
    (Davis and Kahan 1970).
    """
    extremes = state.extremes
    assert extremes is not None
    count = len(extremes.top) - 1
    whole = float(state.slope.double().norm())
    if count < 1 or whole == 0:
        return {}
    gap = extremes.top[count - 1].value - extremes.top[count].value
    residual = float(np.linalg.norm(extremes.residuals[:count]))
    reach = min(1.0, residual / gap) if gap > 0 else 1.0
    part = long_product(extremes.vectors[:, :count].T, state.slope)
    root = min(1.0, float(part.norm()) / whole)
    return {
        "gradient_share": Quantity(
            root**2,
            max(0.0, root - reach) ** 2,
            min(1.0, root + reach) ** 2,
            unit="share",
            kind="indicative",
            how=f"squared norm of the gradient in the span of the {count} largest eigenvectors "
            "over the whole; interval: residuals over the gap below",
            over="start vectors",
        ),
        "random_share": Quantity(
            count / state.operator.size, unit="share", how="of a random direction in their span"
        ),
    }


def density(state: State) -> tuple[dict[str, Quantity], np.ndarray]:
    """Return the smoothed spectral density with its band, and the grid's eigenvalues."""
    extremes = state.extremes
    assert extremes is not None
    joined = slq.join(state.quadratures)
    grid = density_grid(extremes.smallest.low, extremes.top[0].high, points=200)
    exact = slq.exact_density(state.known, joined.size, grid) if len(state.known) else 0.0
    band = slq.density_band(slq.spectral_density(joined.nodes, joined.weights, grid), exact)
    quantity = Quantity(
        band.value,
        band.low,
        band.high,
        dims=("place",),
        # Before training the band misses much of the true curve, since so few steps do not resolve
        # what lies near zero (benchmarks/spectral_density.py): it may not claim coverage.
        kind="indicative",
        level=band.level,
        unit="per unit of asinh",
        how=f"{band.how}, {state.effort.quadrature_steps} steps a probe; the bias of "
        "finite steps is not in the band",
        over="probes",
    )
    coordinate = Quantity(grid.coordinate, dims=("place",), how="asinh(eigenvalue / threshold)")
    threshold = Quantity(grid.threshold or 0.0, how="threshold of the asinh scale")
    return {"density": quantity, "coordinate": coordinate, "threshold": threshold}, grid.eigenvalue


def negative_share(state: State) -> dict[str, Quantity]:
    """Return which share of the eigenvalues lies below -depth times the largest, at some depths.

    From the quadratures of the density, at no further product: the moments of each probe bracket
    it, and the interval covers what they leave open and the draw of the probes. Nothing is returned
    where the largest eigenvalue may be zero.
    """
    extremes = state.extremes
    assert extremes is not None
    largest, smallest = extremes.top[0], extremes.smallest
    if largest.low <= 0:
        return {}
    joined = slq.join(state.quadratures)
    places = -np.asarray(DEPTHS) * largest.value
    moved = MOVED * largest.value
    # Each end at a place that is moved outward, the lower ends first.
    both = np.concatenate([places - moved, places + moved])
    low, high = cumulative_bounds(joined.nodes, joined.weights, both)
    exact = slq.exact_cumulative(state.known, joined.size, both)
    band = slq.cumulative_band(low, high, exact)
    lower, upper = np.split(band.low, 2)[0], np.split(band.high, 2)[1]
    # What the end of the spectrum says: not one lies so deep, or one at least does.
    upper = np.where(smallest.low > places, 0.0, upper)
    lower = np.maximum(lower, np.where(smallest.high < places, 1 / joined.size, 0.0))
    lower = np.minimum(lower, upper)
    middle = np.split(band.value, 2)
    found = Quantity(
        np.clip((middle[0] + middle[1]) / 2, lower, upper),
        lower,
        upper,
        dims=("depth",),
        kind=band.kind,
        level=band.level,
        unit="fraction",
        how="eigenvalues below −depth times the largest; " + band.how,
        over="probes",
    )
    return {"negative_share": found}


def ranks(state: State) -> np.ndarray:
    """Return the labels of the rank axis, 1 for the largest."""
    assert state.extremes is not None
    return np.arange(1, len(state.extremes.top) + 1)
