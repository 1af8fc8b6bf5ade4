"""Two-layer ReLU networks of width 1000: condensed ones become a few neurons, lazy ones do not.

Trains on a target of k neurons from weights of deviation m^(-γ/2): γ = 1.75 lies in the condensed
regime, γ = 0.5 in the linear one. Gradient descent whose steps are bounded by stability and by
accuracy takes the loss to one thousandth, L-BFGS to the end. The promise: at most 2 k + 2 neurons
at a largest relative error of 1e-3 on the data, and certified in balls around 50 rows of it, in
under 10 s of processor time, verdict included, for the condensed ones, which are called condensed;
the linear ones keep more and are called not condensed. Training takes half a minute each and is not
counted, nor is the certificate.

    OMP_NUM_THREADS=1 python benchmarks/condensed_regime.py
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from whynet import Subject, condense
from whynet.concepts.condensation.certificate import Balls, certify
from whynet.concepts.condensation.layer_directions import layer_directions, sentence

WIDTH, SECONDS, TOLERANCE = 1000, 10.0, 1e-3

# Exponent, neurons of the target, inputs, examples, seed.
CASES = (
    *((1.75, neurons, 2, 200, 0) for neurons in (1, 2, 3, 4, 5)),
    (1.75, 5, 2, 200, 1),
    (1.75, 5, 2, 200, 2),
    (1.75, 5, 5, 300, 0),
    (2.5, 5, 2, 200, 0),
    (0.5, 3, 2, 200, 0),
    (0.5, 5, 2, 200, 0),
    (0.5, 5, 5, 300, 0),
)


def target(neurons: int, inputs: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(neurons, inputs.shape[1], generator=generator, dtype=torch.float64)
    weights /= weights.norm(dim=1, keepdim=True)
    bias = 0.3 * torch.randn(neurons, generator=generator, dtype=torch.float64)
    sign = torch.sign(torch.randn(neurons, generator=generator, dtype=torch.float64))
    size = 0.7 + 0.6 * torch.rand(neurons, generator=generator, dtype=torch.float64)
    return torch.relu(inputs @ weights.T + bias) @ (sign * size)


class Training:
    """Mean squared error of a two-layer network without output bias, halved, and its slope."""

    def __init__(self, inputs: Tensor, wanted: Tensor) -> None:
        self.points = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
        self.wanted = wanted

    def __call__(self, incoming: Tensor, outgoing: Tensor) -> tuple[float, Tensor, Tensor]:
        before = self.points @ incoming.T
        hidden, active, rows = before.clamp_min(0), (before > 0).double(), len(before)
        errors = hidden @ outgoing - self.wanted
        slope = (errors[:, None] * active * outgoing).T @ self.points / rows
        return float(errors.square().mean()) / 2, slope, hidden.T @ errors / rows

    def rate(self, incoming: Tensor, outgoing: Tensor) -> float:
        """Return a step of gradient descent within stability, that follows the flow."""
        before = self.points @ incoming.T
        hidden, active, rows = before.clamp_min(0), (before > 0).double(), len(before)
        gram = hidden @ hidden.T
        gram += (active * outgoing**2) @ active.T * (self.points @ self.points.T)
        errors = hidden @ outgoing - self.wanted
        growth = float((self.points.T @ errors).abs().max()) / rows
        return min(0.45 * rows / float(torch.linalg.matrix_norm(gram, 2)), 0.05 / growth)


def trained(gamma: float, inputs: Tensor, wanted: Tensor, seed: int) -> tuple[nn.Module, float]:
    generator = torch.Generator().manual_seed(1 + seed)
    size, loss_of = WIDTH ** (-gamma / 2), Training(inputs, wanted)
    shape = (WIDTH, inputs.shape[1] + 1)
    incoming = size * torch.randn(shape, generator=generator, dtype=torch.float64)
    outgoing = size * torch.randn(WIDTH, generator=generator, dtype=torch.float64)
    rate, first = 0.0, loss_of(incoming, outgoing)[0]
    for step in range(5000):
        loss, down, across = loss_of(incoming, outgoing)
        if loss < 1e-3 * first:
            break
        rate = loss_of.rate(incoming, outgoing) if step % 10 == 0 else rate
        incoming, outgoing = incoming - rate * down, outgoing - rate * across

    def flat(vector: np.ndarray) -> tuple[float, np.ndarray]:
        both = torch.from_numpy(vector)
        loss, down, across = loss_of(both[:-WIDTH].reshape(shape), both[-WIDTH:])
        return loss, torch.cat([down.flatten(), across]).numpy()

    begin = torch.cat([incoming.flatten(), outgoing]).numpy()
    options = {"maxiter": 3000, "maxfun": 9000, "ftol": 0.0, "gtol": 1e-10, "maxcor": 20}
    done = minimize(flat, begin, jac=True, method="L-BFGS-B", options=options)
    both = torch.from_numpy(done.x)
    module = nn.Sequential(
        nn.Linear(inputs.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1, bias=False)
    ).double()
    with torch.no_grad():
        module[0].weight.copy_(both[:-WIDTH].reshape(shape)[:, :-1])
        module[0].bias.copy_(both[:-WIDTH].reshape(shape)[:, -1])
        module[2].weight.copy_(both[None, -WIDTH:])
    return module, float(done.fun)


def main() -> int:
    torch.set_num_threads(1)
    held = []
    for gamma, neurons, features, examples, seed in CASES:
        generator = torch.Generator().manual_seed(100 + seed)
        inputs = torch.randn(examples, features, generator=generator, dtype=torch.float64)
        wanted = target(neurons, inputs, seed)
        module, loss = trained(gamma, inputs, wanted, seed)
        subject = Subject(module, train=(inputs, wanted[:, None]), loss="mse")
        begin = time.process_time()
        found = condense(subject, tolerance=TOLERANCE)
        (verdict,) = layer_directions(subject)
        seconds = time.process_time() - begin
        balls = certify(subject, found.module, found.kept, balls=Balls(points=50))["balls"]
        left = found.layers[0].after
        print(
            f"γ {gamma}, target of {neurons} in {features} dimensions, seed {seed}: {WIDTH} became "
            f"{left} neurons in {seconds:.1f} s, error {found.chosen.largest:.1e} on the data, "
            f"certified {balls['certified']:.1e} within {balls['radius']:.3f} (attack "
            f"{balls['attacked']:.1e}); training loss {loss:.1e}; {sentence(verdict)}",
            flush=True,
        )
        few = left <= 2 * neurons + 2
        near = gamma < 1 or balls["certified"] <= TOLERANCE
        held.append(few == (gamma > 1) == verdict.condensed and near and seconds < SECONDS)
    print("the promise holds" if all(held) else f"the promise is broken: {held}")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
