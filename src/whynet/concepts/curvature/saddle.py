"""How many directions the loss falls along: eigenvalues of the Hessian below a stated threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

from whynet.concepts.curvature.spectra import estimates, operator_of
from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.seeds import seed_from
from whynet.derivatives.chosen_parameters import Pattern
from whynet.derivatives.products import CurvatureOperator
from whynet.models.subject import Split, Subject
from whynet.numerics.converged_quadrature import converged_quadrature
from whynet.numerics.thick_restart import extreme_eigenpairs


@dataclass(frozen=True)
class SaddleIndex:
    """How many eigenvalues are negative beyond a threshold.

    Attributes:
        count: eigenvalues below `-threshold`, by the quadrature. Its interval covers the draw of
            the probes and what the moments of so many steps leave open at the threshold
            (`whynet.numerics.moment_brackets`). Its lower end is at least `least`.
        least: so many there are without chance, by interlacing, up to round-off.
        threshold: positive; what is nearer to zero does not count.
        share: `threshold` over the largest eigenvalue.
        parameters: number of eigenvalues in all.

    """

    count: Estimate
    least: int
    threshold: float
    share: float
    parameters: int


def saddle_index(
    subject: Subject,
    *,
    share: float = 1e-3,
    probes: int = 30,
    steps: int = 40,
    parameters: Pattern = "*",
    split: Split = "train",
    rows: int | None = None,
    seed: int = 0,
) -> SaddleIndex:
    """Count the eigenvalues of the Hessian below -share times the largest.

    Those between the threshold and zero cannot be told from zero: most eigenvalues of a network's
    Hessian lie there, and their signs are round-off.

    Args:
        subject: the network with its loss and data.
        share: of the largest eigenvalue; positive.
        probes: of the quadrature, at least 2; from 30 on the interval is called one.
        steps: Lanczos steps of each probe; more of them narrow the bracket, and a smaller `share`
            asks for more.
        parameters: which ones, by patterns of their names.
        split: which data.
        rows: use that many rows, evenly spread; all by default.
        seed: of the probes.

    Raises:
        InputError: as `hessian`, or numbers out of range.

    Cost: `probes * steps + 40` products. Memory: as many vectors as `probes * steps`.

    """
    if not 0 < share < 1:
        raise InputError("share", str(share), "a share of the largest eigenvalue, 0 to 1")
    if probes < 2 or steps < 2:
        raise InputError("probes", f"{probes} of {steps} steps", "at least 2 of at least 2 steps")
    operator = operator_of(subject, "hessian", parameters, split, rows)
    size = operator.size
    ends = extreme_eigenpairs(
        operator.matvec,
        size,
        largest=1,
        smallest=min(10, size - 1),
        products=40,
        seed=seed_from("saddle index", seed),
        dtype=operator.dtype,
        device=operator.device,
    )
    largest = float(ends.values[0])
    threshold = max(share * largest, ends.roundoff)
    # Ritz vectors are orthonormal: as many eigenvalues lie at or below as Ritz values do.
    least = int((ends.values + ends.roundoff < -threshold).sum())
    most = least if estimates(ends, size, "")[1][0].low > -threshold else size
    count = _counted(operator, threshold, (least, most), (probes, steps), seed)
    return SaddleIndex(
        count, least, threshold, threshold / largest if largest > 0 else math.nan, size
    )


def _counted(
    operator: CurvatureOperator,
    threshold: float,
    known: tuple[int, int],
    sizes: tuple[int, int],
    seed: int,
) -> Estimate:
    """Count eigenvalues below a threshold by quadrature, within what is known of their number."""
    size, (least, most), (probes, steps) = operator.size, known, sizes
    found = converged_quadrature(
        operator.matmat,
        size,
        steps=min(steps, size),
        probes=probes,
        seed=seed_from("saddle index probes", seed),
        dtype=operator.dtype,
        device=operator.device,
    )
    band = found.band([-threshold])
    high = min(max(math.floor(size * float(band.high[0]) + 1e-9), least), most)
    low = min(max(math.ceil(size * float(band.low[0]) - 1e-9), least), high)
    return Estimate(
        min(max(size * float(band.value[0]), low), high),
        low,
        high,
        band.kind,
        band.level,
        "count",
        f"eigenvalues below -{threshold:.3g}; {band.how}; at least {least} surely",
        "probes",
    )
