"""All breakpoints of a network of a million parameters along a segment; promise: under 2 s.

The floor is one batched forward pass in float64 at as many points as there are knots: whatever
finds the pieces must at least know the network there. Both run on the same threads; repeats are
interleaved.

    python benchmarks/segment_knots.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from torch import nn

from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import piecewise_linear_graph
from whynet.models.piecewise_linear_segments import segment_pieces

PROMISE = 2.0


def network(inputs: int, width: int, depth: int) -> nn.Module:
    """Build a ReLU network by He's initialization."""
    layers: list[nn.Module] = []
    for before in [inputs, *[width] * (depth - 1)]:
        layers += [nn.Linear(before, width), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(width, 10))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.1)
    return net.eval()


def timed(name: str, net: nn.Module, shape: tuple[int, ...], repeats: int) -> float:
    """Print one line; returns the median seconds of finding the pieces."""
    generator = torch.Generator().manual_seed(1)
    start, end = (torch.randn(1, *shape, generator=generator, dtype=torch.float64) for _ in "ab")
    graph = piecewise_linear_graph(net, start[0])
    if isinstance(graph, NotApplicable):
        raise SystemExit(graph.reason)
    found = segment_pieces(graph, start, end)
    if isinstance(found, NotApplicable):
        raise SystemExit(found.reason)
    t = found.t.reshape(-1, *[1] * len(shape))
    points, twin = start + t * (end - start), net.double()
    seconds: list[float] = []
    floors: list[float] = []
    with torch.no_grad():
        gap = float((twin(points) - found.outputs).abs().max() / found.outputs.abs().max())
        for _ in range(repeats):
            begun = time.perf_counter()
            twin(points)
            middle = time.perf_counter()
            segment_pieces(graph, start, end)
            floors.append(middle - begun)
            seconds.append(time.perf_counter() - middle)
    ratios = [a / b for a, b in zip(seconds, floors, strict=True)]
    parameters = sum(p.numel() for p in net.parameters())
    print(
        f"{name}: {parameters:,} parameters, {len(t) - 2:,} breakpoints, "
        f"{statistics.median(seconds):.2f} s [{min(seconds):.2f}, {max(seconds):.2f}], floor "
        f"{statistics.median(floors):.2f} s, ratio {statistics.median(ratios):.1f} "
        f"[{min(ratios):.1f}, {max(ratios):.1f}]; largest relative difference from the network "
        f"{gap:.0e}"
    )
    return statistics.median(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    worst = max(
        timed("784-512-512-512-10", network(784, 512, 3), (784,), repeats),
        timed("64-360 eight times-10", network(64, 360, 8), (64,), repeats),
    )
    return int(worst > PROMISE)


if __name__ == "__main__":
    sys.exit(main())
