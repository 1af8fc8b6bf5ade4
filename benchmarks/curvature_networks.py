"""The networks and data that `curvature_products.py` and its peers measure; plain PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise, repeat

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from whynet.models.families import convolutional, transformer

Data = tuple[Tensor, Tensor]


def networks() -> Iterator[tuple[str, nn.Module, Data]]:
    """Three networks of 69,066 to 93,962 parameters on all 1,797 digits, float32."""
    x, y = load_digits(return_X_y=True)
    flat, labels = torch.tensor(x / 16).float(), torch.tensor(y)
    images = flat.reshape(-1, 1, 8, 8)
    torch.manual_seed(0)
    layers = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    yield "mlp", nn.Sequential(*layers), (flat, labels)
    network = convolutional.build((1, 8, 8), (32, 64, 128), 10)
    for part in network:
        if (
            isinstance(part, nn.Conv2d) and part.bias is not None
        ):  # biases of zero put empty pixels exactly on kinks
            nn.init.normal_(part.bias, std=0.1)
    yield "cnn", network, (images, labels)
    yield "transformer", transformer.build((1, 8, 8), 2, 10, width=64), (images, labels)


def cpu_seconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time calls in turn, so that a change of the machine's load meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in repeat(None, repeats):
        for name, call in calls.items():
            started = time.process_time()
            call()
            found[name].append(time.process_time() - started)
    return found


def plain_gradient(module: nn.Module, data: Data, rows: int) -> Callable[[], object]:
    """The floor: the gradient of the loss by PyTorch on batches that lie in memory."""
    parts = [(data[0][i : i + rows], data[1][i : i + rows]) for i in range(0, len(data[0]), rows)]
    parameters = list(module.parameters())

    def call() -> None:
        for inputs, targets in parts:
            loss = nn.functional.cross_entropy(module(inputs), targets, reduction="sum")
            torch.autograd.grad(loss, parameters)

    return call


def _trained(sizes: tuple[int, ...], steps: int, dtype: torch.dtype) -> tuple[nn.Module, Data]:
    x, y = load_digits(return_X_y=True)
    data = torch.tensor(x / 16).to(dtype), torch.tensor(y)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    module = nn.Sequential(*layers[:-1]).to(dtype)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2 if len(sizes) == 3 else 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(module(data[0]), data[1]))
        optimizer.step()
    return module, data


def small_network() -> tuple[nn.Module, Data]:
    """64-32-10 after 100 steps of Adam on all digits, float64."""
    return _trained((64, 32, 10), 100, torch.float64)


def trained_network() -> tuple[nn.Module, Data]:
    """64-256-256-10 after 50 steps of Adam on all digits, float32."""
    return _trained((64, 256, 256, 10), 50, torch.float32)
