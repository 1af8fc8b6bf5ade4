"""Whether a layer is condensed: directions that hold what its units contribute, beside random."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from whynet import Subject
from whynet.concepts.condensation.layer_directions import (
    layer_directions,
    orientations,
    sentence,
)


def two_layers(rows: Tensor, outgoing: Tensor) -> nn.Module:
    width, features = rows.shape
    module = nn.Sequential(nn.Linear(features - 1, width), nn.ReLU(), nn.Linear(width, 1))
    with torch.no_grad():
        module[0].weight.copy_(rows[:, :-1])
        module[0].bias.copy_(rows[:, -1])
        module[2].weight.copy_(outgoing[None])
    return module


def subject_of(module: nn.Module, dtype: torch.dtype, initial: nn.Module | None = None) -> Subject:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 2, generator=generator).to(dtype)
    held = None if initial is None else initial.to(dtype)
    return Subject(module.to(dtype), train=(inputs, inputs[:, :1]), loss="mse", initial=held)


def spread(seed: int, width: int = 60) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(width, 3, generator=generator)
    return two_layers(rows, torch.rand(width, generator=generator) + 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planted_directions_are_counted_by_what_they_contribute(dtype: torch.dtype) -> None:
    """Four directions hold everything; 56 others hold less than one part in a hundred."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(60, 3, generator=generator)
    planted = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    rows[:40] = planted.repeat(10, 1) * (0.5 + torch.rand(40, 1, generator=generator))
    outgoing = torch.ones(60)
    outgoing[40:] = 1e-4
    (found,) = layer_directions(subject_of(two_layers(rows, outgoing), dtype, spread(3)))
    assert (found.path, found.width, found.directions) == ("0", 60, 4)
    assert found.random is not None and found.random[0] > 10
    assert found.initial is not None and found.initial > 10
    assert found.condensed
    assert sentence(found).startswith("`0` is condensed: 4 of 60 directions hold 99 % of what")
    outgoing[40:] = 1.0
    (found,) = layer_directions(subject_of(two_layers(rows, outgoing), dtype))
    assert found.directions > 4  # they contribute now


def test_a_factor_moved_between_a_unit_and_its_reader_changes_nothing() -> None:
    module = spread(5)
    before = layer_directions(subject_of(module, torch.float64))
    factor = torch.linspace(0.01, 100, 60, dtype=torch.float64)
    with torch.no_grad():
        module[0].weight.mul_(factor[:, None])  # type: ignore[index, operator, union-attr]
        module[0].bias.mul_(factor)  # type: ignore[index, operator, union-attr]
        module[2].weight.div_(factor)  # type: ignore[index, operator, union-attr]
    assert layer_directions(subject_of(module, torch.float64)) == before


def test_random_layers_are_not_condensed_and_lie_between_the_random_ones() -> None:
    inside = 0
    for seed in range(40):
        (found,) = layer_directions(subject_of(spread(seed, 24), torch.float64), seed)
        assert not found.condensed
        assert found.random is not None
        inside += found.random[0] <= found.directions <= found.random[1]
    assert inside >= 35  # 39 in 41; fewer in one of 300 tries


def test_without_a_reference_nothing_is_judged() -> None:
    module = nn.Sequential(nn.Conv1d(2, 4, 1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1))
    inputs = torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(0))
    subject = Subject(module, train=(inputs, inputs[:, 0, :1]), loss="mse")
    (found,) = layer_directions(subject)
    assert found.condensed is None
    assert "is not judged" in sentence(found) and "no reference is known" in sentence(found)


def test_orientations_of_two_inputs_are_those_of_the_weights() -> None:
    """Without bias and with inputs of unit second moment, cosines are those of the weights."""
    generator = torch.Generator().manual_seed(4)
    angle = 6.28 * torch.rand(50, generator=generator, dtype=torch.float64)
    module = nn.Sequential(nn.Linear(2, 50, bias=False), nn.ReLU(), nn.Linear(50, 1)).double()
    with torch.no_grad():
        length = 0.5 + torch.rand(50, generator=generator, dtype=torch.float64)
        rows = torch.stack([angle.cos(), angle.sin()], 1) * length[:, None]
        module[0].weight.copy_(rows)  # type: ignore[operator]
    inputs = torch.randn(80, 2, generator=generator, dtype=torch.float64)
    inputs = torch.linalg.qr(inputs)[0]
    subject = Subject(module, train=(inputs, inputs[:, :1]), loss="mse")
    (found,) = orientations(subject)
    assert found.share == pytest.approx(1.0)
    assert found.amounts.max() == 1.0 and len(found.angles) == 50
    turned = torch.as_tensor(found.angles)
    # Up to a rotation and a reflection.
    ours = (turned[:, None] - turned).cos()
    assert torch.allclose(ours, (angle[:, None] - angle).cos(), atol=1e-8)
