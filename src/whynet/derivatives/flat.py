"""Parameters as one long vector, in parameter order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor

Vector = tuple[Tensor, ...]
"""One tensor per parameter, in parameter order."""


@dataclass(frozen=True)
class Layout:
    """Where each parameter stands in the flat vector of length `size`.

    Attributes:
        names: names of the parameters, in order.
        shapes: their shapes.
        dtypes: their dtypes; the flat vector has the widest of them.
        dtype: dtype of the flat vector.
        device: device of the first parameter; the flat vector lives there.

    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> Layout:
        """Lay out the given parameters; there must be at least one."""
        tensors = tuple(parameters.values())
        dtypes = tuple(tensor.dtype for tensor in tensors)
        return cls(
            tuple(parameters),
            tuple(tensor.shape for tensor in tensors),
            dtypes,
            reduce(torch.promote_types, dtypes),
            tensors[0].device,
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of scalars of each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @cached_property
    def size(self) -> int:
        """Number of scalar parameters, P."""
        return sum(list(self.sizes))

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Join one tensor per parameter into a vector [P]."""
        return torch.cat([tensor.detach().reshape(-1).to(self.dtype) for tensor in tensors])

    def unflatten(self, vector: Tensor) -> Vector:
        """Cut a vector [P] into one tensor per parameter, in the parameters' dtypes.

        Raises:
            ValueError: the vector has another shape.

        """
        if vector.shape != (self.size,):
            raise ValueError(f"a vector of shape ({self.size},) is needed, not {(*vector.shape,)}")
        pieces = torch.split(vector.detach().to(self.device), list(self.sizes))
        return tuple(
            piece.reshape(shape).to(dtype)
            for piece, shape, dtype in zip(pieces, self.shapes, self.dtypes, strict=True)
        )

    def flatten_many(self, tensors: Sequence[Tensor]) -> Tensor:
        """Join tensors [k, *shape], one per parameter, into columns [P, k]."""
        sized = zip(tensors, self.sizes, strict=True)
        rows = [tensor.detach().reshape(len(tensor), n).to(self.dtype) for tensor, n in sized]
        return torch.cat(rows, dim=1).T

    def unflatten_many(self, columns: Tensor) -> Vector:
        """Cut columns [P, k] into tensors [k, *shape], one per parameter.

        Raises:
            ValueError: the columns have another length, or there is no axis of columns.

        """
        if columns.ndim != 2 or len(columns) != self.size:
            raise ValueError(f"columns [{self.size}, k] are needed, not {(*columns.shape,)}")
        # Each vector lies together, or every product with one would copy it.
        rows = columns.detach().to(self.device).T.contiguous()
        pieces = torch.split(rows, list(self.sizes), dim=1)
        return tuple(
            piece.reshape(len(piece), *shape).to(dtype)
            for piece, shape, dtype in zip(pieces, self.shapes, self.dtypes, strict=True)
        )


def norm(vector: Sequence[Tensor]) -> float:
    """Euclidean norm of a vector given in pieces, summed in float64."""
    return math.sqrt(sum(float(piece.double().square().sum()) for piece in vector))


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Inner product of two vectors given in pieces, summed in float64."""
    pairs = zip(left, right, strict=True)
    return sum(float((a.double() * b.double()).sum()) for a, b in pairs)
