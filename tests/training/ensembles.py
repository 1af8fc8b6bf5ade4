"""Small ensembles that the tests of the engine share."""

from __future__ import annotations

import torch
from torch import Tensor


def two_layer(parameters, inputs):
    """Return the outputs of a two-layer tanh network with one output."""
    hidden = torch.tanh(inputs @ parameters["w"].T + parameters["b"])
    return hidden @ parameters["a"]


def relu_two_layer(parameters, inputs):
    hidden = torch.relu(inputs @ parameters["w"].T + parameters["b"])
    return hidden @ parameters["a"]


def linear(parameters, inputs):
    return inputs @ parameters["w"]


def half_mean_square(outputs, targets):
    return 0.5 * (outputs - targets).square().mean()


def start(members: int, width: int = 12, inputs: int = 3, dtype=torch.float64, seed: int = 0):
    """Return stacked parameters of `two_layer`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "w": draw(members, width, inputs),
        "b": draw(members, width),
        "a": draw(members, width) / width**0.5,
    }


def data(rows: int = 17, inputs: int = 3, dtype=torch.float64, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    return found.to(dtype), torch.sin(2 * found[:, 0]).to(dtype)


def member(parameters, number: int):
    """Return one member as an ensemble of one."""
    return {name: value[number : number + 1] for name, value in parameters.items()}


def same(first, second) -> bool:
    """Return whether two dictionaries of tensors are equal to the bit."""
    return all(torch.equal(first[name], second[name]) for name in first)


def distance(first, second) -> float:
    """Return the largest difference, relative to the largest entry."""
    return max(
        float((first[name] - second[name]).abs().max() / second[name].abs().max()) for name in first
    )
