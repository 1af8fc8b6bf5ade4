"""What a layer reads at every position: its inputs, or the patches of a convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.models.neurons import Firing, by_example, spatial_axes


def layer_inputs(firing: Firing, batch: int) -> Tensor | Patches | None:
    """Return what a layer reads at every position, `[examples, positions, ...]`.

    Patches of a convolution are a view that costs no memory before rows are picked. None where
    no axis counts the examples.
    """
    inputs, module = firing.inputs, firing.module
    assert inputs is not None
    inputs = inputs.detach()
    spatial = spatial_axes(module)
    if spatial == 0:
        return by_example(inputs, batch)
    if inputs.ndim == spatial + 1:
        inputs = inputs[None]
    if inputs.shape[0] != batch:
        return None
    return Patches(inputs, module)


class Patches:
    """The patches of a convolution, indexed by example and position."""

    def __init__(self, inputs: Tensor, module: nn.Module) -> None:
        convolution: Any = module
        spatial = inputs.ndim - 2
        mode = convolution.padding_mode
        padding = list(convolution._reversed_padding_repeated_twice)
        if any(padding):
            inputs = functional.pad(inputs, padding, "constant" if mode == "zeros" else mode)
        for axis in range(spatial):
            dilation, size = convolution.dilation[axis], convolution.kernel_size[axis]
            inputs = inputs.unfold(2 + axis, (size - 1) * dilation + 1, convolution.stride[axis])
            inputs = inputs[..., ::dilation]
        self.view = inputs.movedim(1, 1 + spatial)  # [examples, *positions, channels, *kernel]
        self.grid = self.view.shape[1 : 1 + spatial]
        self.shape = (len(inputs), int(np.prod(self.grid)), *self.view.shape[1 + spatial :])

    def __getitem__(self, index: tuple[Tensor, ...]) -> Tensor:
        example, position = index
        places = torch.unravel_index(position, self.grid)
        return self.view[(example, *places)]
