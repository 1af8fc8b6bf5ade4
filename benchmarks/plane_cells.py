"""All cells of ReLU networks on a square, exactly: seconds beside the floor and beside regioncam.

The promise is a quarter of the CPU seconds of `regioncam` (Rust, single precision) on the networks
2-64-64-64-1 and 2-128-128-128-1 of PyTorch's initialization on [-1, 1]^2, on one core, in float64
with vertices right to 1e-12; and a million cells in under 15 s and 4 GB on two cores, which must be
idle for that. The floor is the network itself at the vertices at which each layer was met: whatever
finds the cells must at least know their affine maps, of which a vertex carries a third.

    python benchmarks/plane_cells.py [--repeats 7] [--peer /path/to/python]

`--peer` is a Python that has `regioncam` and NumPy; both run in turn, in one go.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph, piecewise_linear_graph
from whynet.models.piecewise_linear_planes import subdivide
from whynet.numerics.plane_cells import PlaneCells

RATIO, SECONDS, GIGABYTES, CORES = 4.0, 15.0, 4.0, 2
"""Least ratio to the peer; most seconds and memory for a million cells, and the cores they take."""

EXACT = 1e-12
"""Largest distance of a vertex from the walls that meet there."""

WIDE_SECONDS = 120.0
"""Of the networks of width 1024, whose layers take most of it; the promise is that they are cut."""

SQUARE = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])

PEER = """
import json, sys, time
import numpy as np
import regioncam
data = np.load(sys.argv[1])
layers = [(data[f"w{i}"].T.copy(), data[f"b{i}"]) for i in range(len(data.files) // 2)]
seconds = []
for _ in range(2):
    begun = time.process_time()
    regions = regioncam.Regioncam(size=1.0)
    for i, (weight, bias) in enumerate(layers):
        regions.linear(weight, bias)
        if i + 1 < len(layers):
            regions.relu()
    seconds.append(time.process_time() - begun)
print(json.dumps([regions.num_faces, min(seconds)]))
"""


def network(*widths: int, std: float | None = None) -> nn.Sequential:
    """Build a ReLU network: PyTorch's initialization, or normal weights where `std` is given."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Linear(before, width), nn.ReLU()]
    for layer in layers:
        if std is not None and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std / layer.in_features**0.5)
            nn.init.normal_(layer.bias, std=0.3)
    return nn.Sequential(*layers[:-1])


def graph_of(module: nn.Module, *shape: int) -> PiecewiseLinearGraph:
    """Read a network as a graph."""
    graph = piecewise_linear_graph(module.eval(), torch.zeros(shape))
    if isinstance(graph, NotApplicable):
        raise SystemExit(graph.reason)
    return graph


def cut(graph: PiecewiseLinearGraph, most: int = 4_000_000, scale: float = 1.0) -> PlaneCells:
    """Cut the square in the plane of the first two inputs, or in a drawn one of more inputs."""
    size = graph.input_shape
    if size == (2,):
        origin, axes = torch.zeros(2), torch.eye(2)
    else:
        generator = torch.Generator().manual_seed(1)
        origin, axes = (torch.randn(*k, *size, generator=generator) for k in ((), (2,)))
    return subdivide(graph, origin, axes, scale * SQUARE, most)


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def floor_of(module: nn.Sequential) -> Callable[[], None]:
    """Return what passes through each layer the vertices of the cells that the layer met."""
    layers = [layer for layer in module.double() if isinstance(layer, nn.Linear)]
    at = []
    for depth in range(1, len(layers)):
        graph = graph_of(module[: 2 * depth], 2)
        at.append(torch.as_tensor(cut(graph).vertices))
    sizes = [4, *(len(points) for points in at)]
    inputs = [
        torch.randn(n, layer.in_features).double() for n, layer in zip(sizes, layers, strict=True)
    ]

    def run() -> None:
        with torch.no_grad():
            for layer, points in zip(layers, inputs, strict=True):
                layer(points).relu()

    return run


def off_walls(module: nn.Module, cells: PlaneCells) -> float:
    """Return the largest distance of a vertex inside the square from the nearer two walls of units.

    To first order, from the network's own numbers before its activations: a vertex lies where two
    of them are zero.
    """
    vertices = torch.tensor(cells.vertices)
    points = vertices[(vertices.abs() < 1 - 1e-9).all(1)].requires_grad_(True)
    numbers, held = [], points
    for layer in module.double().children():
        held = layer(held)
        if isinstance(layer, nn.Linear):
            numbers.append(held)
    units = torch.cat(numbers[:-1], 1)
    nearest = units.abs().topk(2, dim=1, largest=False).indices
    found = []
    for column in nearest.T:
        (slope,) = torch.autograd.grad(
            units.gather(1, column[:, None]).sum(), points, retain_graph=True
        )
        found.append(units.gather(1, column[:, None])[:, 0].abs() / slope.norm(dim=1))
    return float(torch.stack(found).detach().max())


def beside_the_peer(width: int, peer: str | None, repeats: int) -> bool:
    """Print the row of a network of three equal layers; returns whether the promise holds."""
    module = network(2, width, width, width, 1)
    linear = [layer for layer in module if isinstance(layer, nn.Linear)]
    arrays = {f"w{i}": layer.weight.detach().numpy() for i, layer in enumerate(linear)}
    arrays |= {f"b{i}": layer.bias.detach().numpy() for i, layer in enumerate(linear)}
    graph = graph_of(module, 2)
    cells = cut(graph)
    count = len(cells.offsets) - 1
    floor = floor_of(network(2, width, width, width, 1))
    own, least, other = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.npz")
        np.savez(file, allow_pickle=False, **arrays)
        for _ in range(repeats):
            own.append(cpu_seconds(lambda: cut(graph)))
            least.append(cpu_seconds(floor))
            if peer:
                words = [peer, "-c", PEER, str(file)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                faces, seconds = json.loads(done.stdout)
                other.append(seconds)
                assert faces == count, f"regioncam finds {faces} cells"
    line = f"2-{width}-{width}-{width}-1: {count} cells, {statistics.median(own):.4f} CPU s"
    line += f" [{min(own):.4f}, {max(own):.4f}], "
    line += f"{statistics.median(own) / statistics.median(least):.1f} times the floor; "
    off = off_walls(module, cells)
    line += f"vertices off their walls by at most {off:.1e}"
    if not other:
        print(line)
        return off <= EXACT
    ratio = statistics.median(other) / statistics.median(own)
    line += f"; regioncam {statistics.median(other):.4f} [{min(other):.4f}, {max(other):.4f}]"
    print(f"{line}; ratio {ratio:.1f}, promise at least {RATIO:g}")
    return ratio >= RATIO and off <= EXACT


def many(name: str, module: nn.Module, shape: tuple[int, ...], scale: float, most: float) -> bool:
    """Print seconds and memory of one large subdivision."""
    graph = graph_of(module, *shape)
    begun, busy = time.perf_counter(), time.process_time()
    cells = cut(graph, scale=scale)
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    count = len(cells.offsets) - 1
    line = f"{name}: {count} cells in {seconds:.1f} s of {CORES} cores ({busy:.1f} CPU seconds)"
    print(f"{line}, peak of the process {memory:.2f} GB", flush=True)
    return seconds <= most and memory <= GIGABYTES


def convolutional(channels: int, side: int, pool: type[nn.Module]) -> nn.Sequential:
    """Build a convolutional network of two layers and a head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), pool(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), pool(2), nn.Flatten(),
        nn.Linear(16 * (side // 4) ** 2, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def main() -> int:
    """Run the benchmark; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peer", help="a Python that has regioncam")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cut(graph_of(network(2, 8, 1), 2))  # compiled, or read from the cache
    held = [beside_the_peer(w, arguments.peer, arguments.repeats) for w in (64, 128)]
    torch.set_num_threads(CORES)
    deep = network(2, *[64] * 16, 1, std=2.0)
    held.append(many("2-(64, 16 times)-1", deep, (2,), 1.25, SECONDS))
    deeper = network(2, *[128] * 16, 1, std=2.0)
    held.append(many("2-(128, 16 times)-1", deeper, (2,), 0.31, SECONDS))
    wide = network(2, 1024, 1024, 1)
    held.append(many("2-1024-1024-1", wide, (2,), 1.0, WIDE_SECONDS))
    deepest = network(2, *[64] * 20, 1, std=2.0)
    held.append(many("2-(64, 20 times)-1", deepest, (2,), 1.0, SECONDS))
    largest = network(2, *[1024] * 20, 1, std=2.0)
    held.append(many("2-(1024, 20 times)-1", largest, (2,), 0.01, WIDE_SECONDS))
    for name, pool in (("means", nn.AvgPool2d), ("maxima", nn.MaxPool2d)):
        small, large = convolutional(1, 8, pool), convolutional(3, 32, pool)
        held.append(many(f"convolutions, {name}, 1x8x8", small, (1, 8, 8), 0.8, 30.0))
        scale = 0.0405 if pool is nn.AvgPool2d else 0.029
        held.append(many(f"convolutions, {name}, 3x32x32", large, (3, 32, 32), scale, 30.0))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
