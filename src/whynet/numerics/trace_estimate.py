"""The trace of a symmetric operator: exact on known directions, Hutchinson on the rest.

Hutchinson (1990, Commun. Stat. Simul. 19:433) with Rademacher probes; deflation as in Gambhir,
Stathopoulos and Orginos (2017, arXiv:1603.05988). For any orthonormal Q, eigenvectors or not,
tr A = tr(Q^T A Q) + tr((I - Q Q^T) A (I - Q Q^T)), so deflation never biases.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.numerics.deflation import check_orthonormal, project_out
from whynet.numerics.intervals import mean_t
from whynet.numerics.lanczos import Operator
from whynet.numerics.probes import rademacher


def exact_trace(matmat: Operator, basis: Tensor) -> float:
    """Trace of Q^T A Q for orthonormal columns Q [P, q]: q products, no randomness.

    Raises:
        InputError: `basis` is not orthonormal.
        FloatingPointError: the operator returned NaN or infinity.

    """
    check_orthonormal(basis)
    if basis.shape[1] == 0:
        return 0.0
    return float(_forms(matmat, basis).sum())


def trace_samples(
    matmat: Operator,
    size: int,
    *,
    probes: int,
    seed: int,
    deflation: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """Draw unbiased samples of the trace of A, less its part on the deflated directions.

    A round is one call with its own seed; concatenate the samples of the rounds. Each sample is
    z^T (I - Q Q^T) A (I - Q Q^T) z with Rademacher z; its variance is twice the squared Frobenius
    norm off the diagonal of the deflated matrix, and zero for a diagonal matrix.

    Args:
        matmat: symmetric operator on columns, [P, p] to [P, p].
        size: P.
        probes: number of samples, one product each, all in one call.
        seed: seed of this round.
        deflation: orthonormal columns Q [P, q], or None.
        dtype: dtype of the probes.
        device: where they live.

    Returns:
        [probes] float64.

    Raises:
        InputError: sizes below 1, or Q not orthonormal.
        FloatingPointError: the operator returned NaN or infinity.

    """
    columns = rademacher(size, probes, seed, dtype=dtype, device=device)
    if deflation is not None and deflation.shape[-1]:
        check_orthonormal(deflation, size)
        columns = project_out(deflation, columns)
    return _forms(matmat, columns)


def deflated_trace(
    exact_part: float, samples: ArrayLike, *, unit: str = "", level: float = 0.95
) -> Estimate:
    """Trace of A from `exact_trace` and `trace_samples`: Student's t over the probes.

    Args:
        exact_part: trace on the deflated directions, 0 without deflation.
        samples: [probes] samples of the rest.
        unit: unit of the trace.
        level: nominal coverage.

    Returns:
        Kind as for `whynet.numerics.intervals.mean_t`: `interval` from 30 probes on.

    Raises:
        InputError: as `mean_t`.

    """
    how = "Hutchinson with Rademacher probes" + (" after deflation" if exact_part else "")
    rest = mean_t(samples, unit=unit, how=how, over="probes", level=level)
    return replace(
        rest,
        value=rest.value + exact_part,
        low=rest.low + exact_part,
        high=rest.high + exact_part,
    )


def _forms(matmat: Operator, columns: Tensor) -> NDArray[np.float64]:
    """Quadratic forms v^T A v of columns [P, p], summed in float64: [p]."""
    forms = (columns * matmat(columns)).sum(0, dtype=torch.float64).cpu().numpy()
    if not np.isfinite(forms).all():
        raise FloatingPointError(
            "The operator returned NaN or infinity; its trace cannot be measured."
        )
    return np.asarray(forms, dtype=np.float64)
