"""Eigenvalues, densities and traces from few products, beside the peers.

Promises: the ten largest eigenvalues of the network 64-256-256-10 to 1e-3 in at most 20 products;
on 64-32-10 (2,410 parameters, float64) a density within 4e-4 of the largest eigenvalue (distance
of Wasserstein-1 to all eigenvalues) from 4 probes of 40 steps, and a trace within 7e-3 from 30
products, in the mean over 200 seeds, whose intervals cover.

    OMP_NUM_THREADS=1 python benchmarks/curvature_spectra.py [--peer PYTHON]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import whynet
from curvature_networks import Data, small_network, trained_network
from whynet.derivatives.products import CurvatureOperator
from whynet.models.subject import Subject
from whynet.numerics.converged_quadrature import converged_quadrature
from whynet.numerics.exchangeable_trace import exchangeable_samples, exchangeable_trace
from whynet.numerics.thick_restart import extreme_eigenpairs

SEEDS = 20


def operator_of(made: tuple[nn.Module, Data]) -> CurvatureOperator:
    """Return the Hessian on all rows in one batch."""
    module, data = made
    return whynet.curvature.hessian(Subject(module, train=data, batch_size=2000))


def top(products: int) -> bool:
    """Print products, seconds and error of the ten largest eigenvalues."""
    operator = operator_of(trained_network())
    first = torch.randn(operator.size)
    operator @ first
    started = time.process_time()
    found = extreme_eigenpairs(operator.matvec, operator.size, largest=10, seed=1)
    seconds = time.process_time() - started
    exact = extreme_eigenpairs(operator.matvec, operator.size, largest=10, tolerance=1e-7, seed=2)
    error = np.abs(found.values / exact.values - 1).max()
    print(
        f"ten largest of {operator.size:,}: {found.products} products, {seconds:.2f} CPU s, "
        f"relative error {error:.1e}, bound {np.max(found.residuals / found.values):.1e} at most"
    )
    return found.products <= products and error <= 1e-3


def density_and_trace() -> bool:
    """Print distance and error over seeds, and how often the interval of the trace covers."""
    operator = operator_of(small_network())
    matrix = operator.to_dense()
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).numpy()
    size, total = len(values), values.sum()

    def product(columns: torch.Tensor) -> torch.Tensor:
        return matrix @ columns

    far = [
        converged_quadrature(product, size, seed=100 * seed, dtype=torch.float64).distance(values)
        / values[-1]
        for seed in range(SEEDS)
    ]
    print(
        f"density, 4 probes of 40 steps: {np.mean(far):.1e} of the largest, {max(far):.1e} at most"
    )
    kept = True
    for products, promise in ((30, 7e-3), (98, np.inf)):
        found = [
            exchangeable_trace(
                exchangeable_samples(product, size, products=products, seed=s, dtype=torch.float64)
            )
            for s in range(10 * SEEDS)
        ]
        errors = [abs(each.value / total - 1) for each in found]
        covered = np.mean([each.low <= total <= each.high for each in found])
        print(
            f"trace, {products} products: mean relative error {np.mean(errors[:SEEDS]):.1e} over "
            f"{SEEDS} seeds ({max(errors[:SEEDS]):.1e} at most), {np.mean(errors):.1e} over "
            f"{len(found)}; intervals cover {covered:.1%}"
        )
        kept &= np.mean(errors) <= promise and covered >= 0.93
    return kept and bool(np.mean(far) <= 4e-4)


def main() -> int:
    """Print all; returns 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python with curvlinops and hessian-eigenthings")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    holds = top(20)
    holds &= density_and_trace()
    if asked.peer:
        here = Path(__file__).parent
        path = os.pathsep.join([str(here), str(here.parent / "src")])
        command = [asked.peer, here / "curvature_spectra_peers.py"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
