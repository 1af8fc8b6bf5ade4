"""Which parameters share channels: forms that are followed, and forms that are left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.models.channel_flow import channel_groups


class Written(nn.Module):
    """Two linear layers with something written between them."""

    def __init__(self, between: Callable[[Tensor, Written], Tensor], width: int = 6) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(width, 2)
        self.vector = nn.Parameter(torch.randn(6))
        self.between = between

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.between(torch.relu(self.first(inputs)), self))


FOLLOWED: dict[str, Callable[[Tensor, Written], Tensor]] = {
    "scaled": lambda x, _: 2.0 * x / 3.0 - x,
    "vector": lambda x, m: x * m.vector,
    "reversed": lambda x, _: 1.0 - x,
    "reshaped": lambda x, _: x.reshape(-1, 2, 3).transpose(1, 2).transpose(1, 2).flatten(1),
    "in place": lambda x, _: x.add_(x).mul_(0.5),
    "negative": lambda x, _: -x,
}

LEFT: dict[str, tuple[Callable[[Tensor, Written], Tensor], str]] = {
    "mixed": (lambda x, _: functional.layer_norm(x, (6,)), "LayerNorm mixes them"),
    "shifted": (lambda x, _: x + x.roll(1, -1), "roll reads them"),
    "scattered": (lambda x, _: x + x.reshape(-1, 2, 3).transpose(1, 2).flatten(1), "different"),
    "joined": (lambda x, _: x + torch.ones(6), "not followed"),
    "summed": (lambda x, _: x - x.sum(1, keepdim=True), "sum runs along their axis"),
    "weights": (lambda x, m: x @ (m.vector[:, None] * torch.eye(6)), "computed weights"),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_keeps_channels_apart_is_followed(name: str) -> None:
    module = Written(FOLLOWED[name])
    groups = channel_groups(module, lambda: module(torch.randn(3, 4)))
    assert (groups[0].path, groups[0].refusal) == ("first", None)
    assert [reader.path for reader in groups[0].readers] == ["second"]
    names = [vector.name for vector in groups[0].vectors]
    assert names == (["vector"] if name == "vector" else [])


@pytest.mark.parametrize("name", LEFT)
def test_what_mixes_channels_is_left_alone_with_the_reason(name: str) -> None:
    between, reason = LEFT[name]
    module = Written(between)
    groups = channel_groups(module, lambda: module(torch.randn(3, 4)))
    refusal = next(group.refusal for group in groups if group.path == "first")
    assert refusal is not None and reason in refusal, refusal


def test_flattened_channels_keep_their_columns() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    groups = channel_groups(module, lambda: module(torch.randn(2, 1, 4, 4)))
    (reader,) = groups[0].readers
    assert reader.source is not None
    assert reader.source.columns.tolist() == sorted([0, 1, 2] * 9)


def test_gpt_2_layers_are_linear_maps_with_their_weights_turned() -> None:
    class Conv1D(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.nx, self.nf = inputs, outputs
            self.weight = nn.Parameter(torch.randn(inputs, outputs))
            self.bias = nn.Parameter(torch.zeros(outputs))

        def forward(self, x: Tensor) -> Tensor:
            made = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
            return made.view((*x.size()[:-1], self.nf))

    module = nn.Sequential(Conv1D(4, 6), nn.GELU(), Conv1D(6, 4))
    groups = channel_groups(module, lambda: module(torch.randn(2, 3, 4)))
    assert groups[0].refusal is None
    assert [layer.kind for layer in groups[0].readers] == ["transposed"]


class Joined(nn.Module):
    """Two layers beside each other and beside the inputs, with something done to all of them."""

    def __init__(self, take: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(4, 3), nn.Linear(4, 5), nn.Linear(width, 2)
        self.take = take

    def forward(self, inputs: Tensor) -> Tensor:
        both = torch.cat([self.one(inputs), inputs, self.two(inputs)], -1)
        return self.last(self.take(torch.relu(both)))


def test_layers_beside_each_other_keep_their_columns() -> None:
    module = Joined(lambda x: x, 12)
    one, two, last = channel_groups(module, lambda: module(torch.randn(2, 4)))
    assert [group.path for group in (one, two, last)] == ["one", "two", "last"]
    assert one.refusal is None and two.refusal is None
    assert one.readers[0].source.columns.tolist() == [0, 1, 2] + [-1] * 9
    assert two.readers[0].source.columns.tolist() == [-1] * 7 + [0, 1, 2, 3, 4]


def test_parts_of_a_layer_have_readers_of_their_own() -> None:
    """Units 0 and 1 of a layer are read, unit 2 goes with the values of the other layer's 0."""
    module = Joined(lambda x: torch.cat([x[..., :2], x[..., 2:3] * x[..., 7:8]], -1), 3)
    groups = channel_groups(module, lambda: module(torch.randn(2, 4)))
    assert [(g.path, g.width, g.refusal is None) for g in groups] == [
        ("one (part 1)", 2, True),
        ("one (part 2)", 1, True),
        ("two", 4, False),
        ("last", 2, False),
    ]
    assert groups[1].producers[0].outputs.tolist() == [-1, -1, 0]
    assert groups[1].producers[1].outputs.tolist() == [0, -1, -1, -1, -1]
    assert groups[2].refusal == "nothing was seen to read them"


def test_one_channel_against_many_is_left_alone() -> None:
    module = Joined(lambda x: x[..., :1] * x[..., 7:], 5)
    groups = channel_groups(module, lambda: module(torch.randn(2, 4)))
    reasons = {group.refusal for group in groups}
    assert "multiply joins different channels" in reasons
