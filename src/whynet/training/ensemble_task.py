"""What every member of an ensemble learns: forward pass, loss and data, batched over members."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from whynet.core.errors import InputError
from whynet.training.optimizers import Stacked

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""`forward(parameters, inputs) -> outputs` of one member; pure."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""`loss(outputs, targets) -> scalar` of one member."""

PARTS = ("inputs", "targets")


@dataclass(frozen=True)
class Task:
    """One learning problem a member, all of equal shapes.

    Attributes:
        forward: pure function of one member's parameters and inputs.
        loss: scalar of one member's outputs and targets.
        inputs: `[rows, ...]`, or `[members, rows, ...]` where members differ in them.
        targets: likewise.
        per_member: which of `inputs` and `targets` have a first axis of members.
        constants: further entries for `forward`, `[members, ...]`, that are not trained.

    """

    forward: Forward
    loss: Loss
    inputs: Tensor
    targets: Tensor
    per_member: tuple[str, ...] = ()
    constants: Stacked = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of one member."""
        return self.inputs.shape[1 if "inputs" in self.per_member else 0]

    @property
    def axes(self) -> tuple[int | None, int | None]:
        """Where inputs and targets have members, for `vmap`."""
        inputs, targets = (0 if part in self.per_member else None for part in PARTS)
        return inputs, targets

    def single(
        self, parameters: Stacked, constants: Stacked, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Return the loss of one member."""
        return self.loss(self.forward({**parameters, **constants}, inputs), targets)

    @cached_property
    def _losses(self) -> Callable[..., Tensor]:
        return vmap(self.single, in_dims=(0, 0, *self.axes))

    @cached_property
    def _gradients(self) -> Callable[..., tuple[Stacked, Tensor]]:
        return vmap(grad_and_value(self.single), in_dims=(0, 0, *self.axes))

    def losses(self, parameters: Stacked) -> Tensor:
        """Return each member's loss over all its data, `[members]`."""
        if count(parameters) == 1:
            return self.twice.losses(_doubled(parameters))[:1]
        return self._losses(parameters, self.constants, self.inputs, self.targets)

    def gradients(self, parameters: Stacked) -> tuple[Stacked, Tensor]:
        """Return gradients and losses over all data."""
        if count(parameters) == 1:
            gradients, losses = self.twice.gradients(_doubled(parameters))
            return {name: value[:1] for name, value in gradients.items()}, losses[:1]
        return self._gradients(parameters, self.constants, self.inputs, self.targets)

    @cached_property
    def twice(self) -> Task:
        """The task of a single member, held twice."""
        return self.select(torch.zeros(2, dtype=torch.int64, device=self.inputs.device))

    def select(self, members: Tensor) -> Task:
        """Return the task of some of the members."""
        inputs, targets = (
            part[members] if name in self.per_member else part
            for name, part in zip(PARTS, (self.inputs, self.targets), strict=True)
        )
        constants = {name: value[members] for name, value in self.constants.items()}
        return Task(self.forward, self.loss, inputs, targets, self.per_member, constants)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a minibatch, `[members, batch, ...]`.

        Args:
            rows: row numbers, `[members, batch]`, on the CPU.

        """
        rows = rows.to(self.inputs.device)
        member = torch.arange(len(rows), device=rows.device)[:, None]
        inputs, targets = (
            part[member, rows] if name in self.per_member else part[rows]
            for name, part in zip(PARTS, (self.inputs, self.targets), strict=True)
        )
        return inputs, targets


def stacked(modules: Sequence[nn.Module]) -> tuple[Forward, Stacked, Stacked]:
    """Return networks of equal shapes as a forward function and stacked tensors.

    Args:
        modules: one network a member, of one architecture; they are copied, not changed. The
            forward pass is that of the first, in the mode it is in.

    Returns:
        Forward function; trainable parameters; constants (buffers, and parameters that need no
        gradient). Pass the last as `constants`.

    Raises:
        InputError: no network, or networks of different tensors.

    """
    if not modules:
        raise InputError("modules", "no network", "one network a member")
    shapes = [{n: (t.shape, t.dtype) for n, t in _tensors(module).items()} for module in modules]
    for number, found in enumerate(shapes):
        if found != shapes[0]:
            raise InputError("modules", f"network {number} of other tensors", "equal shapes")
    trained = {name for name, value in modules[0].named_parameters() if value.requires_grad}
    whole = {
        name: torch.stack([_tensors(module)[name].detach() for module in modules])
        for name in shapes[0]
    }
    parameters = {name: value for name, value in whole.items() if name in trained}
    constants = {name: value for name, value in whole.items() if name not in trained}
    return forward_of(modules[0]), parameters, constants


def forward_of(module: nn.Module) -> Forward:
    """Return the forward pass of a copy of a network as a pure function of its parameters."""
    skeleton = copy.deepcopy(module)

    def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(skeleton, dict(parameters), (inputs,))
        return outputs

    return forward


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def checked_task(
    forward: Forward | nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    parameters: Mapping[str, Tensor],
    per_member: Sequence[str],
    constants: Mapping[str, Tensor] | None,
) -> tuple[Task, Stacked]:
    """Return the task and a detached copy of the parameters, after checking that they fit.

    Raises:
        InputError: no parameters, unequal numbers of members or rows, different dtypes or
            devices, or a forward pass or loss that does not run.

    """
    fixed = {name: value.detach().clone() for name, value in (constants or {}).items()}
    start = {name: value.detach().clone() for name, value in parameters.items()}
    _check_parameters(start, fixed)
    if isinstance(forward, nn.Module):
        unknown = sorted((set(start) | set(fixed)) - set(_tensors(forward)))
        if unknown:
            raise InputError("parameters", repr(unknown[0]), "names of the network's tensors")
        forward = forward_of(forward)
    task = Task(forward, loss, inputs, targets, tuple(per_member), fixed)
    _check_data(task, start)
    try:
        with torch.no_grad():
            losses = task.losses(start)
    except RuntimeError as error:
        if "randomness" in str(error):
            wanted = "none; networks in evaluation mode, or without dropout"
            raise InputError("forward", "random numbers drawn inside", wanted) from error
        raise
    if losses.shape != (count(start),):
        found = f"a result of shape {tuple(losses.shape[1:])}"
        raise InputError("loss", found, "one number a member")
    return task, start


def _doubled(parameters: Stacked) -> Stacked:
    return {name: value.expand(2, *value.shape[1:]) for name, value in parameters.items()}


def count(parameters: Mapping[str, Tensor]) -> int:
    """Return the number of members."""
    return len(next(iter(parameters.values())))


def _check_parameters(start: Stacked, fixed: Stacked) -> None:
    if not start:
        raise InputError("parameters", "none", "at least one tensor of shape [members, ...]")
    every = {**start, **fixed}
    if any(value.ndim == 0 for value in every.values()):
        raise InputError("parameters", "a tensor without dimensions", "[members, ...]")
    if len({len(value) for value in every.values()}) > 1 or count(start) == 0:
        sizes = sorted({len(value) for value in every.values()})
        raise InputError("parameters", f"first axes of {sizes}", "one axis of members, not empty")
    kinds = {(value.dtype, value.device) for value in start.values()}
    if len(kinds) > 1 or not next(iter(start.values())).is_floating_point():
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise InputError("parameters", found, "one floating dtype on one device")
    if set(start) & set(fixed):
        raise InputError("constants", repr(min(set(start) & set(fixed))), "no trained parameter")


def _check_data(task: Task, start: Stacked) -> None:
    unknown = set(task.per_member) - set(PARTS)
    if unknown:
        raise InputError("per_member", repr(min(unknown)), "inputs, targets or both")
    like = next(iter(start.values()))
    rows = []
    for name, part in zip(PARTS, (task.inputs, task.targets), strict=True):
        _check_part(name, part, like, name in task.per_member)
        rows.append(part.shape[1 if name in task.per_member else 0])
    if rows[0] != rows[1] or rows[0] == 0:
        found = f"{rows[1]} targets for {rows[0]} inputs"
        raise InputError("targets", found, "one target for each row")


def _check_part(name: str, part: Any, like: Tensor, own: bool) -> None:
    if not isinstance(part, Tensor) or part.ndim < 1 + own:
        shape = "[members, rows, ...]" if own else "[rows, ...]"
        raise InputError(name, f"a {type(part).__name__}", f"a tensor of shape {shape}")
    if own and len(part) != len(like):
        raise InputError(name, f"those of {len(part)} members", f"{len(like)} members")
    if part.device != like.device or (part.is_floating_point() and part.dtype != like.dtype):
        found = f"{part.dtype} on {part.device}"
        raise InputError(name, found, f"{like.dtype} on {like.device}, as the parameters")
