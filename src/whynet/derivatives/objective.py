"""The function that is differentiated: mean loss over the data, as a function of the parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from whynet.derivatives.exact_kernels import default_dtype
from whynet.derivatives.output_derivatives import OutputDerivatives

Network = Callable[..., Any]

KnownDerivatives = Callable[[Tensor, Any], OutputDerivatives]
"""Outputs and targets of a batch to the derivatives of the summed loss in the outputs."""


def call_with_inputs(network: Network, inputs: Any) -> Tensor:
    """Call a network with one argument and take what it returns as the outputs."""
    outputs = network(inputs)
    if not isinstance(outputs, Tensor):
        raise TypeError(f"the network returned {type(outputs).__name__}, not a tensor")
    return outputs


@dataclass(frozen=True)
class Objective:
    """Mean loss over all the data as a function of the trainable parameters.

    Its value is the sum of `loss_sum` over all batches, divided by `count`.

    Attributes:
        module: a private copy of the network, in the mode in which it is measured.
        parameters: the trainable parameters by name, detached; a tied one stands once.
        frozen: parameters held fixed and buffers, by name; each call works on clones of them.
        loss_sum: outputs and targets to the sum of the losses of a batch's scored examples (a
            scalar tensor); an `nn.Module` is cast along with the network where precision changes.
        batches: makes a new pass over the data: pairs of inputs and targets, any pytrees.
        count: number of scored examples over all batches.
        call: how the network is called with the inputs and what of its answer are the outputs.
        made_in: dtype of tensors that the network creates without naming one; None leaves it.
        derivatives: those of `loss_sum` in the outputs, where they are known in closed form.
        separable: whether the loss of a batch is the sum of those of its rows, so that a batch may
            be cut (not where batch normalization uses the statistics of the batch).

    """

    module: nn.Module
    parameters: dict[str, Tensor]
    frozen: dict[str, Tensor]
    loss_sum: Callable[[Tensor, Any], Tensor]
    batches: Callable[[], Iterable[tuple[Any, Any]]]
    count: float
    call: Callable[[Network, Any], Tensor] = call_with_inputs
    made_in: torch.dtype | None = None
    derivatives: KnownDerivatives | None = None
    separable: bool = True

    def forward(self, parameters: dict[str, Tensor], inputs: Any) -> Tensor:
        """Return the network's outputs; neither inputs nor buffers are changed."""
        state = {**parameters, **{name: value.clone() for name, value in self.frozen.items()}}

        def network(*arguments: Any, **keywords: Any) -> Any:
            return functional_call(self.module, state, arguments, keywords)

        with default_dtype(self.made_in):
            return self.call(network, tree_map(_clone, inputs))

    def score(self, outputs: Tensor, targets: Any) -> Tensor:
        """Return the summed loss of outputs against targets."""
        with default_dtype(self.made_in):
            return self.loss_sum(outputs, targets)

    def loss(self, parameters: dict[str, Tensor], inputs: Any, targets: Any) -> Tensor:
        """Return the summed loss of one batch as a function of the parameters."""
        return self.score(self.forward(parameters, inputs), targets)

    def wide(self) -> Objective:
        """Return the same objective in float64: network, data, loss and tensors made on the way.

        Cost: a second copy of the network; batches are cast as they pass.

        """
        loss_sum = self.loss_sum
        if isinstance(loss_sum, nn.Module):
            loss_sum = _widened(loss_sum)

        def batches() -> Iterator[tuple[Any, Any]]:
            for inputs, targets in self.batches():
                yield widen(inputs), widen(targets)

        return replace(
            self,
            module=_widened(self.module),
            parameters=widen(self.parameters),
            frozen=widen(self.frozen),
            loss_sum=loss_sum,
            batches=batches,
            made_in=torch.float64,
        )


def objective_of(
    module: nn.Module,
    loss_sum: Callable[[Tensor, Any], Tensor],
    batches: Callable[[], Iterable[tuple[Any, Any]]],
    count: float,
    call: Callable[[Network, Any], Tensor] = call_with_inputs,
) -> Objective:
    """Make an objective from a module; the module itself is copied and never touched.

    A network from `torch.compile` is taken as the eager one it was made from.

    Args:
        module: the network, in the mode (training or evaluation) in which it is to be measured.
        loss_sum: see `Objective`.
        batches: see `Objective`.
        count: see `Objective`.
        call: see `Objective`.

    """
    module = getattr(module, "_orig_mod", module)
    ours = copy.deepcopy(module, _memo(module))
    trainable = {n: p.detach() for n, p in ours.named_parameters() if p.requires_grad}
    frozen = {n: p.detach() for n, p in ours.named_parameters() if not p.requires_grad}
    frozen |= {name: buffer.detach() for name, buffer in ours.named_buffers()}
    return Objective(ours, trainable, frozen, loss_sum, batches, count, call)


def in_training_mode(module: nn.Module) -> nn.Module:
    """Copy a network and let its batch normalization use the statistics of the batch it is given.

    That is the function training differentiates, except for what draws random numbers: dropout
    and all else stay as in evaluation mode. Running statistics are not changed by an `Objective`,
    which works on clones of them.
    """
    copied = copy.deepcopy(module, _memo(module)).eval()
    for part in copied.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.train()
    return copied


def widen(tree: Any) -> Any:
    """Cast the floating tensors of a pytree to float64, complex ones to complex128."""
    return tree_map(_widen, tree)


def first_rows(inputs: Any, targets: Any, rows: int) -> tuple[Any, Any]:
    """Cut a batch to its first rows along the first axis; tensors of another length stay whole."""
    lengths = [len(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.ndim]
    if not lengths:
        return inputs, targets

    def cut(leaf: Any) -> Any:
        whole = isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == lengths[0]
        return leaf[:rows] if whole else leaf

    return tree_map(cut, inputs), tree_map(cut, targets)


def held_fixed(objective: Objective) -> dict[str, Tensor]:
    """Return, by parameter, the rows that `padding_idx` holds fixed, as boolean masks.

    PyTorch gives such rows no gradient although the loss depends on them; products treat them
    as constants: they are zero in every vector that goes in and comes out.

    """
    masks: dict[str, Tensor] = {}
    for path, module in objective.module.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
            name = f"{path}.weight" if path else "weight"
            if name in objective.parameters:
                mask = torch.zeros_like(objective.parameters[name], dtype=torch.bool)
                mask[module.padding_idx] = True
                masks[name] = mask
    return masks


def _clone(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _widen(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    if leaf.is_complex():
        return leaf.to(torch.complex128)
    return leaf.double() if leaf.is_floating_point() else leaf


def _memo(module: nn.Module) -> dict[int, Any]:
    """Deepcopy refuses tensors inside an autograd graph; hand it detached ones."""
    plain = [value for part in module.modules() for value in vars(part).values()]
    inside = [t for t in plain if isinstance(t, Tensor) and not t.is_leaf]
    return {id(tensor): tensor.detach().clone() for tensor in inside}


def _widened(module: nn.Module) -> nn.Module:
    wide = copy.deepcopy(module, _memo(module)).double()
    for part in wide.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                vars(part)[name] = _widen(value)
    return wide
