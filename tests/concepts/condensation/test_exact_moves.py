"""Exact moves find what was planted and leave the function as it was."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.concepts.condensation.planting import NETWORKS, Fused, network, widened, widths
from torch import Tensor, nn

from whynet.concepts.condensation.exact_reduction import MOVES, reduce_exactly
from whynet.concepts.condensation.workplace import ROUND_OFF, Workplace

ORDERS = list(itertools.permutations(MOVES))


def reduced(module: nn.Module, inputs: Tensor, order: tuple[str, ...] = tuple(MOVES)) -> tuple:
    small = copy.deepcopy(module)
    place = Workplace(small, lambda: small(inputs[:2]), ROUND_OFF[torch.float64])
    with torch.no_grad():
        moves, groups = reduce_exactly(place, order)
    return small, moves, groups


def apart(one: nn.Module, two: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        first, second = one(inputs), two(inputs)
    return float((first - second).abs().max() / first.abs().max())


def around(inputs: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    far = 30 * torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)
    return torch.cat([inputs, far])


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.sampled_from(ORDERS))
def test_all_planted_redundancy_is_found_in_any_order(
    name: str, seed: int, order: tuple[str, ...]
) -> None:
    narrow, inputs = network(name, seed)
    wide = widened(narrow, inputs, seed)
    points = around(inputs)
    assert apart(narrow, wide, points) < 1e-12
    small, moves, _ = reduced(wide, inputs, order)
    found, planted = widths(small, lambda: small(inputs[:2])), widths(wide, lambda: wide(inputs))
    assert all(a <= b for a, b in zip(found, widths(narrow, lambda: narrow(inputs)), strict=True))
    assert sum(move.removed for move in moves) == sum(planted) - sum(found) > 0
    assert apart(wide, small, points) < 1e-12


def test_a_network_without_redundancy_stays_as_it_is() -> None:
    narrow, inputs = network("cnn", 3)
    small, moves, _ = reduced(narrow, inputs)
    assert moves == ()
    assert all(
        torch.equal(a, b) for a, b in zip(narrow.parameters(), small.parameters(), strict=True)
    )


def test_dead_units_and_constants_are_folded_where_nothing_is_padded() -> None:
    module, inputs = network("mlp", 0)
    with torch.no_grad():
        module[0].weight[1] = 0
        module[0].bias[1] = 2.0
        module[0].weight[3] = 0
        module[0].bias[3] = -1.0
        module[2].weight[0] = 0
    small, moves, _ = reduced(module, inputs)
    assert [(m.name, m.path, m.removed) for m in moves] == [
        ("constant", "0", 2),
        ("constant", "2", 1),
    ]
    assert apart(module, small, around(inputs)) < 1e-12


@pytest.mark.parametrize("padding", [0, 1])
def test_a_constant_channel_before_zero_padding_stays(padding: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Conv2d(3, 2, 3, padding=padding),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * (4 + 2 * padding) ** 2, 2),
    ).double()
    with torch.no_grad():
        module[0].weight[1] = 0
        module[0].bias[1] = 0.7
    inputs = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    small, moves, _ = reduced(module, inputs)
    assert [m.name for m in moves] == ([] if padding else ["constant"])
    assert apart(module, small, around(inputs)) < 1e-12


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("pooled", [False, True])
def test_opposite_pairs_go_through_the_linear_path(slope: float, pooled: bool) -> None:
    """Three pairs whose linear parts are one map of rank one: six units become two."""
    torch.manual_seed(1)
    middle = [nn.MaxPool2d(2)] if pooled else [nn.AvgPool2d(2)]
    module = (
        nn.Sequential(
            nn.Conv2d(1, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.LeakyReLU(slope),
            *middle,
            nn.Conv2d(6, 1, 3, padding=1),
            nn.Flatten(),
        )
        .double()
        .eval()
    )
    with torch.no_grad():
        module[1].bias.copy_(torch.randn(6))
        module[0].weight[3:] = -module[0].weight[:3]
        module[1].bias[3:] = -module[1].bias[:3]
        kernel = torch.randn(1, 1, 3, 3, dtype=torch.float64)
        strength = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)[:, None, None]
        module[4].weight[0, :3] = kernel[0] * strength
        module[4].weight[0, 3:] = -kernel[0] * strength
    inputs = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    small, moves, groups = reduced(module, inputs)
    # Opposite pairs never pass max-pooling: there nothing may be done.
    assert [m.name for m in moves] == ([] if pooled else ["linear path"])
    assert groups[0].width == (6 if pooled else 2)
    assert apart(module, small, around(inputs)) < 1e-12


def test_units_that_are_active_everywhere_are_the_rank_of_what_they_say() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(6, 4, dtype=torch.float64)
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 1))
    module = module.double()
    with torch.no_grad():
        module[2].weight[:7] = module[2].weight[:7].abs()
        module[2].bias[:7] = module[2].bias[:7].abs()
        module[2].weight[8] = -module[2].weight[8].abs()
        module[2].bias[8] = -0.1
        module[2].weight[7] = torch.tensor([1, -1, 1, -1, 1, -1])
        module[4].weight[0] = torch.tensor([1, -1, 2, -2, 1, -2, 1, 1, 1])
    small, moves, groups = reduced(module, inputs)
    assert {m.name for m in moves} == {"constant", "linear path"}
    assert groups[1].width == 3  # two for the linear map, one that bends
    assert apart(module, small, around(inputs)) < 1e-12


def test_tied_weights_and_mixed_channels_are_left_alone_with_the_reason() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            inner = torch.relu(self.layer(torch.relu(self.layer(inputs))))
            return self.head(self.norm(inner))

    module = Tied().double()
    inputs = torch.randn(3, 4, dtype=torch.float64)
    _, moves, groups = reduced(module, inputs)
    assert moves == ()
    reasons = [group.refusal for group in groups]
    assert "`layer.bias` is used more than once" in reasons
    assert any("LayerNorm" in reason for reason in reasons)
    assert reasons[-1] == "they are the network's own output"


def test_weights_in_float32_are_merged_up_to_their_round_off() -> None:
    narrow, inputs = network("mlp", 5)
    wide = widened(narrow, inputs, 5).float().double()
    small = copy.deepcopy(wide)
    place = Workplace(small, lambda: small(inputs[:2]), ROUND_OFF[torch.float32])
    with torch.no_grad():
        reduce_exactly(place)
    assert widths(small, lambda: small(inputs)) == widths(narrow, lambda: narrow(inputs))
    assert 1e-12 < apart(wide, small, inputs) < 1e-5


def test_of_a_layer_that_is_constant_one_unit_stays_with_its_share() -> None:
    module, inputs = network("mlp", 2)
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].bias.uniform_(0.5, 1.0)
    small, _, groups = reduced(module, inputs)
    assert groups[0].width == 1
    assert apart(module, small, around(inputs)) < 1e-12


@pytest.mark.parametrize("how", ["chunk", "split", "slices"])
def test_dead_gates_and_values_go(how: str) -> None:
    """Of six units one gate and one value is zero, one is ignored, two are one up to a factor."""
    module = Fused(6, how).double()
    with torch.no_grad():
        for row in (0, 7):
            module.both.weight[row], module.both.bias[row] = 0.0, 0.0
        module.down.weight[:, 2] = 0
        module.both.weight[4], module.both.bias[4] = module.both.weight[3], module.both.bias[3]
        module.both.weight[10] = -2 * module.both.weight[9]
        module.both.bias[10] = -2 * module.both.bias[9]
    inputs = torch.randn(9, 4, dtype=torch.float64)
    small, moves, groups = reduced(module, inputs)
    assert {(m.name, m.removed) for m in moves} == {
        ("ignored", 1),
        ("constant", 2),
        ("proportional", 1),
    }
    assert (groups[0].width, tuple(small.both.weight.shape)) == (2, (4, 4))
    assert apart(module, small, around(inputs)) < 1e-12


def test_channels_of_constant_value_are_one_before_a_padded_convolution() -> None:
    """Zeros stand beside them, so that they are no bias; but they are multiples of each other."""
    module = nn.Sequential(
        nn.Conv2d(1, 4, 1),
        nn.Softplus(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(4, 2, 1),
    ).double()
    with torch.no_grad():
        module[0].weight[1:3] = 0
        module[2].weight[2] = 3 * module[2].weight[1]
        value = torch.nn.functional.softplus(module[0].bias)
        module[2].bias[2] = module[2].bias[1] * 3 * value[2] / value[1]
    inputs = torch.randn(3, 1, 5, 5, dtype=torch.float64)
    small, moves, _ = reduced(module, inputs)
    assert [(m.name, m.removed) for m in moves] == [("proportional", 1)]
    assert (small[2].groups, small[2].in_channels, small[2].out_channels) == (3, 3, 3)
    assert apart(module, small, around(inputs)) < 1e-12
    with torch.no_grad():
        module[2].bias[2] += 1
    assert reduced(module, inputs)[1] == ()


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 6, 1, groups=2)
        self.norm, self.last = nn.GroupNorm(3, 6), nn.Conv2d(6, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.second(torch.relu(self.first(images))))))


def test_what_keeps_channels_in_groups_is_named() -> None:
    module = Grouped().double()
    inputs = torch.randn(3, 1, 5, 5, dtype=torch.float64)
    _, moves, groups = reduced(module, inputs)
    assert moves == ()
    assert [(group.path, group.refusal) for group in groups[:2]] == [
        ("first", "`second` convolves several of them at a time, in groups of one width"),
        ("second", "their convolution has groups that must stay of one width"),
    ]


def test_two_channels_of_a_depthwise_convolution_stay() -> None:
    """All four are one; of one channel it would be an ordinary convolution."""
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ).double()
    with torch.no_grad():
        for layer in (module[0], module[2]):
            for tensor in (layer.weight, layer.bias):
                tensor[:] = tensor[:1].abs()
    inputs = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    small, moves, groups = reduced(module, inputs)
    assert (groups[0].width, small[2].groups) == (2, 2)
    assert [move.name for move in moves] == ["proportional"]
    assert apart(module, small, around(inputs)) < 1e-12
