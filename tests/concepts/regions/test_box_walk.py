"""All cells in a box against an enumeration that knows nothing but half-spaces and programs."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

import whynet
from whynet.concepts.regions.boxes import BoxRegions


def walk(net: nn.Sequential, dims: int) -> set[bytes]:
    """Enumerate patterns independently: flip every wall, and ask a linear program who is there."""
    layers = [(m.weight.detach().double().numpy(), m.bias.detach().double().numpy())
              for m in net if isinstance(m, nn.Linear)]  # fmt: skip

    def rows(pattern: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight, shift, at, found = np.eye(dims), np.zeros(dims), 0, []
        for w, b in layers[:-1]:
            weight, shift = w @ weight, w @ shift + b
            on = pattern[at : at + len(b)]
            side = np.where(on, 1.0, -1.0)
            found.append(np.column_stack([-side[:, None] * weight, side * shift]))
            weight, shift, at = on[:, None] * weight, on * shift, at + len(b)
        both = np.vstack(found)
        return both[:, :-1], both[:, -1]

    def exists(pattern: np.ndarray) -> bool:
        normals, limits = rows(pattern)
        lengths = np.linalg.norm(normals, axis=1)
        ball = linprog(
            -np.eye(dims + 1)[-1], A_ub=np.column_stack([normals, lengths]), b_ub=limits,
            bounds=[(-1, 1)] * dims + [(0, None)], method="highs",
        )  # fmt: skip
        return ball.status == 0 and -ball.fun > 1e-6

    value, start = torch.full((1, dims), 0.013, dtype=torch.float64), []
    for layer in net.double():
        if isinstance(layer, nn.ReLU):
            start.append((value > 0).numpy()[0])
        value = layer(value)
    first = np.concatenate(start)
    seen, waiting = {first.tobytes()}, [first]
    while waiting:
        here = waiting.pop()
        for unit in range(len(here)):
            there = here.copy()
            there[unit] = not there[unit]
            if there.tobytes() not in seen and exists(there):
                seen.add(there.tobytes())
                waiting.append(there)
    return seen


def test_a_walk_over_neighbors_finds_the_same_cells() -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 1))
    found = whynet.regions.cells_in_box(net, -torch.ones(3), torch.ones(3))
    assert isinstance(found, BoxRegions)
    patterns = {found.cell(i).pattern.astype(bool).tobytes() for i in range(found.count)}
    assert len(patterns) == found.count > 40
    assert patterns == walk(net, 3)
