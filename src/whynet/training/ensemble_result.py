"""What training an ensemble leaves: parameters, how each member ended, and what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.errors import InputError
from whynet.training.optimizers import Stacked

if TYPE_CHECKING:
    import xarray as xr

Ending = Literal["finished", "converged", "out of steps", "not finite"]
"""How a member ended.

`finished`: it did all it was asked for, and no criterion was set; `converged`: it met its
criterion; `out of steps`: the steps (or times) ended before; `not finite`: its next loss or
parameters would not have been finite, and it stays at the last ones that were.
"""

Observable = Callable[[Stacked], Tensor]
"""A function of the stacked parameters of all members to `[members, ...]`."""


@dataclass(frozen=True)
class EnsembleResult:
    """A trained ensemble.

    Attributes:
        parameters: where each member stopped, `[members, ...]` each.
        losses: loss of each member there, over all its data.
        steps: steps each member took.
        state: how each member ended.
        records: `loss` and the observables over `member` and `step` (flows: `time`). A member
            that has stopped goes on being recorded where it stopped.
        times: of flows, the time at which each member stopped; else None.

    """

    parameters: Stacked
    losses: Tensor
    steps: Tensor
    state: tuple[Ending, ...]
    records: xr.Dataset
    times: Tensor | None = None

    def ended(self, state: Ending) -> NDArray[np.bool_]:
        """Return which members ended so."""
        return np.array([found == state for found in self.state])


class Recorder:
    """Collects observables of stacked parameters.

    Args:
        observables: by name.
        members: number of members.
        axis: `step` or `time`.

    Raises:
        InputError: an observable named like what is recorded anyway.

    """

    def __init__(
        self, observables: Mapping[str, Observable] | None, members: int, axis: str
    ) -> None:
        self.observables, self.members, self.axis = dict(observables or {}), members, axis
        for name in {"loss", "member", axis} & set(self.observables):
            raise InputError("record", repr(name), "another name; that one is taken")
        self._at: list[float] = []
        self._rows: list[dict[str, NDArray[Any]]] = []

    def observe(self, name: str, parameters: Stacked) -> Tensor:
        """Return one observable of all members.

        Raises:
            InputError: an unknown name, or a result without one entry a member.

        """
        if name not in self.observables:
            known = ["loss", "gradient", *self.observables]
            raise InputError("stop", repr(name), "one of " + ", ".join(known))
        values = torch.as_tensor(self.observables[name](parameters)).detach()
        if values.ndim == 0 or len(values) != self.members:
            found = f"{name!r} of shape {tuple(values.shape)}"
            raise InputError("record", found, f"one entry for each of {self.members} members")
        return values

    def add(self, at: float, parameters: Stacked, losses: Tensor) -> None:
        """Record all observables at a step or time."""
        row = {name: _array(self.observe(name, parameters)) for name in self.observables}
        self._at.append(at)
        self._rows.append({"loss": _array(losses), **row})

    def correct(self, losses: Tensor) -> None:
        """Replace the losses of the last record."""
        self._rows[-1]["loss"] = _array(losses)

    @property
    def taken(self) -> int:
        """How many records there are."""
        return len(self._rows)

    def dataset(self, planned: Sequence[float]) -> xr.Dataset:
        """Return all records; planned ones that never came repeat the last."""
        import xarray as xr

        rows = self._rows + self._rows[-1:] * (len(planned) - len(self._rows))
        variables = {}
        for name in rows[0] if rows else ():
            values = np.stack([row[name] for row in rows], axis=1)
            inner = tuple(f"{name}_axis_{axis}" for axis in range(values.ndim - 2))
            variables[name] = (("member", self.axis, *inner), values)
        coordinates = {"member": np.arange(self.members), self.axis: np.asarray(planned)}
        return xr.Dataset(variables, coordinates)


def _array(values: Tensor) -> NDArray[Any]:
    # A copy: an observable may return a parameter itself.
    return np.array(values.detach().cpu().numpy())


def endings(converged: Tensor, failed: Tensor, criterion: bool) -> tuple[Ending, ...]:
    """Return how members ended, from two masks and whether there was a criterion."""
    rest: Ending = "out of steps" if criterion else "finished"
    return tuple(
        "converged" if arrived else "not finite" if lost else rest
        for arrived, lost in zip(converged.tolist(), failed.tolist(), strict=True)
    )
