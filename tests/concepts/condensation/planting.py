"""Networks with planted redundancy: units split into copies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.models.channel_flow import channel_groups
from whynet.models.channel_nodes import (
    Activated,
    Filtered,
    Group,
    Multiplied,
    Normalized,
    Summed,
    walk,
)
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


class Fused(nn.Module):
    """Gate and value of one layer, taken apart by `chunk`, `split` or slices."""

    def __init__(self, width: int, how: str) -> None:
        super().__init__()
        self.both, self.down = nn.Linear(4, 2 * width), nn.Linear(width, 3)
        self.how = how

    def forward(self, tokens: Tensor) -> Tensor:
        made = self.both(tokens)
        if self.how == "glu":
            return self.down(functional.glu(made, -1))
        half = made.shape[-1] // 2
        if self.how == "chunk":
            gate, up = made.chunk(2, dim=-1)
        elif self.how == "split":
            gate, up = torch.split(made, [half, half], dim=-1)
        else:
            gate, up = made[..., :half], made[..., half:]
        return self.down(functional.gelu(gate) * up)


class Dense(nn.Module):
    """Layers that read all those before, as in DenseNet, and a skip as in U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.third = nn.Conv2d(6, 3, 1)
        self.down, self.up = nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.last = nn.Conv2d(6, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        one = torch.relu(self.first(images))
        two = self.second(torch.cat([images, one], 1))
        three = torch.relu(self.third(torch.relu(self.norm(torch.cat([one, two], 1)))))
        low = functional.leaky_relu(self.down(three), 0.1)
        both = torch.cat([three, torch.relu(self.up(low))], dim=1)
        return self.last(both).mean((2, 3))


def separable(normalized: bool) -> nn.Module:
    """Return depthwise separable blocks, the second with two kernels a channel."""
    after = [nn.BatchNorm2d(6)] if normalized else []
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Conv2d(3, 3, 3, padding=1, groups=3),
        nn.ReLU(),
        nn.Conv2d(3, 3, 1),
        nn.ReLU(),
        nn.Conv2d(3, 6, 3, groups=3, bias=not normalized),
        *after,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )


def sequences() -> nn.Module:
    """Return a network on sequences, up and down again."""
    return nn.Sequential(
        nn.Conv1d(2, 3, 3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.ConvTranspose1d(3, 4, 3),
        nn.BatchNorm1d(4),
        nn.LeakyReLU(0.2),
        nn.Conv1d(4, 2, 3),
    )


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
    "fused, chunk": (lambda: Fused(3, "chunk"), (3, 4)),
    "fused, split": (lambda: Fused(3, "split"), (4,)),
    "fused, slices": (lambda: Fused(3, "slices"), (3, 4)),
    "fused, glu": (lambda: Fused(3, "glu"), (3, 4)),
    "dense": (Dense, (1, 6, 6)),
    "separable": (lambda: separable(normalized=False), (1, 7, 7)),
    "separable, normalized": (lambda: separable(normalized=True), (1, 7, 7)),
    "sequences": (sequences, (2, 9)),
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
    origin = origin[torch.randperm(len(origin), generator=generator)]

    def drawn(low: float) -> Tensor:
        return torch.rand(len(origin), generator=generator, dtype=torch.float64) + low

    share = drawn(0.3)
    total = torch.zeros(group.width, dtype=torch.float64).index_add_(0, origin, share)
    share = share / total[origin]
    made, kernels, size = _scales(group, drawn(0.5), drawn(0.5))
    for place, layer in enumerate(group.producers):
        for name in (layer.weight, layer.bias):
            if name is not None:
                axis = layer.out_axis if name == layer.weight else 0
                _repeat(module, name, axis, layer.outputs, origin, made[place])
    filters = [n for read in group.readers for n in walk(read.source.node)]
    names = {n.weight.name: n for n in filters if isinstance(n, Filtered)}
    biases = {n.bias.name for n in names.values() if n.bias is not None}
    for vector in group.vectors:
        scale = kernels if vector.name in names else size if vector.name in biases else None
        scales = None if scale is None else [scale]
        _repeat(module, vector.name, vector.axis, vector.units, origin, scales)
    columns: dict[str, Tensor] = {}
    for layer in group.readers:
        mine = layer.source.columns
        columns[layer.weight] = torch.maximum(mine, columns.get(layer.weight, mine))
    for name, axis in {layer.weight: layer.in_axis for layer in group.readers}.items():
        _repeat(module, name, axis, columns[name], origin, [share / size])


def _scales(
    group: Group, units: Tensor, kernels: Tensor
) -> tuple[list[list[Tensor]], Tensor, Tensor]:
    """Return by what copies may be multiplied: for each producer and run of units, and of kernels.

    The last is by what this multiplies what is read.

    A unit of a rectified layer may have any positive factor, a kernel after it another; of the
    product of a gate and a value the value may.
    """
    nodes = [n for reader in group.readers for n in walk(reader.source.node)]
    kinds = {n.name for n in nodes if isinstance(n, Activated)}
    one = torch.ones_like(units)
    plain = not any(isinstance(n, Normalized | Summed) for n in nodes)
    gated = [n for n in nodes if isinstance(n, Multiplied)]
    if gated and plain:
        fused = len(group.producers) == 1
        if kinds == {"sigmoid"}:  # values come first
            return [[-units, one]], one, -units
        return ([[one, -units]] if fused else [[one], [-units]]), one, -units
    if plain and not gated and len(group.producers) == 1 and kinds <= {"relu", "leaky_relu"}:
        runs = 1 if group.whole else 2
        kernels = kernels if any(isinstance(n, Filtered) for n in nodes) else one
        return [[units] * runs], kernels, units * kernels
    return [[one, one] for _ in group.producers], one, one


def _repeat(
    module: nn.Module,
    name: str,
    axis: int,
    units: Tensor,
    origin: Tensor,
    scales: list[Tensor] | None,
) -> None:
    """Put copies of units in the places of a parameter where these units stand."""
    index: list[int] = []
    factor: list[float] = []
    for run, places in enumerate(_runs(units)):
        if int(units[places[0]]) < 0:
            index += places
            factor += [1.0] * len(places)
            continue
        order = sum(bool(int(units[one[0]]) >= 0) for one in _runs(units)[:run])
        for copy_, unit in enumerate(origin.tolist()):
            mine = [place for place in places if int(units[place]) == unit]
            assert mine
            index += mine
            scale = 1.0 if scales is None else float(scales[min(order, len(scales) - 1)][copy_])
            factor += [scale] * len(mine)
    old = held_state(module)[name].detach()
    shape = [1] * old.ndim
    shape[axis] = len(index)
    set_tensor(
        module,
        name,
        old.index_select(axis, torch.tensor(index))
        * torch.tensor(factor, dtype=torch.float64).reshape(shape),
    )


def _runs(units: Tensor) -> list[list[int]]:
    """Return the places of units in runs, each of every unit once and in order, or of none."""
    runs: list[list[int]] = []
    last = None
    for place, unit in enumerate(units.tolist()):
        if last is None or unit < last or (last < 0 <= unit):
            runs.append([])
        runs[-1].append(place)
        last = unit
    return runs
