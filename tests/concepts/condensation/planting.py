"""Networks with planted redundancy: units split into copies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from whynet.concepts.condensation.workplace import outgoing_of, set_outgoing
from whynet.models.channel_flow import channel_groups, is_simple
from whynet.models.channel_nodes import Group, Normalized, walk
from whynet.models.families.transformer import build as build_transformer
from whynet.models.resizing import held_state, set_tensor


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_second = nn.BatchNorm2d(channels)

    def forward(self, images: Tensor) -> Tensor:
        inner = torch.relu(self.norm_first(self.first(images)))
        return torch.relu(images + self.norm_second(self.second(inner)))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.Sequential(Block(channels), Block(channels))
        self.head = nn.Linear(channels, 3)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.blocks(torch.relu(self.stem(images))).mean((2, 3))
        return self.head(pooled)


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.gate = nn.Linear(4, width, bias=False)
        self.up = nn.Linear(4, width, bias=False)
        self.down = nn.Linear(width, 4, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        read = self.norm(tokens)
        return tokens + self.down(nn.functional.silu(self.gate(read)) * self.up(read))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 5),
        nn.ReLU(),
        nn.Linear(5, 4),
        nn.Tanh(),
        nn.Linear(4, 3),
        nn.LeakyReLU(0.1),
        nn.Linear(3, 2),
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=1),
        nn.Flatten(),
        nn.Linear(36, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (4,)),
    "cnn": (cnn, (1, 8, 8)),
    "residual": (lambda: Residual(3), (1, 6, 6)),
    "transformer": (
        lambda: build_transformer((1, 4, 4), 2, 3, width=4, depth=1, heads=2),
        (1, 4, 4),
    ),
    "gated": (lambda: Gated(4), (3, 4)),
}


def network(name: str, seed: int) -> tuple[nn.Module, Tensor]:
    """Return a random network in float64, its normalization not trivial, and inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        build, shape = NETWORKS[name]
        module = build().double().eval()
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.normal_(part.bias)
        return module, torch.randn(6, *shape, dtype=torch.float64)


def widths(module: nn.Module, run: Callable[[], Any]) -> list[int]:
    return [group.width for group in channel_groups(module, run)]


def widened(module: nn.Module, inputs: Tensor, seed: int) -> nn.Module:
    """Return the same function with every free group wider: split units and dead ones."""
    wide = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    count = len(channel_groups(wide, lambda: wide(inputs[:2])))
    for index in range(count):
        group = channel_groups(wide, lambda: wide(inputs[:2]))[index]
        if group.refusal is None:
            _widen(wide, group, generator)
    return wide


def _widen(module: nn.Module, group: Group, generator: torch.Generator) -> None:
    """Split units into copies, scaled where the activation lets them."""
    more = int(torch.randint(1, 4, (1,), generator=generator))
    extra = torch.randint(0, group.width, (more,), generator=generator)
    origin = torch.cat([torch.arange(group.width), extra])
    order = torch.randperm(len(origin), generator=generator)
    origin = origin[order]
    share = torch.rand(len(origin), generator=generator, dtype=torch.float64) + 0.3
    total = torch.zeros(group.width, dtype=torch.float64).index_add_(0, origin, share)
    share = share / total[origin]
    scale = torch.ones(len(origin), dtype=torch.float64)
    if _scalable(group):
        scale = torch.rand(len(origin), generator=generator, dtype=torch.float64) + 0.5
    outgoing = [outgoing_of(module, reader, group.width) for reader in group.readers]
    state = {name: tensor.detach().clone() for name, tensor in held_state(module).items()}
    for layer in dict.fromkeys(group.producers):
        rows = state[layer.weight]
        factor = scale.reshape(-1, *[1] * (rows.ndim - 1))
        set_tensor(module, layer.weight, rows[origin] * factor)
        if layer.bias is not None:
            set_tensor(module, layer.bias, state[layer.bias][origin] * scale)
    for name in group.vectors:
        set_tensor(module, name, state[name][origin])
    for reader, old in zip(group.readers, outgoing, strict=True):
        fresh = old[origin] * (share / scale)[:, None, None]
        weight = held_state(module)[reader.weight]
        positions = len(reader.source.columns) // group.width
        shape = (weight.shape[0], len(origin) * positions, *weight.shape[2:])
        set_tensor(module, reader.weight, torch.zeros(shape, dtype=torch.float64))
        columns = torch.arange(len(origin)).repeat_interleave(positions)
        wide = replace(reader, source=replace(reader.source, columns=columns))
        set_outgoing(module, wide, len(origin), fresh)


def _scalable(group: Group) -> bool:
    kinds = {n.name for r in group.readers for n in walk(r.source.node) if hasattr(n, "name")}
    normalized = any(isinstance(n, Normalized) for r in group.readers for n in walk(r.source.node))
    return is_simple(group) and not normalized and kinds <= {"relu", "leaky_relu"}
