"""How a case is written: a small module with its inputs, targets and summed loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whynet.derivatives.objective import Network, call_with_inputs


def bent(outputs: Tensor, targets: Any) -> Tensor:
    """A loss with curvature everywhere: sum of sine and half square."""
    del targets
    return (outputs.sin() + 0.5 * outputs.square()).sum()


@dataclass(frozen=True)
class Case:
    module: nn.Module
    inputs: Any
    targets: Any = None
    loss: Callable[[Tensor, Any], Tensor] = bent
    call: Callable[[Network, Any], Tensor] = call_with_inputs


Cases = dict[str, Callable[[], Case]]


class Small(nn.Module):
    """A module whose forward pass is a function of itself and its input.

    Keywords that are modules become parts, tuples become parameters of that shape, tensors become
    buffers.
    """

    def __init__(self, function: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, tuple):
                setattr(self, name, nn.Parameter(0.7 * torch.randn(part)))
            elif isinstance(part, Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def of(function: Callable[..., Any], *inputs: int, **parts: Any) -> Callable[[], Case]:
    """A case from a function of module and input; a weight W [3, 4] is there unless named."""
    shape = inputs or (5, 3)

    def build() -> Case:
        made = {
            n: p() if callable(p) and not isinstance(p, nn.Module) else p for n, p in parts.items()
        }
        if "W" not in made:
            made["W"] = (3, 4)
        return Case(Small(function, **made), torch.randn(shape))

    return build


def hidden(make: Callable[[], nn.Module], width: int = 4, out: int = 4) -> Callable[[], Case]:
    """A case with a layer between two linear ones."""
    return lambda: Case(
        nn.Sequential(nn.Linear(3, width), make(), nn.Linear(out, 2)), torch.randn(5, 3)
    )


def scored(
    loss: Callable[[Tensor, Any], Tensor],
    targets: Callable[[], Any] = lambda: None,
    width: int = 4,
) -> Callable[[], Case]:
    """A case about a loss: a small tanh network in front of it."""
    return lambda: Case(
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, width)),
        torch.randn(5, 3),
        targets(),
        loss,
    )


def layers(*make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Callable[[], Case]:
    """A case from layers in a row on random inputs of a shape."""
    return lambda: Case(nn.Sequential(*(m() for m in make)), torch.randn(shape))
