"""Traces, diagonal, norm and log-determinant of a subject's curvature matrices, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from whynet.concepts.curvature.spectra import Matrix, operator_of
from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.seeds import seed_from
from whynet.derivatives.chosen_parameters import Pattern
from whynet.derivatives.objective import Objective
from whynet.derivatives.products import CurvatureOperator, gradient
from whynet.derivatives.subject_objective import objective_from
from whynet.models.subject import Split, Subject
from whynet.numerics.diagonal_moments import DiagonalMoments, diagonal_moments
from whynet.numerics.effective_dimension import bracketing_quadratures
from whynet.numerics.exchangeable_trace import exchangeable_samples, exchangeable_trace
from whynet.numerics.log_determinant import bracketed_log_determinant
from whynet.numerics.noise_scale import noise_scale as noise_scale_of
from whynet.numerics.thick_restart import extreme_eigenpairs

KNOWN = 10
"""Eigenvectors that are found first and treated exactly."""


@dataclass(frozen=True)
class Moments:
    """Trace, traces of the layers, Frobenius norm and diagonal, from the same products.

    Attributes:
        trace: of the matrix.
        layers: names of the parameters to the traces of their blocks, which sum to `trace`.
        frobenius_norm: root of the sum of the squares of all entries.
        diagonal: [P], unbiased.
        diagonal_error: [P], its standard error over the probes.
        notes: full sentences.

    """

    trace: Estimate
    layers: dict[str, Estimate]
    frobenius_norm: Estimate
    diagonal: np.ndarray
    diagonal_error: np.ndarray
    notes: tuple[str, ...]


def trace(
    subject: Subject,
    *,
    products: int = 30,
    matrix: Matrix = "hessian",
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the trace by XTrace from few products; arguments as `spectrum`.

    Args:
        subject: the network with its loss and data.
        products: even; half of them sketch the range of the matrix.
        matrix: which one.
        parameters: which ones, by patterns of their names.
        split: which data.
        rows: use that many rows, evenly spread; all by default.
        seed: of the test vectors.

    """
    operator = operator_of(subject, matrix, parameters, split, rows)
    samples = exchangeable_samples(
        operator.matmat,
        operator.size,
        products=products,
        seed=seed_from("trace", seed),
        dtype=operator.dtype,
        device=operator.device,
    )
    return exchangeable_trace(samples)


def moments(
    subject: Subject,
    *,
    probes: int = 30,
    matrix: Matrix = "hessian",
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
    seed: int = 0,
) -> Moments:
    """Return trace, traces of the layers, Frobenius norm and diagonal; arguments as `trace`.

    Cost: some 20 products for the largest eigenvectors, which are treated exactly, and one a probe.

    """
    operator = operator_of(subject, matrix, parameters, split, rows)
    found = moments_of(operator, probes, seed, top_vectors(operator, seed))
    return Moments(
        found.trace(),
        dict(zip(operator.layout.names, found.block_traces(), strict=True)),
        found.frobenius_norm(),
        found.diagonal,
        found.error,
        operator.notes,
    )


def moments_of(
    operator: CurvatureOperator, probes: int, seed: int, known: Tensor
) -> DiagonalMoments:
    """Return the moments of an operator, its parameters as blocks."""
    return diagonal_moments(
        operator.matmat,
        operator.size,
        probes=probes,
        seed=seed_from("moments", seed),
        blocks=operator.layout.sizes,
        deflation=known if known.shape[1] < operator.size else None,
        dtype=operator.dtype,
        device=operator.device,
    )


def top_vectors(operator: CurvatureOperator, seed: int) -> Tensor:
    """Return up to `KNOWN` orthonormal vectors near the largest eigenvectors, [P, q]."""
    return extreme_eigenpairs(
        operator.matvec,
        operator.size,
        largest=min(KNOWN, operator.size),
        products=2 * KNOWN,
        seed=seed_from("top vectors", seed),
        dtype=operator.dtype,
        device=operator.device,
    ).vectors


def log_determinant(
    subject: Subject,
    ridge: float,
    *,
    probes: int = 30,
    steps: int = 20,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Return log det(G + ridge I) with G the Gauss-Newton matrix; arguments as `trace`.

    The interval covers the draw of the probes and the finite number of steps.

    Raises:
        InputError: the loss is not known to be convex in the outputs; a ridge that is not positive
            or within the round-off of products.

    """
    if subject.loss.task == "other":
        raise InputError("subject", f"the loss {subject.loss.name}", "one convex in the outputs")
    operator = operator_of(subject, "gauss-newton", parameters, split, rows)
    pairs = extreme_eigenpairs(
        operator.matvec,
        operator.size,
        largest=min(KNOWN, max(1, operator.size // 4)),
        tolerance=1e-8,
        products=4 * KNOWN,
        seed=seed_from("log determinant", seed),
        dtype=operator.dtype,
        device=operator.device,
    )
    kept = pairs.residuals <= 1e-6 * pairs.values.max()
    brackets = bracketing_quadratures(
        operator.matmat,
        operator.size,
        steps=max(2, min(steps, operator.size - int(kept.sum()))),
        probes=probes,
        seed=seed_from("log determinant probes", seed),
        deflation=pairs.vectors[:, kept],
        dtype=operator.dtype,
        device=operator.device,
    )
    return bracketed_log_determinant(brackets, pairs.values[kept], ridge)


def noise_scale(
    subject: Subject, *, groups: int = 32, split: Split = "train", seed: int = 0
) -> Estimate:
    """Return the gradient noise scale, tr(covariance) / |mean gradient|^2, in examples.

    From which batch size on larger batches stop paying (McCandlish et al. 2018, arXiv:1812.06162).
    The rows are shuffled and cut into groups of equal size, whose gradients are taken.

    Args:
        subject: the network with its loss and data.
        groups: how many; from 30 on the interval is called one.
        split: which data.
        seed: of the shuffle.

    Cost: one pass over the data, forward and backward. Memory: one gradient a group.

    Raises:
        InputError: fewer than four groups, or fewer rows than groups.

    """
    count = subject.examples(split).count
    if not 4 <= groups <= count:
        raise InputError("groups", f"{groups} for {count} rows", "4 to as many as there are rows")
    size = count // groups
    order = np.random.default_rng(seed_from("noise scale", seed)).permutation(count)
    gradients = [
        gradient(_rows(subject, split, order[i * size : (i + 1) * size])).double().cpu().numpy()
        for i in range(groups)
    ]
    table = np.stack(gradients)
    squares = (table**2).sum(1)
    return noise_scale_of(squares, table @ table.mean(0), size, count)


def _rows(subject: Subject, split: Split, places: np.ndarray) -> Objective:
    return objective_from(subject, split, places=sorted(int(place) for place in places))
