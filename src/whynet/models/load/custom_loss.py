"""A user's loss: any callable that is the mean over the examples of a batch, checked to be one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.load.user_code import explain
from whynet.models.load.wording import printable, quoted


@dataclass(frozen=True)
class CustomLoss:
    """A user's callable as a rule of `whynet.models.losses`.

    Attributes:
        function: `(outputs, targets) -> scalar`.
        name: how sentences call it.
        path: the user's file, where it came from one.

    """

    function: Callable[[Tensor, Tensor], Tensor]
    name: str
    path: Path | None = None

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """Return the sum over a batch and the number of its examples."""
        count = float(len(outputs))
        return self.function(outputs, targets).reshape(()) * count, count

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every example: the callable on batches of one."""

        def single(output: Tensor, target: Tensor) -> Tensor:
            return self.function(output.unsqueeze(0), target.unsqueeze(0)).reshape(())

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.func.vmap(single)(outputs, targets)
        except Exception:  # noqa: BLE001 - a user's code that vmap cannot take is looped over
            pairs = zip(outputs, targets, strict=True)
            return torch.stack([single(output, target) for output, target in pairs])

    def check_outputs(self, shape: tuple[int, ...], argument: str) -> None:
        """Accept outputs of any shape."""

    def check_targets(
        self, targets: Tensor, shape: tuple[int, ...], argument: str
    ) -> tuple[str, ...]:
        """Accept any targets: what fits is for the callable to say."""
        return ()

    def check(self, outputs: Tensor, targets: Tensor, argument: str, data: str) -> tuple[str, ...]:
        """Refuse a callable that fails, is not differentiable, or is no mean over examples."""
        if len(outputs) == 1:  # a sum and a mean would be the same
            outputs, targets = torch.cat([outputs] * 2), torch.cat([targets] * 2)
        with torch.enable_grad():
            moved = outputs.detach().clone().requires_grad_()
            value = self._guarded(lambda: self.function(moved, targets), argument)
            if not isinstance(value, Tensor) or value.numel() != 1:
                kind = f"shape {list(value.shape)}" if isinstance(value, Tensor) else "no tensor"
                found = f"{quoted(self.name)} returning {kind} ({type(value).__name__})"
                raise InputError(argument, found, "a scalar tensor, the mean over the examples")
            if not value.requires_grad:
                raise InputError(
                    argument,
                    f"{quoted(self.name)} without a gradient (detached, or it ignores the outputs)",
                    "a differentiable function of the outputs",
                )
        each = self._guarded(lambda: self.per_example(outputs.detach(), targets), argument)
        whole, mean = float(value.detach()), float(each.mean())
        tolerance = max(1e-4, 50 * torch.finfo(outputs.dtype).eps)
        if not abs(whole - mean) <= tolerance * max(float(each.abs().mean()), 1e-6):
            raise InputError(
                argument,
                f"{quoted(self.name)} giving {whole:.6g} for {len(outputs)} examples whose "
                f"own losses have the mean {mean:.6g}",
                "the mean over the examples of a batch",
            )
        return ()

    def _guarded(self, call: Callable[[], Any], argument: str) -> Any:
        try:
            return call()
        except Exception as error:
            if self.path is not None:
                raise explain(error, quoted(self.name), self.path, argument) from error
            words = f"{type(error).__name__}: {printable(str(error))}"
            raise InputError(
                argument, f"{quoted(self.name)} raising {words}", "a loss that accepts this batch"
            ) from error
