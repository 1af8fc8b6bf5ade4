"""Width 4096: exact moves and cosines of neurons, each in under 10 s and all in 2 GB.

ReLU networks 256-4096-10 and 64-4096-4096-10, in float64 and float32, with planted copies, dead
units and opposite pairs in every hidden layer, and untouched random ones beside them, in which
nothing may be merged. Times are processor time on one thread; the peak resident memory is that of
a process of its own for each network, PyTorch included.

    OMP_NUM_THREADS=1 python benchmarks/wide_layers.py
"""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import time

import torch
from torch import nn

from whynet import Subject, condense, measure
from whynet.core.measurement import Measurement

WIDTH, DISTINCT, DEAD = 4096, 24, 50
SECONDS, GIGABYTES = 10.0, 2.0
NETWORKS = {"one": (256, WIDTH, 10), "two": (64, WIDTH, WIDTH, 10)}
KINDS = ("planted", "random")
PRECISIONS = {"float64": (torch.float64, 1e-12), "float32": (torch.float32, 1e-5)}


def network(sizes: tuple[int, ...], kind: str) -> nn.Sequential:
    """Return a float64 network; planted: few distinct units a layer, half of them opposite."""
    torch.manual_seed(0)
    layers = [nn.Linear(*ends).double() for ends in itertools.pairwise(sizes)]
    for layer in layers[:-1] if kind == "planted" else ():
        origin = torch.randint(0, DISTINCT, (WIDTH,))
        scale = 0.5 + torch.rand(WIDTH, dtype=torch.float64)
        scale = torch.where(torch.rand(WIDTH) < 0.5, scale, -scale)
        with torch.no_grad():
            layer.weight.copy_(layer.weight[origin] * scale[:, None])
            layer.bias.copy_(layer.bias[origin] * scale)
            layer.weight[:DEAD] = 0.0
            layer.bias[:DEAD] = -1.0
    between = [module for layer in layers for module in (layer, nn.ReLU())]
    return nn.Sequential(*between[:-1])


def one(name: str, kind: str, precision: str) -> bool:
    """Measure one network in this process and print a line; returns whether promises hold."""
    dtype, slack = PRECISIONS[precision]
    module = network(NETWORKS[name], kind).to(dtype)
    inputs = torch.randn(2000, NETWORKS[name][0], dtype=dtype)
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
    points = 30 * torch.randn(200, NETWORKS[name][0], dtype=dtype)
    with torch.no_grad():
        before, after = module(points), found.module(points)
    gap = float((before - after).abs().max() / before.abs().max())
    left = [layer.after for layer in found.layers[:-1]]
    print(
        f"{'-'.join(map(str, NETWORKS[name]))} {precision} {kind}: {WIDTH} became "
        f"{', '.join(map(str, left))}; {gap:.1e} apart off the data; exact moves {exact:.1f} s, "
        f"similarity {similarity:.1f} s, peak {peak:.2f} GiB",
        flush=True,
    )
    assert isinstance(cosines, Measurement)
    right = max(left) <= 2 * DISTINCT if kind == "planted" else min(left) == WIDTH
    quick = max(exact, similarity) < SECONDS and peak * 2**30 < GIGABYTES * 1e9
    return right and quick and gap < slack


def main() -> int:
    if len(sys.argv) > 1:
        return 0 if one(*sys.argv[1:]) else 1
    held = [
        subprocess.run([sys.executable, __file__, *case], check=False).returncode == 0
        for case in itertools.product(NETWORKS, KINDS, PRECISIONS)
    ]
    print(f"{sum(held)} of {len(held)} within {SECONDS:.0f} s and {GIGABYTES:.0f} GB")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
