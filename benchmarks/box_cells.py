"""All cells of a ReLU network in a box of three dimensions: cells a second, beside the floor.

The promise is 20 times the cells a second of `relucent` (local search, linear programs by Gurobi)
on the network 3-20-20-1 of PyTorch's initialization in [-1, 1]^3, with the count of an independent
enumeration that flips units and asks a linear program for each. The floor is the affine map of
every cell and layer: whatever finds the cells must at least know those.

    python benchmarks/box_cells.py [--repeats 5] [--skip-walk] [--peer /path/to/python]

`--peer` is a Python that has `relucent` and PyTorch. It searches the cells that meet the cube, in
one worker, warmed by a search of a few cells; its CPU seconds are counted with those of its worker.
Without it the fastest that was seen of it elsewhere, start included, is compared with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

import whynet
from whynet.concepts.regions.boxes import BoxRegions
from whynet.models import piecewise_linear_boxes

PEER, RATIO = 54.0, 20.0

PEER_CODE = """
import itertools, json, resource, sys
import torch, relucent

def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)

def network():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    layers = []
    for before, width in itertools.pairwise((3, 20, 20, 1)):
        layers += [torch.nn.Linear(before, width), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])

if __name__ == "__main__":
    words = dict(cube_radius=1.0, cube_mode="intersect", nworkers=1, verbose=0, verify=False)
    relucent.Complex(network()).bfs(max_polys=20, **words)
    begun = spent()
    cells = relucent.Complex(network())
    cells.bfs(**words)
    print(json.dumps([len(cells), spent() - begun]))
"""


def network(*widths: int) -> nn.Sequential:
    """Build a ReLU network of PyTorch's initialization."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cells_of(net: nn.Sequential, workers: int = 1) -> BoxRegions:
    """Find all cells in [-1, 1]^D."""
    dims = net[0].in_features
    limits = {"max_cells": 10**6, "workers": workers}
    found = whynet.regions.cells_in_box(net, -torch.ones(dims), 1, **limits)
    assert isinstance(found, BoxRegions)
    assert found.complete
    return found


def floor_of(net: nn.Sequential, centers: np.ndarray) -> float:
    """Return the seconds that the affine maps of all cells take, layer by layer, in float64."""
    layers = [layer for layer in net.double() if isinstance(layer, nn.Linear)]
    begun = time.process_time()
    with torch.no_grad():
        value = torch.as_tensor(centers)
        slopes = torch.eye(centers.shape[1], dtype=torch.float64).expand(len(centers), -1, -1)
        for number, layer in enumerate(layers):
            value, slopes = layer(value), slopes @ layer.weight.T
            if number + 1 < len(layers):
                on = value > 0
                value, slopes = value * on, slopes * on[:, None]
    return time.process_time() - begun


def walk(net: nn.Sequential, dims: int) -> int:
    """Count cells independently: flip every unit of every cell, and ask who is there."""
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in net
        if isinstance(layer, nn.Linear)
    ]

    def exists(pattern: np.ndarray) -> bool:
        weight, shift, at, rows, limits = np.eye(dims), np.zeros(dims), 0, [], []
        for w, b in layers[:-1]:
            weight, shift = w @ weight, w @ shift + b
            on = pattern[at : at + len(b)]
            side = np.where(on, 1.0, -1.0)
            slopes = -side[:, None] * weight
            rows.append(np.column_stack([slopes, np.linalg.norm(slopes, axis=1)]))
            limits.append(side * shift)
            weight, shift, at = on[:, None] * weight, on * shift, at + len(b)
        found = linprog(
            -np.eye(dims + 1)[-1], A_ub=np.vstack(rows), b_ub=np.concatenate(limits),
            bounds=[(-1, 1)] * dims + [(0, None)], method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        return found.status == 0 and -found.fun > 1e-9

    value, start = torch.full((1, dims), 0.0123, dtype=torch.float64), []
    for layer in net.double():
        if isinstance(layer, nn.ReLU):
            start.append((value > 0).numpy()[0])
        value = layer(value)
    first = np.concatenate(start)
    seen, asked, waiting = {first.tobytes()}, {first.tobytes()}, [first]
    while waiting:
        here = waiting.pop()
        for unit in range(len(here)):
            there = here.copy()
            there[unit] = not there[unit]
            if there.tobytes() not in asked:
                asked.add(there.tobytes())
                if exists(there):
                    seen.add(there.tobytes())
                    waiting.append(there)
    return len(seen)


def peer_speed(python: str) -> float:
    """Print the line of the peer on 3-20-20-1; returns cells a CPU second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "search.py")
        file.write_text(PEER_CODE, encoding="utf-8")
        done = subprocess.run([python, str(file)], check=True, capture_output=True, text=True)
    count, seconds = json.loads(done.stdout.splitlines()[-1])
    print(f"relucent: {count} cells, {seconds:.1f} CPU s, {count / seconds:.1f} cells a second")
    return float(count / seconds)


def row(repeats: int, *widths: int) -> tuple[float, BoxRegions]:
    """Print a network's line; returns cells a CPU second."""
    net = network(*widths)
    regions = cells_of(net)
    own, least = [], []
    for _ in range(repeats):
        begun = time.process_time()
        cells_of(net)
        own.append(time.process_time() - begun)
        least.append(floor_of(net, regions.cells.centers))
    seconds = statistics.median(own)
    print(
        f"{'-'.join(map(str, widths))}: {regions.count} cells, {seconds:.3f} CPU s "
        f"[{min(own):.3f}, {max(own):.3f}], {regions.count / seconds:,.0f} cells a second, "
        f"{seconds / statistics.median(least):.0f} times the floor"
    )
    return regions.count / seconds, regions


def shared(repeats: int, *widths: int) -> None:
    """Print seconds of one and of two threads in turn, and how much of the work they share."""
    net = network(*widths)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    share, finish = [], piecewise_linear_boxes._finished

    def timed(*arguments: Any) -> Any:
        begun = time.process_time()
        found = finish(*arguments)
        share.append(time.process_time() - begun)
        return found

    for workers in [1, 2] * repeats:
        begun = time.perf_counter()
        cells_of(net, workers)
        seconds[workers].append(time.perf_counter() - begun)
    piecewise_linear_boxes._finished = timed  # type: ignore[assignment]
    begun = time.process_time()
    cells_of(net)
    part = share[0] / (time.process_time() - begun)
    piecewise_linear_boxes._finished = finish
    one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
    print(
        f"{'-'.join(map(str, widths))}: {one:.3f} s by one thread, {two:.3f} s by two, which share "
        f"{part:.0%} of the work"
    )


def main() -> int:
    """Run the benchmark; 1 where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", help="a Python that has relucent")
    parser.add_argument("--skip-walk", action="store_true", help="leave out the slow enumeration")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells_of(network(3, 4, 1))  # compiled, or read from the cache
    speed, regions = row(arguments.repeats, 3, 20, 20, 1)
    for widths in ((3, 64, 64, 1), (4, 16, 16, 1), (5, 12, 12, 1), (6, 8, 8, 1)):
        row(arguments.repeats, *widths)
    row(1, 8, 8, 8, 1)
    for widths in ((3, 64, 64, 1), (5, 12, 12, 1)):
        shared(arguments.repeats, *widths)
    other = peer_speed(arguments.peer) if arguments.peer else PEER
    print(f"{speed / other:.0f} times the peer, promise at least {RATIO:g}", flush=True)
    held = speed >= RATIO * other
    if not arguments.skip_walk:
        begun = time.perf_counter()
        count = walk(network(3, 20, 20, 1), 3)
        seconds = time.perf_counter() - begun
        print(f"3-20-20-1 by an independent walk: {count} cells, {seconds:.0f} s")
        held = held and count == regions.count
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
