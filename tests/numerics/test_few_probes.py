"""Intervals over a handful of probes, and what they need to cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whynet.numerics.diagonal_moments import diagonal_moments
from whynet.numerics.effective_dimension import bracketing_quadratures
from whynet.numerics.log_determinant import bracketed_log_determinant, log_determinant

SIZE, DRAWS = 120, 400
SPECTRA = {
    "outlier": np.concatenate([[100.0], np.linspace(0.2, 2, SIZE - 1)]),
    "exponential": 100 * 0.8 ** np.arange(SIZE),
}


@pytest.mark.endurance
@pytest.mark.parametrize("probes", [2, 4, 8])
@pytest.mark.parametrize("name", SPECTRA)
def test_they_cover_where_what_stands_out_is_known(name: str, probes: int) -> None:
    """The control knows nothing: one direction carries the trace, and its interval falls short."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((SIZE, SIZE)))[0]
    matrix = torch.tensor(basis * SPECTRA[name] @ basis.T)
    values, vectors = np.linalg.eigh(matrix.numpy())
    truth = float(matrix.trace())
    determinant = log_determinant(values, SIZE, 1.0)
    shares = {}
    for known in (0, 6):
        taken = torch.tensor(vectors[:, SIZE - known :].copy())
        hits = np.zeros((DRAWS, 2))
        for seed in range(DRAWS):
            found = diagonal_moments(
                lambda v: matrix @ v,
                SIZE,
                probes=probes,
                seed=seed,
                deflation=taken,
                dtype=torch.float64,
            ).trace()
            brackets = bracketing_quadratures(
                lambda v: matrix @ v,
                SIZE,
                steps=12,
                probes=probes,
                seed=seed,
                deflation=taken,
                dtype=torch.float64,
            )
            other = bracketed_log_determinant(brackets, values[SIZE - known :], 1.0)
            assert found.kind == other.kind == "indicative"
            hits[seed] = found.low <= truth <= found.high, other.low <= determinant <= other.high
        shares[known] = hits.mean(0)
    assert shares[6][0] > 0.89
    assert shares[0][1] > 0.9 and shares[6][1] > 0.9
    assert shares[0][0] < 0.89 or name != "outlier"
