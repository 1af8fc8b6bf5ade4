"""How strongly the outputs of a network depend on what its layers return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from whynet.models.layer_calls import LayerCalled, rows_read, watching_layers
from whynet.models.resizing import held_state

PROBES: Final = 16
"""Random combinations of the outputs, where there are more outputs than these."""


def output_metrics(
    module: nn.Module,
    names: Sequence[str],
    batches: Callable[[], Iterator[Any]],
    run: Callable[[nn.Module, Any], Tensor],
    most_batches: int = 4,
) -> dict[str, Tensor]:
    """Return, layer by layer, the mean of J^T J over rows, J the derivative of all outputs.

    A small change D of what a layer returns on a row changes the outputs of its example by a
    squared length of about D^T G D; rows are examples times positions. With more than 16 outputs
    an unbiased estimate from 16 random combinations of them.

    Args:
        module: the network.
        names: weights of the layers.
        batches: makes an iterator over batches of inputs.
        run: calls the network.
        most_batches: of them are used.

    Returns:
        Weight to `[outputs of the layer, outputs of the layer]`, float64, times the number of
        rows an example has, so that costs are mean squares over examples.

    """
    sums: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    examples = 0
    for index, inputs in enumerate(batches()):
        if index >= most_batches:
            break
        calls, flat = _returned(module, names, inputs, run)
        examples += len(flat)
        for cotangent in _combinations(flat, generator):
            grads: tuple[Tensor | None, ...] = torch.autograd.grad(
                flat,
                [call.output for call in calls],
                cotangent.expand_as(flat),
                retain_graph=True,
                allow_unused=True,
            )
            for call, grad in zip(calls, grads, strict=True):
                name = call.layer.weight
                rows = None if grad is None else _rows(call, grad, held_state(module)[name])
                if rows is not None:
                    found = rows.T @ rows
                    sums[name] = sums[name] + found if name in sums else found
    return {name: total / examples for name, total in sums.items()}


def _returned(
    module: nn.Module,
    names: Sequence[str],
    inputs: Any,
    run: Callable[[nn.Module, Any], Tensor],
) -> tuple[list[LayerCalled], Tensor]:
    """Run the network; returns the calls of the layers, differentiable, and the outputs."""
    calls: list[LayerCalled] = []

    def see(call: LayerCalled) -> Tensor | None:
        if call.layer.weight not in names:
            return None
        # Not detached, so that what reaches the layers before passes through as well.
        output = call.output if call.output.requires_grad else call.output.requires_grad_()
        calls.append(replace(call, output=output))
        return output.clone()  # so that nothing writes into the leaf

    with torch.enable_grad(), watching_layers(module, see):
        outputs = run(module, inputs)
        return calls, outputs.reshape(len(outputs), -1)


def _rows(call: LayerCalled, grad: Tensor, weight: Tensor) -> Tensor | None:
    found = rows_read(replace(call, output=grad), weight)
    return None if found is None else found[1].double()


def _combinations(flat: Tensor, generator: torch.Generator) -> Tensor:
    count = flat.shape[1]
    if count <= PROBES:
        return torch.eye(count, dtype=flat.dtype)[:, None]
    signs = torch.randint(0, 2, (PROBES, 1, count), generator=generator)
    return (2 * signs - 1).to(flat.dtype) / PROBES**0.5
