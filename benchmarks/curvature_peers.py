"""What `curvature_products.py` measures, of curvlinops and hessian-eigenthings.

Runs in a Python of its own, with `src` on its path for the networks alone.
"""

from __future__ import annotations

import statistics
import sys

import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from hessian_eigenthings import GGNOperator, HessianOperator
from hessian_eigenthings.loss_fns.standard import (
    supervised_forward,
    supervised_loss,
    supervised_loss_of_output,
)
from torch import nn

from curvature_networks import cpu_seconds, networks, plain_gradient


def main() -> None:
    """Print a line a product."""
    wanted, repeats, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    (module, data) = next((m, d) for name, m, d in networks() if name == wanted)
    parts = [(data[0][i : i + rows], data[1][i : i + rows]) for i in range(0, len(data[0]), rows)]
    loss = nn.CrossEntropyLoss()
    parameters = [p for p in module.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    vector, block = torch.randn(size), torch.randn(size, 8)
    options = {"check_deterministic": False}
    lines = HessianLinearOperator(module, loss, parameters, parts, **options)
    ggn = GGNLinearOperator(module, loss, parameters, parts, **options)
    things = HessianOperator(module, parts, supervised_loss(loss))
    around = GGNOperator(module, parts, supervised_forward, supervised_loss_of_output(loss))
    calls = {
        "gradient": plain_gradient(module, data, rows),
        "curvlinops Hessian": lambda: lines @ vector,
        "curvlinops Hessian, block of 8": lambda: lines @ block,
        "curvlinops Gauss-Newton": lambda: ggn @ vector,
        "curvlinops Gauss-Newton, block of 8": lambda: ggn @ block,
        "eigenthings Hessian": lambda: things.matvec(vector),
        "eigenthings Gauss-Newton": lambda: around.matvec(vector),
    }
    found = cpu_seconds(calls, repeats)
    gradient = found.pop("gradient")
    for words, seconds in found.items():
        per = 8 if "block" in words else 1
        ratios = [a / b / per for a, b in zip(seconds, gradient, strict=True)]
        spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"  peer: {words:36s} {statistics.median(ratios):.2f} {spread}", flush=True)


if __name__ == "__main__":
    main()
