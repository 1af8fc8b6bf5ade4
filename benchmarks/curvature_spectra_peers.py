"""What `curvature_spectra.py` measures, of curvlinops and hessian-eigenthings."""

from __future__ import annotations

import time

import numpy as np
import torch
from curvlinops import HessianLinearOperator, hutchpp_trace, xtrace
from hessian_eigenthings import HessianOperator, LambdaOperator, lanczos, spectral_density
from hessian_eigenthings.loss_fns.standard import supervised_loss
from scipy.stats import wasserstein_distance
from torch import nn

from curvature_networks import small_network, trained_network

SEEDS = 20


def top() -> None:
    module, data = trained_network()
    operator = HessianOperator(module, [data], supervised_loss(nn.CrossEntropyLoss()))
    operator.matvec(torch.randn(operator.size))
    exact = lanczos(
        operator, k=10, max_iter=50, tol=1e-7, seed=2, which="LA", reorthogonalize=True
    ).eigenvalues
    started = time.process_time()
    found = lanczos(operator, k=10, tol=1e-3, seed=1, which="LA")
    seconds = time.process_time() - started
    error = float((found.eigenvalues.sort()[0] / exact.sort()[0] - 1).abs().max())
    print(f"  peer: eigenthings lanczos, {found.iterations} products, {seconds:.2f} CPU s")
    print(f"        relative error {error:.1e}")


def density_and_trace() -> None:
    module, data = small_network()
    parameters = [p for p in module.parameters() if p.requires_grad]
    lines = HessianLinearOperator(
        module, nn.CrossEntropyLoss(), parameters, [data], check_deterministic=False
    )
    matrix = lines @ torch.eye(lines.shape[1], dtype=torch.float64)
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).numpy()
    for name, estimate in (("XTrace", xtrace), ("Hutch++", hutchpp_trace)):
        errors = []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            errors.append(abs(float(estimate(lines, 30)) / values.sum() - 1))
        print(f"  peer: curvlinops {name}, 30 products: {np.mean(errors):.1e} ({max(errors):.1e})")
    held = LambdaOperator(lambda v: matrix @ v, len(values), dtype=torch.float64)
    far = []
    for seed in range(5):
        found = spectral_density(held, num_runs=4, lanczos_steps=40, seed=seed)
        grid, height = (np.asarray(part, dtype=np.float64) for part in (found.grid, found.density))
        far.append(wasserstein_distance(grid, values, height.clip(0)) / values[-1])
    print(f"  peer: eigenthings density on its grid: {np.mean(far):.1e} of the largest")


if __name__ == "__main__":
    torch.set_num_threads(1)
    top()
    try:
        density_and_trace()
    except (TypeError, AttributeError) as error:
        print(f"  peer: {error}")
