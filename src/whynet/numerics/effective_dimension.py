"""The effective dimension of a positive semidefinite matrix: d(a) = tr A (A + a I)^-1.

It counts eigenvalues, each by how far it stands above the ridge a: eigenvalues far above count
one, far below nothing. From known eigenvalues it is a sum. For a matrix known by its products,
z' A (A + a I)^-1 z is bracketed for each probe z by two quadratures of one Lanczos run: 1/(x + a)
has derivatives of alternating sign, so that Gauss's rule lies below it and the rule of Gauss and
Radau with a node at or below the smallest eigenvalue above it (Golub and Meurant 1994). The
bracket holds for any number of steps; an interval from both its ends covers the draw of the probes
and the finite number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.numerics.deflation import check_orthonormal, deflated, project_out
from whynet.numerics.intervals import ENOUGH_DRAWS
from whynet.numerics.lanczos import Operator, lanczos_batch, tridiagonal
from whynet.numerics.lanczos_quadrature import Floats, Quadrature, join, quadrature
from whynet.numerics.probes import gaussian

ROUNDOFF = 10
"""Eigenvalues of products are known up to this many units of round-off of the largest."""

ABOVE_ROUNDOFF = 10
"""A ridge counts as resolved from this multiple of that on."""


@dataclass(frozen=True)
class Brackets:
    """Two quadratures of the same probes, after known directions were removed.

    Attributes:
        gauss: its dimensions lie above the true ones of its probes.
        radau: its dimensions lie below.
        roundoff: what an eigenvalue may be wrong by.

    """

    gauss: Quadrature
    radau: Quadrature
    roundoff: float

    def resolves(self, ridge: float) -> bool:
        """Whether a ridge stands above round-off."""
        return ridge >= ABOVE_ROUNDOFF * self.roundoff


def effective_dimension(eigenvalues: ArrayLike, ridges: ArrayLike) -> Floats:
    """Return d(a) of a matrix with these eigenvalues, for each ridge; negative ones count zero."""
    known = np.maximum(np.asarray(eigenvalues, dtype=np.float64), 0.0)
    return np.asarray((known / (known + np.atleast_1d(ridges)[:, None])).sum(1))


def bracketing_quadratures(
    matmat: Operator,
    size: int,
    *,
    steps: int,
    probes: int,
    seed: int,
    deflation: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Brackets:
    """Draw probes and run one Lanczos run from each: one round.

    Cost: `steps` calls of `matmat` with `probes` columns. Memory: steps * P * probes numbers.

    Args:
        matmat: positive semidefinite operator on columns, [P, p] to [P, p].
        size: P.
        steps: Lanczos steps, at least 2.
        probes: number of probes p.
        seed: seed of this round.
        deflation: orthonormal eigenvectors Q [P, q], q < P, or None.
        dtype: dtype of the vectors.
        device: where they live.

    Raises:
        InputError: sizes out of range, Q not orthonormal or as many columns as rows.
        FloatingPointError: the operator returned NaN or infinity.

    """
    if steps < 2:
        raise InputError("steps", str(steps), "at least 2")
    columns, left = gaussian(size, probes, seed, dtype=dtype, device=device), size
    if deflation is not None and deflation.shape[-1]:
        check_orthonormal(deflation, size)
        if deflation.shape[1] >= size:
            raise InputError("deflation", f"{size} directions of {size}", "fewer than all")
        columns, matmat = project_out(deflation, columns), deflated(matmat, deflation)
        left = size - deflation.shape[1]
    runs = lanczos_batch(matmat, columns, steps)
    # Directions uniform on the sphere of the subspace, each of length sqrt(left): unbiased, and
    # where most eigenvalues stand far above the ridge without the scatter of the lengths, which
    # has a long tail where directions were removed.
    mass = left / size
    nodes, weights = quadrature(runs.alphas, runs.betas)
    roundoff = ROUNDOFF * float(torch.finfo(dtype).eps) * float(np.abs(nodes).max())
    alphas = _with_node(runs.alphas, runs.betas, -max(roundoff, np.finfo(float).tiny))
    low_nodes, low_weights = quadrature(alphas, runs.betas)
    return Brackets(
        Quadrature(nodes, weights * mass, size),
        Quadrature(low_nodes, low_weights * mass, size),
        roundoff,
    )


def _with_node(alphas: Tensor, betas: Tensor, node: float) -> Tensor:
    """Change the last diagonal entries [p, m] so that `node` becomes an eigenvalue (Golub 1973)."""
    if alphas.shape[1] < 2:
        return alphas
    size = alphas.shape[1] - 1
    leading = tridiagonal(alphas[:, :size], betas[:, : size - 1]).cpu().numpy()
    last = np.zeros((len(alphas), size, 1))
    last[:, -1] = 1.0
    corner = np.linalg.solve(leading - node * np.eye(size), last)[:, -1, 0]
    changed = alphas.clone()
    changed[:, -1] = torch.from_numpy(node + betas[:, -1].cpu().numpy() ** 2 * corner)
    return changed


def together(rounds: Sequence[Brackets]) -> Brackets:
    """Put rounds of the same operator and number of steps together."""
    return Brackets(
        join([one.gauss for one in rounds]),
        join([one.radau for one in rounds]),
        max(one.roundoff for one in rounds),
    )


def dimension_samples(part: Quadrature, ridge: float) -> Floats:
    """Return z' A (A + a I)^-1 z of every probe by one of the two quadratures."""
    # A ridge that is resolved lies far above the size of a negative node.
    return np.asarray(part.size * (part.weights * part.nodes / (part.nodes + ridge)).sum(1))


def bracketed_dimension(
    brackets: Brackets, known: ArrayLike, ridge: float, *, level: float = 0.95
) -> Estimate:
    """Effective dimension from probes: exact on known eigenvalues, bracketed t on the rest.

    Args:
        brackets: what all rounds found.
        known: eigenvalues of the directions that were removed.
        ridge: a; must be resolved.
        level: nominal coverage over the draw of the probes, at least.

    Returns:
        The middle of both mean ends; low and high are the mean ends less and plus the half width
        of Student's t at each. `interval` from 30 probes on.

    """
    low, high = (dimension_samples(part, ridge) for part in (brackets.radau, brackets.gauss))
    low = np.minimum(low, high)
    count, exact = len(low), float(effective_dimension(known, ridge)[0])
    point = float(stats.t.ppf(0.5 + level / 2, max(1, count - 1)))
    spread = [samples.std(ddof=1) if count > 1 else np.inf for samples in (low, high)]
    # Round-off: a sum of P terms of at most one, each known up to the products' precision.
    floor = 1e-12 * brackets.gauss.size
    below, above = (max(point * float(s) / count**0.5, floor) for s in spread)
    value = exact + float(low.mean() + high.mean()) / 2
    return Estimate(
        value,
        max(exact, min(value, exact + float(low.mean()) - below)),
        exact + float(high.mean()) + above,
        "interval" if count >= ENOUGH_DRAWS else "indicative",
        level,
        "count",
        "deflated stochastic Lanczos quadrature, bracketed per probe, t interval",
        "probes",
    )
