"""PyTorch's functions replaced by others while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DTYPES = (torch.float32, torch.float64)
"""Precisions in which functions are replaced."""

Replace = Callable[[Any, Sequence[Any], Mapping[str, Any]], Tensor | None]
"""A function and its arguments to what it gives; None where it is called itself."""


class _Replacing(TorchFunctionMode):
    def __init__(self, known: Collection[Any], replace: Replace) -> None:
        super().__init__()
        self._known = known
        self._replace = replace

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._known and not _is_recomputed():
            found = self._replace(func, args, kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)


@contextmanager
def replacing(known: Collection[Any], replace: Replace) -> Iterator[None]:
    """Let networks called inside use other functions.

    Not where activations are recomputed on the way back (checkpoints), which happens outside of
    this mode.

    Args:
        known: functions that may be replaced.
        replace: says by what.

    """
    with _Replacing(known, replace):
        yield


def _is_recomputed() -> bool:
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
