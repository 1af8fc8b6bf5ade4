"""Covariance and tangent kernel at infinite width beside neural-tangents, in one run.

Five hidden ReLU layers, 2000 inputs of 64 features, float32. The promise is a third of the CPU
seconds of neural-tangents 0.6.5 (jitted, warm), and an error of at most 1e-6 of the largest entry
against forty digits, also next to the diagonal, where neural-tangents loses half of its digits.

    python benchmarks/infinite_width_kernel.py [--repeats 5] [--peer /path/to/python]

`--peer` is a Python that has neural-tangents (jax==jaxlib==0.4.24, numpy<2, scipy<1.13,
tf2jax==0.3.6).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mpmath import mp
from numpy.typing import NDArray

from whynet.concepts.kernels.theory.infinite_network import infinite_width
from whynet.models.families import mlp

ROWS, FEATURES, DEPTH = 2000, 64, 5
RATIO, ERROR = 3.0, 1e-6

PEER = """
import json, sys, time
import jax
import numpy
from neural_tangents import stax
layers = []
for _ in range(5):
    layers += [stax.Dense(8, W_std=2**0.5), stax.Relu()]
kernel = jax.jit(stax.serial(*layers, stax.Dense(1, W_std=1.0))[2], static_argnums=(2,))
x = jax.numpy.asarray(numpy.load(sys.argv[1]))
def run():
    found = kernel(x, None, ("nngp", "ntk"))
    found.ntk.block_until_ready()
    return found
found = run()
numpy.save(sys.argv[1] + ".ntk.npy", numpy.asarray(found.ntk))
print("ready", flush=True)
for line in sys.stdin:
    begun = time.process_time()
    run()
    print(json.dumps(time.process_time() - begun), flush=True)
"""


def exact(x: NDArray[np.float64], i: int, j: int) -> float:
    """Return an entry of the tangent kernel by forty digits."""
    with mp.workdps(40):
        rows = [[mp.mpf(float(v)) for v in x[place]] for place in (i, j)]
        one, other, c = (
            sum(a * b for a, b in zip(left, right, strict=True)) / FEATURES
            for left, right in ((rows[0], rows[0]), (rows[1], rows[1]), (rows[0], rows[1]))
        )
        scale = 2 * mp.sqrt(one * other)
        covariance = tangent = 2 * c
        for layer in range(DEPTH):
            gain = 2 if layer < DEPTH - 1 else 1
            angle = mp.acos(min(mp.mpf(1), covariance / scale))
            value = scale * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)
            covariance, tangent = (
                gain * value,
                gain * value + gain * tangent * (mp.pi - angle) / (2 * mp.pi),
            )
        return float(tangent)


def inputs() -> NDArray[np.float32]:
    """Return the inputs; the last hundred are neighbors of the first, at 1e-1 to 1e-6."""
    random = np.random.default_rng(0)
    x = random.standard_normal((ROWS, FEATURES)).astype(np.float32)
    away = 10.0 ** -np.linspace(1, 6, 100)[:, None]
    x[-100:] = x[:100] + (away * random.standard_normal((100, FEATURES))).astype(np.float32)
    return x


def main() -> int:
    """Run the benchmark; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", help="a Python that has neural-tangents")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = inputs()
    module = mlp.build(FEATURES, [64] * DEPTH, 1, parametrization="ntk", bias=False)
    limit = infinite_width(module)

    def run() -> NDArray[np.float32]:
        return limit.kernels(x, dtype=np.float32).tangent

    found = run()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x.npy")
        np.save(file, x)
        words = [asked.peer, "-c", PEER, str(file)]
        peer = (
            subprocess.Popen(words, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True)
            if asked.peer
            else None
        )
        theirs = None
        if peer is not None:
            assert peer.stdout is not None
            if peer.stdout.readline().strip() != "ready":
                raise SystemExit("the peer did not start")
            theirs = np.load(f"{file}.ntk.npy")
        own, other = [], []
        for _ in range(asked.repeats):
            begun = time.process_time()
            run()
            own.append(time.process_time() - begun)
            if peer is not None:
                assert peer.stdin is not None
                assert peer.stdout is not None
                peer.stdin.write("go\n")
                peer.stdin.flush()
                other.append(float(json.loads(peer.stdout.readline())))
        if peer is not None:
            peer.terminate()
            peer.wait()
    return 0 if _report(x.astype(np.float64), (found, theirs), (own, other)) else 1


def _report(
    x: NDArray[np.float64],
    kernels: tuple[NDArray[np.float32], NDArray[np.float32] | None],
    seconds: tuple[list[float], list[float]],
) -> bool:
    """Print errors and seconds; returns whether the promises hold."""
    places = [(i, i) for i in range(0, 100, 10)]
    places += [(i, ROWS - 100 + i) for i in range(100)]
    places += [(i, 7 * i + 3) for i in range(200)]
    wanted = np.array([exact(x, *place) for place in places])
    rows, columns = np.array(places).T
    holds = True
    for name, kernel, spent in zip(("ours", "neural-tangents"), kernels, seconds, strict=True):
        if kernel is None:
            continue
        miss = np.abs(kernel[rows, columns] - wanted).max() / np.abs(wanted).max()
        middle = statistics.median(spent)
        print(f"{name}: {middle:.3f} [{min(spent):.3f}, {max(spent):.3f}] CPU s, error {miss:.1e}")
        holds &= name != "ours" or miss <= ERROR
    if seconds[1]:
        ratio = statistics.median(seconds[1]) / statistics.median(seconds[0])
        print(f"ratio {ratio:.1f}, promise at least {RATIO:g}")
        holds &= ratio >= RATIO
    return bool(holds)


if __name__ == "__main__":
    sys.exit(main())
