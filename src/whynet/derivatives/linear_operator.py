"""A matrix that is known by its products with vectors, in a thin typed form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whynet.core.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

COLUMNS = 256
"""Columns of the identity that are multiplied at once where a matrix is written out."""


class LinearOperator(ABC):
    """A real matrix [m, n] known by its products; `@` takes a vector [n] or a block [n, k].

    Attributes of every operator are `shape`, `dtype` and `device`; vectors of another dtype or
    device are cast on their way in. Nothing is computed before the first product.

    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns, (m, n)."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Dtype of the products."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where products live."""

    @abstractmethod
    def matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [n, k]; returns [m, k]."""

    @abstractmethod
    def adjoint_matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [m, k] by the transposed matrix; returns [n, k]."""

    @property
    def symmetric(self) -> bool:
        """Whether the matrix equals its transpose."""
        return False

    @property
    def size(self) -> int:
        """Number of columns, n."""
        return self.shape[1]

    @property
    def adjoint(self) -> LinearOperator:
        """The transposed matrix [n, m]; a symmetric one is its own."""
        return self if self.symmetric else _Adjoint(self)

    def matvec(self, vector: Tensor) -> Tensor:
        """Multiply a vector [n]; returns [m].

        Raises:
            ValueError: the vector has another shape.

        """
        if vector.ndim != 1:
            raise ValueError(f"a vector [{self.size}] is needed, not {(*vector.shape,)}")
        return self.matmat(vector[:, None])[:, 0]

    def __matmul__(self, other: Tensor) -> Tensor:
        """Multiply a vector [n] or a block of vectors [n, k].

        Raises:
            InputError: another length, or more than two axes.

        """
        if not isinstance(other, Tensor) or other.ndim not in (1, 2) or len(other) != self.size:
            shape = f"shape {(*other.shape,)}" if isinstance(other, Tensor) else type(other)
            raise InputError(
                "the vector", str(shape), f"a tensor [{self.size}] or columns [{self.size}, k]"
            )
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    def __call__(self, vector: Tensor) -> Tensor:
        """Multiply a vector [n] or columns [n, k]."""
        return self.matvec(vector) if vector.ndim == 1 else self.matmat(vector)

    def to_dense(self) -> Tensor:
        """Write the matrix out, [m, n]: n products, m n numbers; for small ones."""
        parts = []
        for start in range(0, self.size, COLUMNS):
            stop = min(self.size, start + COLUMNS)
            columns = torch.zeros(self.size, stop - start, dtype=self.dtype, device=self.device)
            columns[start:stop] = torch.eye(stop - start, dtype=self.dtype, device=self.device)
            parts.append(self.matmat(columns))
        return torch.cat(parts, dim=1)

    def to_scipy(self) -> ScipyOperator:
        """Return the operator for `scipy.sparse.linalg`: numpy arrays in, numpy arrays out."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def wrapped(product: LinearOperator) -> object:
            def multiply(array: object) -> object:
                given = torch.as_tensor(array).to(self.device, self.dtype)
                flat = given.reshape(product.size, -1)
                return product.matmat(flat).cpu().numpy().reshape(-1, *given.shape[1:])

            return multiply

        there, back = wrapped(self), wrapped(self.adjoint)
        return ScipyOperator(
            self.shape,
            matvec=there,
            rmatvec=back,
            matmat=there,
            rmatmat=back,
            dtype=torch.empty(0, dtype=self.dtype).numpy().dtype,
        )


class _Adjoint(LinearOperator):
    def __init__(self, of: LinearOperator) -> None:
        self._of = of

    @property
    def shape(self) -> tuple[int, int]:
        return self._of.shape[::-1]

    @property
    def dtype(self) -> torch.dtype:
        return self._of.dtype

    @property
    def device(self) -> torch.device:
        return self._of.device

    @property
    def adjoint(self) -> LinearOperator:
        return self._of

    def matmat(self, columns: Tensor) -> Tensor:
        return self._of.adjoint_matmat(columns)

    def adjoint_matmat(self, columns: Tensor) -> Tensor:
        return self._of.matmat(columns)
