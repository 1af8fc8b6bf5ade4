"""A network that runs out of memory on more rows than so many at once."""

from __future__ import annotations

from torch import Tensor, nn


class TooLarge(RuntimeError):
    """What PyTorch raises on the CPU, in its words."""

    def __init__(self) -> None:
        super().__init__(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )


class Hungry(nn.Module):
    """Evaluates a network on at most `most` rows, and remembers the largest batch that went."""

    def __init__(self, inner: nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most, self.largest = inner, most, 0

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) > self.most:
            raise TooLarge
        self.largest = max(self.largest, len(inputs))
        outputs: Tensor = self.inner(inputs)
        return outputs
