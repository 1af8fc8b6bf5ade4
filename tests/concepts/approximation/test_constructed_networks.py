"""Constructed networks against the functions they are to equal, without round-off."""

from math import ceil, log2

import pytest
import torch
from torch import nn

from whynet.concepts.approximation.theory.few_terms import maxima_of_few_terms
from whynet.concepts.approximation.theory.maximum_networks import (
    difference_of_maxima,
    shallow_difference_of_maxima,
)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("up", "down", "inputs"), [(8, 5, 1), (9, 4, 2), (3, 16, 2), (9, 8, 4)])
def test_few_terms_are_exact_at_whole_numbers(
    up: int, down: int, inputs: int, dtype: torch.dtype
) -> None:
    """Also of terms that are parallel, equal or nowhere the largest, as whole numbers often are."""
    generator = torch.Generator().manual_seed(up * 10 + down)

    def whole(*shape: int) -> torch.Tensor:
        return torch.randint(-4, 5, shape, generator=generator).to(dtype)

    (a, b), (c, d) = (whole(up, inputs), whole(up)), (whole(down, inputs), whole(down))
    network = shallow_difference_of_maxima((a, b), (c, d))
    x = torch.cat([whole(500, inputs), 1000 * whole(500, inputs)])
    with torch.no_grad():
        assert torch.equal(network(x)[:, 0], (x @ a.T + b).amax(1) - (x @ c.T + d).amax(1))
    hidden = sum(isinstance(layer, nn.ReLU) for layer in network)
    assert hidden <= ceil(log2(inputs + 1))
    counts = maxima_of_few_terms((a, b))
    assert all(len(places) <= inputs + 1 for places in counts)
    assert sum(counts.values()) == 1  # where all terms are equal


def test_three_terms_of_one_input_are_pairs() -> None:
    """max(-x, 0, x) lets 0 go; max(-x, 1, x) is max(-x, 1) + max(1, x) - 1."""
    slopes = torch.tensor([[-1.0], [0.0], [1.0]])
    assert maxima_of_few_terms((slopes, torch.zeros(3))) == {(0, 2): 1}
    assert maxima_of_few_terms((slopes, torch.tensor([0.0, 1, 0]))) == {
        (0, 1): 1, (1, 2): 1, (1,): -1,
    }  # fmt: skip


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
    with pytest.raises(InputError, match="at most 16"):
        maxima_of_few_terms((torch.ones(17, 2), torch.ones(17)))
    with pytest.raises(InputError, match="terms, inputs"):
        maxima_of_few_terms((torch.ones(3), torch.ones(3)))
    with pytest.raises(InputError, match="finite"):
        difference_of_maxima((torch.full((1, 2), torch.nan), torch.ones(1)), one)
