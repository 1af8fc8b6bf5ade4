"""Checks of arrays before anything is read from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.data.structure import leaves, mapped
from whynet.models.load.wording import printable, quoted

_KINDS = {
    "O": "Python objects (an array of them is a pickle, never loaded)",
    "U": "text",
    "S": "bytes of text",
    "V": "records",
    "M": "dates",
    "m": "time spans",
    "c": "complex numbers",
    "T": "text",
}


def checked_arrays(inputs: Any, targets: Any, argument: str) -> tuple[Any, Any]:
    """Return inputs and targets as arrays or tensors of numbers of one length; nothing is copied.

    Raises:
        InputError: they hold something else, or differ in length.

    """
    inputs = mapped(_plain(inputs), lambda leaf: _array(leaf, argument, "inputs"))
    targets = _array(targets, argument, "targets")
    for label, leaf in leaves(inputs):
        if len(leaf) != len(targets):
            name = f" of {quoted(label)}" if label else ""
            raise InputError(
                argument,
                f"{len(leaf)} rows of inputs{name} and {len(targets)} of targets",
                "as many targets as inputs",
            )
    if not leaves(inputs):
        raise InputError(argument, "inputs without any array", "at least one array")
    return inputs, targets


def _plain(inputs: Any) -> Any:
    """Read a list of numbers as an array, a list of arrays as several inputs."""
    if isinstance(inputs, list) and not any(isinstance(x, Tensor | np.ndarray) for x in inputs):
        return _listed(inputs)
    return inputs


def _listed(values: Any) -> Any:
    try:
        return np.asarray(values)
    except (ValueError, TypeError):
        return np.empty(1, dtype=object)


def _array(leaf: Any, argument: str, what: str) -> Any:
    if isinstance(leaf, Tensor):
        return _tensor(leaf, argument, what)
    array = leaf if isinstance(leaf, np.ndarray) else _listed(leaf)
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise InputError(argument, f"{what} with masked entries", "arrays without gaps")
        array = array.data
    kind = _KINDS.get(array.dtype.kind)
    if kind is None and array.dtype.kind == "f" and array.dtype.itemsize > 8:
        kind = f"numbers of dtype {array.dtype}"
    if kind is not None:
        raise InputError(argument, f"{what} that are {kind}", "real numbers")
    if array.ndim == 0:
        raise InputError(
            argument, f"{what} without an axis", "one entry a row along the first axis"
        )
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size:
        largest = int(array.max())
        if largest > np.iinfo(np.int64).max:
            raise InputError(argument, f"{what} up to {largest}", "integers below 2^63")
    return array


def _tensor(tensor: Tensor, argument: str, what: str) -> Tensor:
    flaw = ""
    if tensor.is_nested:
        flaw = "nested tensors of different lengths"
    elif tensor.layout != torch.strided:
        flaw = f"tensors of layout {tensor.layout}"
    elif tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        flaw = f"tensors of dtype {tensor.dtype} on {tensor.device}"
    elif tensor.ndim == 0:
        flaw = "a tensor without an axis"
    if flaw:
        wanted = "dense real tensors with one entry a row"
        raise InputError(argument, f"{what} that are {printable(flaw)}", wanted)
    return tensor.to(torch.int64) if str(tensor.dtype) in _WIDE else tensor


_WIDE = ("torch.uint16", "torch.uint32", "torch.uint64")
