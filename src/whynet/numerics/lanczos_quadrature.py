"""Stochastic Lanczos quadrature: the spectrum of a symmetric operator as a measure.

Ubaru, Chen and Saad (2017, SIAM J. Matrix Anal. Appl. 38:1075); for Hessians of networks Ghorbani,
Krishnan and Xiao (2019, arXiv:1901.10159). Each Rademacher probe z gives, through the eigenvalues
of its tridiagonal matrix and the squared first entries of its eigenvectors, a Gauss quadrature of
the measure z^T delta(A - lambda) z, whose mean is n times the spectral density.

Deflate isolated eigenvalues first. A probe's mass on a single eigenvector is nearly chi-squared
with one degree of freedom, so that the t band at an outlier that was left in covers about 90 %
with 30 probes instead of 95 %; the level holds as an average over the grid.

What the bands cover: the draw of the probes. What they do not: the bias of a finite number of
steps m. Moments up to 2 m - 1 are exact per probe, but a density smoothed more finely than m
nodes can resolve is biased toward peaks at the nodes. The cumulative distribution is bracketed
per probe without that bias (`whynet.numerics.moment_brackets`), so its band covers both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.estimate import Kind
from whynet.numerics.deflation import check_orthonormal, deflated, project_out
from whynet.numerics.intervals import ENOUGH_DRAWS
from whynet.numerics.lanczos import Operator, lanczos_batch, tridiagonal
from whynet.numerics.probes import rademacher
from whynet.numerics.spectral_grid import SpectralGrid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quadrature:
    """Gauss quadratures of the spectral measure, one for each probe.

    Attributes:
        nodes: [probes, m] ascending, in units of the eigenvalues.
        weights: [probes, m] not negative; a row sums to |z|^2 / n, that is 1 without deflation
            and 1 - q / n on average after q directions were removed.
        size: n, the dimension of the whole operator.

    """

    nodes: Floats
    weights: Floats
    size: int

    def trace_samples(self) -> Floats:
        """Return [probes] unbiased samples z^T A z of the trace (of the part not deflated)."""
        return np.asarray(self.size * (self.nodes * self.weights).sum(1))


@dataclass(frozen=True)
class Band:
    """A curve with pointwise intervals.

    Attributes:
        value: [G] mean over probes plus the exact part.
        low: [G] lower ends.
        high: [G] upper ends.
        kind: `interval`, or `indicative` below 30 probes.
        level: nominal pointwise coverage.
        how: one phrase.
        over: what the intervals are over.

    """

    value: Floats
    low: Floats
    high: Floats
    kind: Kind
    level: float
    how: str
    over: str = "probes"


def quadrature(alphas: Tensor, betas: Tensor) -> tuple[Floats, Floats]:
    """Nodes and weights of Golub and Welsch (1969) for tridiagonal matrices.

    Args:
        alphas: [p, m] diagonals.
        betas: [p, m - 1] off-diagonals; a zero splits off a block without weight. The leading
            [:, :h] and [:, :h - 1] are the quadrature of h steps.

    Returns:
        nodes [p, m] ascending, weights [p, m] that sum to 1 in each row.

    """
    values, vectors = np.linalg.eigh(tridiagonal(alphas.double(), betas.double()).cpu().numpy())
    return values, np.asarray(vectors[:, 0, :] ** 2)


def lanczos_quadrature(
    matmat: Operator,
    size: int,
    *,
    steps: int,
    probes: int,
    seed: int,
    deflation: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    reorthogonalize: bool = True,
) -> Quadrature:
    """Draw probes and run one Lanczos quadrature from each, batched: one round.

    Concatenate rounds (each with its own seed) with `join`. With deflation the removed
    directions should be eigenvectors to good accuracy: their exact part is given back through
    `exact_density` and `exact_cumulative`, and what couples them to the rest is lost. (A trace
    is exact for any basis, see `whynet.numerics.trace_estimate`.)

    Cost: `steps` calls of `matmat` with `probes` columns. Memory with reorthogonalization:
    steps * P * probes numbers.

    Args:
        matmat: symmetric operator on columns, [P, p] to [P, p].
        size: P.
        steps: Lanczos steps m.
        probes: number of probes p.
        seed: seed of this round.
        deflation: orthonormal eigenvectors Q [P, q], q < P, or None.
        dtype: dtype of the vectors.
        device: where they live.
        reorthogonalize: see `whynet.numerics.lanczos.lanczos_batch`.

    Raises:
        InputError: sizes below 1, Q not orthonormal or as many columns as rows.
        FloatingPointError: the operator returned NaN or infinity.

    """
    columns = rademacher(size, probes, seed, dtype=dtype, device=device)
    if deflation is not None and deflation.shape[-1]:
        check_orthonormal(deflation, size)
        if deflation.shape[1] >= size:
            raise InputError("deflation", f"{size} directions of {size}", "fewer than all")
        columns, matmat = project_out(deflation, columns), deflated(matmat, deflation)
    runs = lanczos_batch(matmat, columns, steps, reorthogonalize=reorthogonalize)
    nodes, weights = quadrature(runs.alphas, runs.betas)
    masses = runs.norms.numpy() ** 2 / size
    return Quadrature(nodes, weights * masses[:, None], size)


def join(rounds: Sequence[Quadrature]) -> Quadrature:
    """Put rounds of the same operator and number of steps together.

    Raises:
        InputError: no round, or rounds of different sizes or steps.

    """
    shapes = {(part.size, part.nodes.shape[1]) for part in rounds}
    if len(shapes) != 1:
        raise InputError("rounds", f"sizes and steps {sorted(shapes)}", "one size, one step count")
    nodes = np.concatenate([part.nodes for part in rounds])
    weights = np.concatenate([part.weights for part in rounds])
    return Quadrature(nodes, weights, rounds[0].size)


def spectral_density(
    nodes: ArrayLike, weights: ArrayLike, grid: SpectralGrid, width: float | None = None
) -> Floats:
    """Density per probe, smoothed by a Gaussian in the coordinate of the grid.

    Args:
        nodes: [probes, m].
        weights: [probes, m].
        grid: where to evaluate, and in which coordinate.
        width: standard deviation in t; by default that of the grid.

    Returns:
        [probes, G] density per unit of the coordinate t (per unit of lambda on a linear grid).

    """
    places, masses = np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    sigma = grid.width if width is None else width
    result = np.zeros((len(places), len(grid.coordinate)))
    for centers, mass in zip(grid.transform(places).T, masses.T, strict=True):
        offset = (grid.coordinate[None, :] - centers[:, None]) / sigma
        result += mass[:, None] * np.exp(-0.5 * offset**2)
    result /= sigma * np.sqrt(2 * np.pi)
    return result


def exact_density(
    eigenvalues: ArrayLike, size: int, grid: SpectralGrid, width: float | None = None
) -> Floats:
    """Smoothed density [G] of eigenvalues that are known, each with mass 1 / `size`."""
    known = np.asarray(eigenvalues, dtype=np.float64)[None, :]
    return np.asarray(spectral_density(known, np.full(known.shape, 1 / size), grid, width)[0])


def exact_cumulative(eigenvalues: ArrayLike, size: int, places: ArrayLike) -> Floats:
    """Share [G] that known eigenvalues, each of mass 1 / `size`, add at or below each place."""
    known = np.sort(np.asarray(eigenvalues, dtype=np.float64))
    return np.asarray(np.searchsorted(known, np.asarray(places), side="right") / size)


def density_band(
    densities: ArrayLike, exact: ArrayLike | float = 0.0, *, level: float = 0.95
) -> Band:
    """Pointwise mean of densities over probes with Student's t band, plus the exact part.

    Args:
        densities: [probes, G] from `spectral_density`.
        exact: [G] from `exact_density`, or 0.
        level: nominal pointwise coverage over the draw of the probes.

    Returns:
        The band; low ends are cut at the exact part, since densities are not negative.

    Raises:
        InputError: fewer than 2 probes, or a level outside (0, 1).

    """
    samples = np.asarray(densities, dtype=np.float64)
    mean, half = _mean_and_half(samples, level)
    known = np.asarray(exact, dtype=np.float64)
    value = mean + known
    low = np.clip(value - half, known, None)
    kind: Kind = "interval" if len(samples) >= ENOUGH_DRAWS else "indicative"
    how = "stochastic Lanczos quadrature, Gaussian smoothing, pointwise t band"
    return Band(value, np.minimum(low, value), value + half, kind, level, how)


def cumulative_band(
    low: ArrayLike, high: ArrayLike, exact: ArrayLike | float = 0.0, *, level: float = 0.95
) -> Band:
    """Cumulative spectral distribution with a band over probes and finite steps.

    From the means of both brackets, Student's t half widths outward; hence conservative, by about
    the mean of what the moments leave open.

    Args:
        low: [probes, G] lower brackets, of `whynet.numerics.moment_brackets.cumulative_bounds`.
        high: [probes, G] upper brackets.
        exact: [G] from `exact_cumulative`, or 0.
        level: nominal pointwise coverage, at least.

    Returns:
        The band, within 0 and 1; its value is the middle of the mean brackets.

    Raises:
        InputError: fewer than 2 probes, or a level outside (0, 1).

    """
    lower, upper = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    floor, below = _mean_and_half(lower, level)
    ceiling, above = _mean_and_half(upper, level)
    known = np.asarray(exact, dtype=np.float64)
    value = np.clip((floor + ceiling) / 2 + known, 0, 1)
    bottom = np.clip(floor - below, 0, None) + known
    top = np.clip(ceiling + above + known, None, 1)
    kind: Kind = "interval" if len(lower) >= ENOUGH_DRAWS else "indicative"
    how = "stochastic Lanczos quadrature, bracketed per probe, pointwise t band"
    return Band(value, np.minimum(bottom, value), np.maximum(top, value), kind, level, how)


def _mean_and_half(samples: Floats, level: float) -> tuple[Floats, Floats]:
    """Mean over probes and half width of its t interval, at least round-off of the largest."""
    if samples.ndim != 2 or len(samples) < 2:
        raise InputError("samples", f"shape {samples.shape}", "[probes, G] with at least 2 probes")
    if not 0 < level < 1:
        raise InputError("level", str(level), "a number between 0 and 1, such as 0.95")
    probes = len(samples)
    mean = samples.mean(0)
    error = samples.std(0, ddof=1) / np.sqrt(probes)
    half = float(stats.t.ppf(0.5 + level / 2, probes - 1)) * error
    return mean, np.maximum(half, 1e-12 * np.abs(samples).max())
