"""How near the drawn spectral density comes to the exact smoothed one, on a network small enough.

For scales and widths of the grid: L1 distance to the dense spectrum smoothed alike, one set of 30
probes; for the defaults also the share of places inside the band, over 30 sets. The defaults were
chosen on these two networks, so that the figures say why, and not how it goes elsewhere.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from whynet.derivatives.plan import Plan
from whynet.derivatives.products import hessian
from whynet.derivatives.subject_objective import objective_from, plan_for
from whynet.models.subject import Subject
from whynet.numerics import lanczos_quadrature as slq
from whynet.numerics.spectral_grid import density_grid


def network(steps: int, data: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    torch.manual_seed(0 if steps == 0 else 1)
    net = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(data[0]), data[1]).backward()
        optimizer.step()
    return net


def main() -> None:
    x, y = load_digits(return_X_y=True)
    data = torch.tensor(x[:400] / 16).float(), torch.tensor(y[:400])
    for trained in (0, 200):
        subject = Subject(network(trained, data), train=data)
        plan = plan_for(subject)
        assert isinstance(plan, Plan)
        operator = hessian(objective_from(subject), plan)
        dense = operator.matmat(torch.eye(operator.size)).double()
        values, vectors = torch.linalg.eigh((dense + dense.T) / 2)
        top = vectors[:, -8:].float()
        exact = values.numpy()
        for steps in (16, 20):
            sets = [
                slq.lanczos_quadrature(
                    operator.matmat, operator.size, steps=steps, probes=30, seed=s, deflation=top
                )
                for s in range(30)
            ]
            for scale, width in ((1000, 60), (100, 30), (50, 25)):
                grid = density_grid(exact[0], exact[-1], points=400, threshold=exact[-1] / scale)
                sigma = float(grid.transform(exact[-1]) - grid.transform(exact[0])) / width
                true = slq.exact_density(exact, operator.size, grid, sigma)
                known = slq.exact_density(exact[-8:], operator.size, grid, sigma)
                gaps, inside = [], []
                for found in sets:
                    drawn = slq.spectral_density(found.nodes, found.weights, grid, sigma)
                    band = slq.density_band(drawn, known)
                    slack = 1e-4 * true.max()
                    inside.append((band.low - slack <= true) & (true <= band.high + slack))
                    step = grid.coordinate[1] - grid.coordinate[0]
                    gaps.append(np.abs(band.value - true).sum() * step)
                print(
                    f"{trained:4d} training steps, {steps} Lanczos steps, threshold 1/{scale}, "
                    f"width 1/{width}: L1 {np.mean(gaps):.3f}, inside {np.mean(inside):.2f}"
                )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
