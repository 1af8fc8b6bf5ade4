"""Numbers of channels that are written into a network's code are found by trying."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from whynet.models.fixed_widths import fixed_widths


class Written(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(width, 2)
        self.between = between

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.between(torch.tanh(self.first(inputs))))


CASES: dict[str, tuple[Callable[[Tensor], Tensor], int, set[str]]] = {
    "nothing": (lambda x: x, 8, set()),
    "view": (lambda x: x.view(-1, 8), 8, {"first"}),
    "chunk, multiplied": (lambda x: x.chunk(2, -1)[0] * x.chunk(2, -1)[1], 4, set()),
    "slices": (lambda x: torch.cat([x[:, :4].relu(), x[:, 4:]], 1), 8, {"first (part 1)"}),
    # Halves of seven channels are four and three, of six three and three.
    "chunk": (
        lambda x: torch.cat([x.chunk(2, -1)[0].relu(), x.chunk(2, -1)[1]], 1),
        8,
        {"first (part 1)", "first (part 2)"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_number_that_is_written_in_is_found(name: str) -> None:
    between, width, wanted = CASES[name]
    module = Written(between, width).double()
    before = [tensor.clone() for tensor in module.parameters()]
    inputs = torch.randn(2, 3, dtype=torch.float64)
    assert fixed_widths(module, lambda network: network(inputs)) == wanted
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
