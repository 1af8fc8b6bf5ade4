"""How often intervals over a handful of probes hold the truth: traces, norms and log determinants.

    OMP_NUM_THREADS=1 python benchmarks/few_probes.py [--draws 400] [SPECTRUM ...]

Symmetric matrices of four spectra and random eigenvectors, 95 % intervals from 2 to 30 probes, with
no direction known and with the six largest. Traces of three diagonal blocks stand for those of
layers; the worst of them is shown. Log determinant and effective dimension are at ridge 1, from 12
Lanczos steps. Takes some eight minutes.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from whynet.numerics.diagonal_moments import diagonal_moments
from whynet.numerics.effective_dimension import bracketed_dimension, bracketing_quadratures
from whynet.numerics.log_determinant import bracketed_log_determinant

SIZE, BLOCKS, RIDGE = 120, (60, 40, 20), 1.0
PROBES, KNOWN = (2, 3, 4, 8, 15, 30), (0, 6)
SPECTRA = {
    "flat": np.linspace(0.2, 2, SIZE),
    "outlier": np.concatenate([[100.0], np.linspace(0.2, 2, SIZE - 1)]),
    "power": 100 * np.arange(1.0, SIZE + 1) ** -1.5,
    "exponential": 100 * 0.8 ** np.arange(SIZE),
}


def shares(values: np.ndarray, known: int, probes: int, draws: int) -> np.ndarray:
    """Return how often each interval holds the truth: blocks, trace, norm, log det, dimension."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((SIZE, SIZE)))[0]
    matrix = torch.tensor(basis * values @ basis.T)
    eigenvalues, vectors = np.linalg.eigh(matrix.numpy())
    taken = torch.tensor(vectors[:, -known:].copy()) if known else None
    top = eigenvalues[SIZE - known :]
    diagonal = matrix.diagonal().numpy()
    truths = [part.sum() for part in np.split(diagonal, np.cumsum(BLOCKS)[:-1])]
    truths += [diagonal.sum(), float(matrix.norm())]
    truths += [
        np.log(eigenvalues.clip(0) + RIDGE).sum(),
        (eigenvalues / (eigenvalues + RIDGE)).sum(),
    ]
    hits = np.zeros((draws, len(truths)), dtype=bool)
    for seed in range(draws):
        given: dict[str, Any] = {
            "probes": probes, "seed": seed, "deflation": taken, "dtype": torch.float64,
        }  # fmt: skip
        moments = diagonal_moments(lambda v: matrix @ v, SIZE, blocks=BLOCKS, **given)
        brackets = bracketing_quadratures(lambda v: matrix @ v, SIZE, steps=12, **given)
        found = [*moments.block_traces(), moments.trace(), moments.frobenius_norm()]
        found.append(bracketed_log_determinant(brackets, top, RIDGE))
        found.append(bracketed_dimension(brackets, top, RIDGE))
        hits[seed] = [e.low <= truth <= e.high for e, truth in zip(found, truths, strict=True)]
    return np.asarray(hits.mean(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spectra", nargs="*", default=list(SPECTRA))
    parser.add_argument("--draws", type=int, default=400)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| spectrum | known | probes | layer trace | trace | norm | log det | dimension |")
    print("|---|---|---|---|---|---|---|---|")
    for name in asked.spectra:
        for known in KNOWN:
            for probes in PROBES:
                found = 100 * shares(SPECTRA[name], known, probes, asked.draws)
                figures = [found[: len(BLOCKS)].min(), *found[len(BLOCKS) :]]
                cells = " | ".join(f"{figure:.1f}" for figure in figures)
                print(f"| {name} | {known} | {probes} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
