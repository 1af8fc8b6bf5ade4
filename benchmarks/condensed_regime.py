"""Two-layer ReLU networks of width 1000: condensed ones become a few neurons, lazy ones do not.

Trains on a target of k neurons by gradient descent whose steps are bounded by stability and by
accuracy, from weights of deviation m^(-γ/2): γ = 1.75 lies in the condensed regime, γ = 0.5 in the
linear one. The promise: at most 2 k + 2 neurons at a largest relative error of 1e-3 on the data in
under 10 s of processor time, for the condensed ones; training takes minutes and is not counted.

    OMP_NUM_THREADS=1 python benchmarks/condensed_regime.py [--steps 20000]
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from torch import Tensor, nn

from whynet import Subject, condense
from whynet.concepts.condensation.certificate import Balls, certify

WIDTH, SECONDS, TOLERANCE = 1000, 10.0, 1e-3


def target(neurons: int, inputs: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(neurons, inputs.shape[1], generator=generator, dtype=torch.float64)
    weights /= weights.norm(dim=1, keepdim=True)
    bias = 0.3 * torch.randn(neurons, generator=generator, dtype=torch.float64)
    sign = torch.sign(torch.randn(neurons, generator=generator, dtype=torch.float64))
    size = 0.7 + 0.6 * torch.rand(neurons, generator=generator, dtype=torch.float64)
    return torch.relu(inputs @ weights.T + bias) @ (sign * size)


def trained(gamma: float, inputs: Tensor, wanted: Tensor, steps: int) -> tuple[nn.Module, float]:
    """Train until the loss is below 1e-7 or the steps are done."""
    generator = torch.Generator().manual_seed(1)
    rows, size = len(inputs), WIDTH ** (-gamma / 2)
    points = torch.cat([inputs, torch.ones(rows, 1, dtype=torch.float64)], 1)
    weights = size * torch.randn(WIDTH, points.shape[1], generator=generator, dtype=torch.float64)
    outgoing = size * torch.randn(WIDTH, generator=generator, dtype=torch.float64)
    vector, curvature, loss = torch.ones(rows, dtype=torch.float64), 1.0, torch.inf
    for step in range(steps):
        before = points @ weights.T
        hidden, active = before.clamp_min(0), (before > 0).double()
        errors = hidden @ outgoing - wanted
        loss = float(errors.square().mean()) / 2
        if loss < 1e-7:
            break
        if step % 10 == 0:
            gram = hidden @ hidden.T + (active * outgoing**2) @ active.T * (points @ points.T)
            for _ in range(30 if step == 0 else 3):
                vector = gram @ vector
                curvature = float(vector.norm()) / rows
                vector = vector / vector.norm()
        growth = float((points.T @ errors).abs().max()) / rows
        rate = min(0.5 / (1.1 * curvature), 0.05 / growth)
        slope = (errors[:, None] * active * outgoing).T @ points / rows
        outgoing = outgoing - rate * hidden.T @ errors / rows
        weights = weights - rate * slope
    module = nn.Sequential(
        nn.Linear(inputs.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1, bias=False)
    ).double()
    with torch.no_grad():
        module[0].weight.copy_(weights[:, :-1])
        module[0].bias.copy_(weights[:, -1])
        module[2].weight.copy_(outgoing[None])
    return module, loss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    held = []
    for gamma, neurons in ((1.75, 1), (1.75, 2), (1.75, 3), (1.75, 5), (0.5, 3)):
        generator = torch.Generator().manual_seed(100)
        inputs = torch.randn(200, 2, generator=generator, dtype=torch.float64)
        wanted = target(neurons, inputs, 0)
        module, loss = trained(gamma, inputs, wanted, given.steps)
        subject = Subject(module, train=(inputs, wanted[:, None]), loss="mse")
        begin = time.process_time()
        found = condense(subject, tolerance=TOLERANCE)
        seconds = time.process_time() - begin
        balls = certify(subject, found.module, found.kept, balls=Balls(points=50))["balls"]
        left = found.layers[0].after
        print(
            f"γ {gamma}, target of {neurons}: {WIDTH} became {left} neurons in {seconds:.1f} s, "
            f"error {found.chosen.largest:.1e} on the data, proven {balls['proven']:.1e} within "
            f"{balls['radius']:.3f} (attack {balls['attacked']:.1e}); training loss {loss:.1e}",
            flush=True,
        )
        if gamma > 1:
            held.append(left <= 2 * neurons + 2 and seconds < SECONDS)
        else:
            held.append(left > 4 * (2 * neurons + 2))
    print("the promise holds" if all(held) else f"the promise is broken: {held}")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
