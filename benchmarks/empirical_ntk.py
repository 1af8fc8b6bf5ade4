"""The empirical tangent kernel beside neural-tangents, its best peer, in one run.

The promise is that the full kernel [n, n, O, O] in float32 takes no more CPU seconds than the
structured derivatives of neural-tangents 0.6.5 (jitted, warm), at 1 and at 10 outputs, of

- a ReLU network 64-1024-1024-1024-O on 256 inputs,
- a convolutional one on 128 images 1x16x16: twice 32 channels of 3x3, ReLU, and a linear layer.

Both are compared with Jacobians in float64. Repeats are interleaved; the probe that chooses the way
is reported apart, as compilation is for the peer.

    python benchmarks/empirical_ntk.py [--repeats 5] [--peer /path/to/python]

`--peer` is a Python that has neural-tangents (jax==jaxlib==0.4.24, numpy<2, scipy<1.13,
tf2jax==0.3.6); without it the floor alone stands beside: forward pass, one backward pass an output
and the multiplications of half of the Gram matrices.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.subject import Subject

WIDTH, CHANNELS = 1024, 32

PEER = """
import json, sys, time
import jax
import jax.numpy as np
import numpy
import neural_tangents as nt
from jax import lax
data = numpy.load(sys.argv[1])
kind = sys.argv[2]
x = np.asarray(data["x"])
params = [data[f"p{i}"] for i in range(len(data.files) - 1)]
params = [np.asarray(p.T.copy() if p.ndim == 2 else p) for p in params]

def dense(params, x):
    for i in range(0, len(params), 2):
        x = np.dot(x, params[i]) + params[i + 1]
        x = np.maximum(x, 0.0) if i + 2 < len(params) else x
    return x

def convolution(params, x):
    for i in (0, 2):
        numbers = ("NCHW", "OIHW", "NCHW")
        x = lax.conv_general_dilated(x, params[i], (1, 1), "SAME", dimension_numbers=numbers)
        x = np.maximum(x + params[i + 1][None, :, None, None], 0.0)
    return np.dot(x.reshape(len(x), -1), params[4]) + params[5]

network = dense if kind == "dense" else convolution
way = getattr(nt.NtkImplementation, sys.argv[3])
kernel = jax.jit(nt.empirical_ntk_fn(
    lambda params, x: network(params, x), trace_axes=(), vmap_axes=0, implementation=way,
))
def run():
    kernel(x, None, params).block_until_ready()
run()
found = kernel(x, None, params)
numpy.save(sys.argv[1] + ".kernel.npy", numpy.asarray(found[:4, :4]))
print("ready", flush=True)
for line in sys.stdin:
    begun = time.process_time()
    run()
    print(json.dumps(time.process_time() - begun), flush=True)
"""


def dense(outputs: int) -> tuple[nn.Sequential, Tensor]:
    """Return the fully connected network and its inputs."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs),
    )  # fmt: skip
    return module, torch.randn(256, 64)


def convolutional(outputs: int) -> tuple[nn.Sequential, Tensor]:
    """Return the convolutional network and its inputs."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3, padding=1), nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(CHANNELS * 256, outputs),
    )  # fmt: skip
    return module, torch.randn(128, 1, 16, 16)


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def reference(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return the kernel of four rows by Jacobians in float64, `[4, 4, O, O]`."""
    wide = module.double()
    parameters = {name: p.detach() for name, p in wide.named_parameters()}
    rows = inputs[:4].double()
    found = jacrev(lambda p: functional_call(wide, p, (rows,)))(parameters)
    flat = torch.cat([part.flatten(2) for part in found.values()], dim=2)
    module.float()
    return torch.einsum("icp,jdp->ijcd", flat, flat)


def peer_of(python: str, module: nn.Module, inputs: Tensor, kind: str, way: str) -> Peer:
    """Start the peer and wait until it is compiled."""
    folder = tempfile.mkdtemp()
    file = Path(folder, "network.npz")
    arrays = {f"p{i}": p.detach().numpy() for i, p in enumerate(module.parameters())}
    np.savez(file, allow_pickle=False, x=inputs.numpy(), **arrays)
    words = [python, "-c", PEER, str(file), kind, way]
    process = subprocess.Popen(words, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"the peer did not start: {way}")
    return Peer(process, torch.as_tensor(np.load(f"{file}.kernel.npy")))


class Peer:
    """A running peer: each call computes the kernel once and returns its CPU seconds."""

    def __init__(self, process: subprocess.Popen[str], kernel: Tensor) -> None:
        self.process = process
        self.kernel = kernel

    def __call__(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def row(name: str, kind: str, outputs: int, repeats: int, python: str | None) -> bool:
    """Print one row; returns whether the promise holds."""
    module, inputs = (dense if kind == "dense" else convolutional)(outputs)
    held = Subject(module, train=(inputs, torch.zeros(len(inputs), outputs)), loss="mse")
    plan: NtkPlan = plan_ntk(held, inputs)
    probe = cpu_seconds(lambda: plan_ntk(held, inputs))
    wanted = reference(module, inputs)
    own_kernel = empirical_ntk(held, inputs, form="full", plan=plan).permute(0, 2, 1, 3)[:4, :4]
    ways = (
        ("STRUCTURED_DERIVATIVES", "JACOBIAN_CONTRACTION")
        if kind != "dense"
        else ("STRUCTURED_DERIVATIVES",)
    )
    peers = [peer_of(python, module, inputs, kind, way) for way in ways] if python else []
    own: list[float] = []
    other: list[list[float]] = [[] for _ in peers]
    for _ in range(repeats):
        own.append(cpu_seconds(lambda: empirical_ntk(held, inputs, form="full", plan=plan)))
        for peer, seconds in zip(peers, other, strict=True):
            seconds.append(peer())
    miss = float((own_kernel - wanted).abs().max() / wanted.abs().max())
    print(f"{name}, {outputs} outputs: {_words(own)} CPU s, error {miss:.0e}, probe {probe:.3f}")
    holds = True
    for way, peer, seconds in zip(ways, peers, other, strict=False):
        gap = float((peer.kernel - wanted).abs().max() / wanted.abs().max())
        ratio = statistics.median(own) / statistics.median(seconds)
        print(f"    {way.lower()}: {_words(seconds)}, error {gap:.0e}; ours is {ratio:.2f} of it")
        holds &= ratio <= 1
        peer.close()
    return holds


def _words(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} [{min(seconds):.3f}, {max(seconds):.3f}]"


def main() -> int:
    """Run the benchmark; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", help="a Python that has neural-tangents")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row(name, kind, outputs, asked.repeats, asked.peer)
        for name, kind in (("64-1024-1024-1024-O", "dense"), ("convolutions", "convolution"))
        for outputs in (1, 10)
    ]
    return 0 if all(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
