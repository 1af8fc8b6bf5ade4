"""Eigenpairs and densities of the curvature matrices of a subject, as functions.

The instruments measure the same in rounds on at most 2,000 rows; these take all rows, any block of
the parameters and any of the matrices, and give the vectors as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from whynet.concepts.curvature import operators
from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.seeds import seed_from
from whynet.derivatives.chosen_parameters import Pattern, restricted
from whynet.derivatives.products import CurvatureOperator, gradient
from whynet.derivatives.subject_objective import objective_from
from whynet.models.subject import Split, Subject
from whynet.numerics.converged_quadrature import Spectrum, converged_quadrature
from whynet.numerics.krylov_bounds import ends_of_spectrum
from whynet.numerics.long_products import long_norm, long_product
from whynet.numerics.thick_restart import Eigenpairs, extreme_eigenpairs

Matrix = Literal["hessian", "gauss-newton", "fisher"]

LEVEL = 0.9999
"""Level of the certified ends: their width grows only with the logarithm of 1 / (1 - level)."""


@dataclass(frozen=True)
class CurvatureSpectrum:
    """The ends of a spectrum and what they say of the point.

    Attributes:
        largest: from the top down. The first is `certified`: its lower end by interlacing, its
            upper end with the level over the start vector. Of the others an eigenvalue lies within
            the bar, surely, and the one of that rank is at least the value; that none was skipped
            is not certified.
        smallest: from the bottom up, likewise.
        vectors: [P, q] of all of them, the largest first.
        gradient_share: share of the squared norm of the gradient in the span of the vectors of
            `largest`; its interval is what the residuals allow the span to be off.
        random_share: what that share is of a random direction, k / P.
        negative_ratio: most negative over largest eigenvalue, at least 0; NaN where there is none.
        products: products that were spent.
        converged: whether all eigenvalues were found to the tolerance.
        notes: full sentences, such as that memory ran out.

    """

    largest: tuple[Estimate, ...]
    smallest: tuple[Estimate, ...]
    vectors: Tensor
    gradient_share: Estimate
    random_share: float
    negative_ratio: Estimate
    products: int
    converged: bool
    notes: tuple[str, ...]


def spectrum(
    subject: Subject,
    k: int = 10,
    *,
    smallest: int = 1,
    matrix: Matrix = "hessian",
    parameters: Pattern = "*",
    tolerance: float = 1e-3,
    split: Split = "train",
    rows: int | None = None,
    products: int = 300,
    seed: int = 0,
) -> CurvatureSpectrum:
    """Return the k largest eigenvalues of a curvature matrix and the smallest, with vectors.

    Args:
        subject: the network with its loss and data.
        k: how many from the top.
        smallest: how many from the bottom; 0 saves products where only the top is wanted.
        matrix: `hessian`, `gauss-newton` or `fisher` (exact).
        parameters: which ones, by patterns of their names.
        tolerance: estimated relative error of an eigenvalue at which the run stops.
        split: which data.
        rows: use that many rows, evenly spread; all by default.
        products: most products.
        seed: of the start vector.

    Raises:
        InputError: as `hessian`, or numbers out of range.

    Cost: about twice k products with the matrix for a tolerance of 1e-3 where the top stands out,
    and one gradient. Memory: `2 (k + smallest) + 20` vectors of P numbers.

    """
    operator = operator_of(subject, matrix, parameters, split, rows)
    size = operator.size
    if k < 1 or k + smallest > size:
        raise InputError("k", f"{k} and {smallest} of {size}", "at least 1, at most the parameters")
    found = extreme_eigenpairs(
        operator.matvec,
        size,
        largest=k,
        smallest=smallest,
        tolerance=tolerance,
        products=products,
        seed=seed_from("spectrum", seed),
        dtype=operator.dtype,
        device=operator.device,
    )
    objective = restricted(objective_from(subject, split, rows), parameters)
    return _read(found, operator, gradient(objective), size)


def density(
    subject: Subject,
    *,
    steps: int = 40,
    probes: int = 4,
    matrix: Matrix = "hessian",
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
    seed: int = 0,
) -> Spectrum:
    """Return the spectral measure by Lanczos quadrature; arguments as `spectrum`.

    Eigenvalues that stand apart are found on the way and have their exact weight. `band(places)`
    of what is returned is the cumulative distribution with a band over probes and finite steps.

    Cost: `steps * probes` products. Memory: as many vectors.

    """
    operator = operator_of(subject, matrix, parameters, split, rows)
    return converged_quadrature(
        operator.matmat,
        operator.size,
        steps=steps,
        probes=probes,
        seed=seed_from("density", seed),
        dtype=operator.dtype,
        device=operator.device,
    )


def adaptive_sharpness(
    subject: Subject,
    *,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
    products: int = 100,
    seed: int = 0,
) -> Estimate:
    """Return the largest eigenvalue of D H D with D the magnitudes of the parameters.

    Unlike the largest eigenvalue of H it is the same for all networks that rescaling two layers of
    a ReLU network makes of one another (Kwon, Kim, Park and Choi 2021, arXiv:2102.11600; Dinh et
    al. 2017). It still depends on the loss and on train or eval mode, and is no finding by itself.
    """
    objective = restricted(objective_from(subject, split, rows), parameters)
    operator = operators.hessian(subject, parameters=parameters, split=split, rows=rows)
    scale = operator.layout.flatten(tuple(objective.parameters.values())).abs()
    found = extreme_eigenpairs(
        lambda vector: scale * operator.matvec(scale * vector),
        operator.size,
        largest=1,
        smallest=0,
        products=products,
        seed=seed_from("adaptive sharpness", seed),
        dtype=operator.dtype,
        device=operator.device,
    )
    return estimates(found, operator.size, "loss")[0][0]


def operator_of(
    subject: Subject, matrix: Matrix, parameters: Pattern, split: Split, rows: int | None
) -> CurvatureOperator:
    """Return one of the matrices by its name."""
    makers = {
        "hessian": operators.hessian,
        "gauss-newton": operators.gauss_newton,
        "fisher": operators.fisher,
    }
    if matrix not in makers:
        raise InputError("matrix", repr(matrix), f"one of {', '.join(get_args(Matrix))}")
    return makers[matrix](subject, parameters=parameters, split=split, rows=rows)


def estimates(
    found: Eigenpairs, size: int, unit: str
) -> tuple[tuple[Estimate, ...], tuple[Estimate, ...]]:
    """Return the largest and the smallest eigenvalues with their ends, the first certified."""
    ritz = float(_ritz(found).min()), float(_ritz(found).max())
    below, above = ends_of_spectrum(found.alphas, found.betas, ritz, size, LEVEL)
    ends = []
    for index, value in enumerate(found.values.tolist()):
        top, reach = index < found.largest, float(found.residuals[index])
        first = index in (0, found.largest)
        low, high = (value, value + reach) if top else (value - reach, value)
        if first:
            low, high = (value, max(value, above)) if top else (min(value, below), value)
        ends.append(
            Estimate(
                value,
                low - found.roundoff,
                high + found.roundoff,
                "certified" if first else "indicative",
                LEVEL,
                unit,
                "Lanczos with thick restarts; "
                + ("random-start bound beyond the value" if first else "residual"),
                "start vectors",
            )
        )
    return tuple(ends[: found.largest]), tuple(ends[found.largest :])


def _ritz(found: Eigenpairs) -> np.ndarray:
    off = np.diag(np.asarray(found.betas[:-1]), 1)
    return np.linalg.eigvalsh(np.diag(np.asarray(found.alphas)) + off + off.T)


def _read(
    found: Eigenpairs, operator: CurvatureOperator, slope: Tensor, size: int
) -> CurvatureSpectrum:
    largest, smallest = estimates(found, size, "loss per squared weight")
    count = found.largest
    share = _share(found, slope)
    return CurvatureSpectrum(
        largest,
        smallest,
        found.vectors,
        share,
        count / size,
        _ratio(largest, smallest),
        found.products,
        found.converged,
        operator.notes,
    )


def _share(found: Eigenpairs, slope: Tensor) -> Estimate:
    """Share of the gradient in the top space; how far that is off: Davis and Kahan (1970)."""
    whole = float(long_norm(slope))
    part = float(long_product(found.vectors[:, : found.largest].T, slope).norm())
    root = part / whole if whole else math.nan
    reach = min(1.0, found.angle)
    return Estimate(
        root**2,
        max(0.0, root - reach) ** 2,
        min(1.0, root + reach) ** 2,
        "indicative",
        LEVEL,
        "share",
        "|Q'g|^2 / |g|^2; interval: residuals over the gap below the last of them",
        "start vectors",
    )


def _ratio(largest: tuple[Estimate, ...], smallest: tuple[Estimate, ...]) -> Estimate:
    if not smallest or largest[0].low <= 0:
        nothing = math.nan
        return Estimate(nothing, nothing, nothing, "certified", LEVEL, "ratio", "", "start vectors")
    top, bottom = largest[0], smallest[0]
    return Estimate(
        max(0.0, -bottom.value) / top.value,
        max(0.0, -bottom.high) / top.high,
        max(0.0, -bottom.low) / top.low,
        "certified",
        LEVEL,
        "ratio",
        "-smallest over largest eigenvalue, from their joint intervals",
        "start vectors",
    )
