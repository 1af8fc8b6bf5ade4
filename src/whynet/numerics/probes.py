"""Random directions: drawn on the CPU in float64, so that every device and dtype sees the same."""

from __future__ import annotations

import torch
from torch import Tensor

from whynet.core.errors import InputError


def uniform_direction(
    size: int, seed: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw a vector [size], uniform on the unit sphere.

    Raises:
        InputError: `size` below 1.

    """
    _check("size", size)
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    vector /= torch.linalg.vector_norm(vector)
    return vector.to(device=device, dtype=dtype)


def rademacher(
    size: int,
    probes: int,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw probes [size, probes] with independent entries +1 and -1.

    Raises:
        InputError: `size` or `probes` below 1.

    """
    _check("size", size)
    _check("probes", probes)
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (probes, size), generator=generator, dtype=torch.int8)
    return (2 * bits - 1).T.to(device=device, dtype=dtype)


def gaussian(
    size: int,
    probes: int,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw probes [size, probes] with independent standard normal entries.

    Their directions are uniform, in the whole space and, projected, in every subspace.

    Raises:
        InputError: `size` or `probes` below 1.

    """
    _check("size", size)
    _check("probes", probes)
    generator = torch.Generator().manual_seed(seed)
    entries = torch.randn((probes, size), generator=generator, dtype=torch.float64)
    return entries.T.to(device=device, dtype=dtype)


def _check(argument: str, value: int) -> None:
    if value < 1:
        raise InputError(argument, str(value), "at least 1")
