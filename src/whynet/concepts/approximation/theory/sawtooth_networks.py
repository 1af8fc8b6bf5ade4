"""The sawtooth: a deep narrow network with exponentially many pieces."""

import torch
from torch import nn

from whynet.core.errors import InputError


def sawtooth(folds: int, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Build the tent map 2 relu(x) - 4 relu(x - 1/2) composed with itself, two units a layer.

    On [0, 1] it has exactly 2^folds linear pieces of slope plus or minus 2^folds, with breakpoints
    at the multiples of 2^-folds (Telgarsky, 2016, arXiv 1602.04485). Its weights are powers of
    two, so it is evaluated without round-off at multiples of 2^-folds.

    Raises:
        InputError: If there is less than one fold.
    """
    if folds < 1:
        raise InputError("folds", str(folds), "a whole number of at least 1")
    layers: list[nn.Module] = []
    for fold in range(folds):
        hidden = nn.Linear(2 if fold else 1, 2, dtype=dtype)
        row = torch.tensor([[2.0, -4.0]] if fold else [[1.0]], dtype=dtype)
        with torch.no_grad():
            hidden.weight.copy_(row.expand(2, -1))
            hidden.bias.copy_(torch.tensor([0.0, -0.5], dtype=dtype))
        layers += [hidden, nn.ReLU()]
    last = nn.Linear(2, 1, dtype=dtype)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[2.0, -4.0]], dtype=dtype))
        last.bias.zero_()
    return nn.Sequential(*layers, last)
