"""One pass over all rows: what they are, whether they are finite, and their hash."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.data.rows import Batch
from whynet.models.data.structure import Leaf, described, is_cast_to_float, leaves
from whynet.models.load.wording import quoted


@dataclass(frozen=True)
class Survey:
    """What a pass over all rows found.

    Attributes:
        count: number of rows.
        inputs: description of the tensors of an input, in order.
        targets: description of a target.
        structured: whether an input is a dict or tuple.
        extreme: largest size of any number, inputs and targets; what a precision must hold.
        low: least entry of inputs that reach the network as floats; infinite where none do.
        high: largest such entry.
        sha256: over content, dtypes and shapes in order; independent of the batch size.

    """

    count: int
    inputs: tuple[Leaf, ...]
    targets: Leaf
    structured: bool
    extreme: float
    low: float
    high: float
    sha256: str


class _Finite:
    """Counts what is not finite, and remembers where it was first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: tuple[int, ...] = ()
        self.label = ""

    def look(self, tensor: Tensor, start: int, label: str) -> None:
        if not tensor.is_floating_point():
            return
        bad = ~torch.isfinite(tensor)
        found = int(bad.sum())
        if found and not self.count:
            row, *rest = (int(i) for i in torch.nonzero(bad)[0])
            self.first, self.label = (start + row, *rest), label
        self.count += found


def survey(batches: Iterable[Batch], argument: str) -> Survey:
    """Look at all rows once.

    Raises:
        InputError: there are none, they differ in shape or type, or are not finite.

    """
    count, extreme, low, high, structured = 0, 0.0, math.inf, -math.inf, False
    shape: tuple[Leaf, ...] = ()
    hashers: list[hashlib._Hash] = []
    finite = _Finite()
    for inputs, targets in batches:
        if len(targets) == 0:
            continue
        found = (*described(inputs), *described(targets))
        if not shape:
            shape, structured = found, not isinstance(inputs, Tensor)
            hashers = [hashlib.sha256() for _ in shape]
            _check_dtypes(shape, argument)
        elif found != shape:
            raise _uneven(shape, found, count, argument)
        tensors = [*leaves(inputs), ("targets", targets)]
        for (label, tensor), leaf, hasher in zip(tensors, shape, hashers, strict=True):
            finite.look(tensor, count, label)
            # Cloned: an axis of length one may have any stride, and none is read as bytes.
            plain = tensor.detach().clone(memory_format=torch.contiguous_format)
            hasher.update(plain.reshape(-1).view(torch.uint8).numpy().data)
            is_input = leaf is not shape[-1]
            is_cast = is_input and is_cast_to_float(leaf, not structured)
            if is_cast or tensor.is_floating_point():
                least, most = (float(bound) for bound in torch.aminmax(tensor))
                extreme = max(extreme, -least, most)
                low, high = (min(low, least), max(high, most)) if is_input else (low, high)
        count += len(targets)
    if count == 0:
        raise InputError(argument, "0 rows", "at least one row")
    if finite.count:
        part = f" of {quoted(finite.label)}" if finite.label else ""
        raise InputError(
            argument,
            f"{finite.count} values{part} that are NaN or infinite, the first at {finite.first}",
            "finite numbers",
        )
    digests = [hasher.hexdigest() for hasher in hashers]
    head = repr([count, structured, [(x.label, str(x.dtype), x.shape) for x in shape], digests])
    sha256 = hashlib.sha256(head.encode()).hexdigest()
    return Survey(count, shape[:-1], shape[-1], structured, extreme, low, high, sha256)


def _check_dtypes(shape: tuple[Leaf, ...], argument: str) -> None:
    for leaf in shape:
        if leaf.dtype.is_complex or "float8" in str(leaf.dtype):
            raise InputError(argument, f"data of dtype {leaf.dtype}", "real numbers")
        if math.prod(leaf.shape) == 0:
            raise InputError(
                argument, f"rows of shape {list(leaf.shape)}", "rows that hold numbers"
            )


def _uneven(
    shape: tuple[Leaf, ...], found: tuple[Leaf, ...], row: int, argument: str
) -> InputError:
    def words(which: tuple[Leaf, ...]) -> str:
        return ", ".join(f"{list(leaf.shape)} {str(leaf.dtype)[6:]}" for leaf in which)

    return InputError(
        argument,
        f"rows of {words(shape)} and, from row {row} on, of {words(found)}",
        "rows of one shape and type (pad sequences to one length)",
    )
