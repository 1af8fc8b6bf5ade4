"""Whether a smaller network that agrees on the training rows agrees beside them as well."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from whynet.concepts.condensation.approximate import Task

FAR: Final = 10.0
"""Times the change asked for, above which the change beside the data is told."""


def caution(task: Task, module: nn.Module, change: float) -> str:
    """Say in a sentence that training rows do not tell what a network says elsewhere, or nothing.

    Where a layer has more units than there are rows, fewer units than rows repeat it on these rows
    alone. Points between the data and close beside them see that.

    Args:
        task: the network as it came, and its data.
        module: the smaller one.
        change: largest relative change of an output that was asked for, or is there on the data.

    Cost: two passes over four times the data; nothing where inputs are no real numbers.

    """
    if not isinstance(task.example, Tensor) or not task.example.is_floating_point():
        return ""
    worst = size = 0.0
    with torch.no_grad():
        for points in task.around():
            before, after = (task.run(one, points) for one in (task.module, module))
            worst = max(worst, float((after - before).abs().max()))
            size = max(size, float(before[: len(points) // 4].abs().max()))
    apart = worst / max(size, 1e-300)
    if apart <= FAR * change:
        return ""
    return (
        f"Between and close beside the training rows an output changes by up to {apart:.2g} of the "
        f"largest, where {change:.2g} was asked for on them: these rows do not tell what the "
        "network says elsewhere. Give more of them."
    )
