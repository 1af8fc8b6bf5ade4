"""Arguments of a factory that build a smaller network, found by its shapes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from whynet.models.factory_arguments import changed_arguments


def mlp(widths: tuple[int, ...] = (32, 16), classes: int = 3, bias: bool = True) -> nn.Module:
    sizes = [4, *widths, classes]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def block(width: int = 8, hidden: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def test_the_widths_that_changed_are_named() -> None:
    large = mlp().state_dict()
    small = mlp((7, 16)).state_dict()
    assert changed_arguments(mlp, large, small) == {"widths": (7, 16)}
    assert changed_arguments(mlp, large, mlp((9, 5)).state_dict()) == {"widths": (9, 5)}


def test_of_equal_numbers_the_right_one_is_found() -> None:
    assert changed_arguments(block, block().state_dict(), block(8, 3).state_dict()) == {"hidden": 3}


def test_none_where_no_argument_builds_it() -> None:
    def fixed() -> nn.Module:
        return mlp()

    def strict(width: int = 32) -> nn.Module:
        if width != 32:
            raise ValueError(width)
        return mlp((width, 16))

    small = mlp((7, 16)).state_dict()
    large = mlp().state_dict()
    before = torch.get_rng_state()
    assert changed_arguments(fixed, large, small) is None
    assert changed_arguments(strict, large, small) is None
    assert changed_arguments(mlp, large, large) is None
    assert torch.equal(before, torch.get_rng_state())
