"""Width 4096: exact moves and cosines of neurons in under 10 s and 2 GB.

A ReLU network 256-4096-10 with planted copies, dead units and opposite pairs, in float64, one
thread; the peak resident memory is that of the whole process, PyTorch included.

    OMP_NUM_THREADS=1 python benchmarks/wide_layers.py
"""

from __future__ import annotations

import resource
import sys
import time

import torch
from torch import nn

from whynet import Subject, condense, measure
from whynet.core.measurement import Measurement

WIDTH, DISTINCT, INPUTS = 4096, 24, 256
SECONDS, GIGABYTES = 10.0, 2.0


def planted() -> tuple[nn.Module, int]:
    """Return a wide network of few distinct units, half of them beside their opposites."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)).double()
    origin = torch.randint(0, DISTINCT, (WIDTH,))
    scale = (0.5 + torch.rand(WIDTH, dtype=torch.float64))[:, None]
    sign = torch.where(torch.rand(WIDTH) < 0.5, 1.0, -1.0).double()[:, None]
    with torch.no_grad():
        rows = module[0].weight[:DISTINCT][origin] * scale * sign
        bias = module[0].bias[:DISTINCT][origin] * (scale * sign)[:, 0]
        module[0].weight.copy_(rows)
        module[0].bias.copy_(bias)
        module[0].weight[:50] = 0.0
        module[0].bias[:50] = -1.0
    return module, 2 * DISTINCT


def main() -> int:
    module, distinct = planted()
    inputs = torch.randn(2000, INPUTS, dtype=torch.float64)
    with torch.no_grad():
        labels = module(inputs).argmax(1)
    subject = Subject(module, train=(inputs, labels), test=(inputs, labels), loss="cross_entropy")
    begin = time.process_time()
    found = condense(subject, exact_only=True)
    exact = time.process_time() - begin
    begin = time.process_time()
    cosines = measure("neuron-similarity", subject)
    similarity = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    points = 30 * torch.randn(200, INPUTS, dtype=torch.float64)
    with torch.no_grad():
        before, after = module(points), found.module(points)
    gap = float((before - after).abs().max() / before.abs().max())
    left = found.layers[0].after
    print(f"{WIDTH} units became {left} (planted: {distinct}), off the data {gap:.1e} apart")
    print(f"exact moves {exact:.2f} s, similarity {similarity:.2f} s, peak {peak:.2f} GiB")
    assert isinstance(cosines, Measurement)
    held = exact + similarity < SECONDS and peak < GIGABYTES and left <= distinct and gap < 1e-12
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
