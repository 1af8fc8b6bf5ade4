"""Constructed networks against the functions they are to equal, without round-off."""

from math import ceil, log2

import pytest
import torch
from torch import nn

from whynet.concepts.approximation.theory.maximum_networks import difference_of_maxima
from whynet.concepts.approximation.theory.sawtooth_networks import sawtooth
from whynet.core.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (3, 5), (9, 4), (1, 8)])
def test_maxima_are_exact_at_whole_numbers(up: int, down: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(up * 10 + down)

    def whole(*shape: int) -> torch.Tensor:
        return torch.randint(-9, 10, shape, generator=generator).to(dtype)

    (a, b), (c, d) = (whole(up, 3), whole(up)), (whole(down, 3), whole(down))
    network = difference_of_maxima((a, b), (c, d))
    x = whole(500, 3)
    wanted = (x @ a.T + b).amax(1) - (x @ c.T + d).amax(1)
    assert torch.equal(network(x)[:, 0], wanted)
    hidden = sum(isinstance(layer, nn.ReLU) for layer in network)
    assert hidden == ceil(log2(max(up, down)))


@pytest.mark.parametrize("folds", [1, 2, 5, 9])
def test_the_sawtooth_alternates_at_every_multiple_of_its_width(folds: int) -> None:
    teeth = 2**folds
    x = torch.arange(2 * teeth + 1, dtype=torch.float64)[:, None] / (2 * teeth)
    y = sawtooth(folds)(x)[:, 0]
    assert torch.equal(y[::2], torch.arange(teeth + 1, dtype=torch.float64) % 2)
    assert torch.equal(y[1::2], torch.full((teeth,), 0.5, dtype=torch.float64))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="folds"):
        sawtooth(0)
    one = (torch.ones(1, 2), torch.ones(1))
    with pytest.raises(InputError, match="as the other terms"):
        difference_of_maxima(one, (torch.ones(1, 3), torch.ones(1)))
    with pytest.raises(InputError, match="finite"):
        difference_of_maxima((torch.full((1, 2), torch.nan), torch.ones(1)), one)
