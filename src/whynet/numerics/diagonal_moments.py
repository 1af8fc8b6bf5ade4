"""Diagonal, traces of diagonal blocks and Frobenius norm of a symmetric operator, from one draw.

For orthonormal Q and random signs z, with w = (I - Q Q') z: z * A w is an unbiased sample of the
diagonal of A (I - Q Q') (Bekas, Kokiopoulou and Saad 2007, Appl. Numer. Math. 57:1214), its sum
over a block one of that block's trace (Hutchinson 1990), |A w|^2 one of the squared Frobenius norm.
What Q spans is added exactly; Q need not be eigenvectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.numerics.deflation import check_orthonormal, project_out
from whynet.numerics.intervals import mean_t
from whynet.numerics.lanczos import Operator
from whynet.numerics.probes import rademacher

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DiagonalMoments:
    """What some probes said.

    Attributes:
        diagonal: [P] float64, its unbiased estimate.
        error: [P], its standard error over the probes.
        block_exact: [blocks], traces of the blocks on the known directions.
        block_samples: [probes, blocks], samples of the rest.
        square_exact: squared Frobenius norm on the known directions.
        square_samples: [probes], samples of the rest.

    """

    diagonal: Floats
    error: Floats
    block_exact: Floats
    block_samples: Floats
    square_exact: float
    square_samples: Floats

    def trace(self, *, level: float = 0.95) -> Estimate:
        """Trace: exact on the known directions, t over the probes on the rest."""
        samples = self.block_samples.sum(1)
        return _shifted(samples, float(self.block_exact.sum()), "trace", level)

    def block_traces(self, *, level: float = 0.95) -> tuple[Estimate, ...]:
        """Traces of the blocks, each with an interval of its own."""
        pairs = zip(self.block_samples.T, self.block_exact, strict=True)
        return tuple(_shifted(mine, float(known), "block trace", level) for mine, known in pairs)

    def frobenius_norm(self, *, level: float = 0.95) -> Estimate:
        """Frobenius norm: the root of the interval of its square."""
        square = _shifted(self.square_samples, self.square_exact, "Frobenius norm", level)
        low, value, high = (
            math.sqrt(max(0.0, end)) for end in (square.low, square.value, square.high)
        )
        return replace(square, value=value, low=max(low, math.sqrt(self.square_exact)), high=high)


def together(parts: Sequence[DiagonalMoments]) -> DiagonalMoments:
    """Put draws of the same operator with the same known directions together."""
    counts = np.array([len(part.square_samples) for part in parts], dtype=np.float64)
    shares = counts / counts.sum()
    return DiagonalMoments(
        np.sum([share * part.diagonal for share, part in zip(shares, parts, strict=True)], axis=0),
        np.sqrt(
            np.sum([(s * part.error) ** 2 for s, part in zip(shares, parts, strict=True)], axis=0)
        ),
        parts[0].block_exact,
        np.concatenate([part.block_samples for part in parts]),
        parts[0].square_exact,
        np.concatenate([part.square_samples for part in parts]),
    )


def diagonal_moments(
    matmat: Operator,
    size: int,
    *,
    probes: int = 30,
    seed: int = 0,
    blocks: Sequence[int] = (),
    deflation: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> DiagonalMoments:
    """Draw probes and take all moments from their products.

    Cost: one product a probe and one a known direction, each in one call. Memory: three times
    P * probes numbers.

    Args:
        matmat: symmetric operator on columns, [P, p] to [P, p].
        size: P.
        probes: at least 2; from 30 on intervals are called so.
        seed: of the probes.
        blocks: sizes of consecutive diagonal blocks that add up to P; the whole by default.
        deflation: orthonormal columns Q [P, q], or None.
        dtype: dtype of the probes.
        device: where they live.

    Raises:
        InputError: sizes out of range, or Q not orthonormal.
        FloatingPointError: the operator returned NaN or infinity.

    """
    sizes = list(blocks) or [size]
    if sum(sizes) != size or min(sizes) < 1:
        raise InputError("blocks", f"sizes that add up to {sum(sizes)}", f"{size} in all")
    if probes < 2:
        raise InputError("probes", str(probes), "at least 2")
    signs = rademacher(size, probes, seed, dtype=dtype, device=device)
    return _moments(matmat, signs, sizes, deflation)


def _moments(
    matmat: Operator, signs: Tensor, sizes: list[int], deflation: Tensor | None
) -> DiagonalMoments:
    size, probes = signs.shape
    columns, known, square = signs, torch.zeros(size, dtype=torch.float64), 0.0
    if deflation is not None and deflation.shape[-1]:
        check_orthonormal(deflation, size)
        columns = project_out(deflation, signs)
        image = matmat(deflation).double()
        known = (image * deflation.double()).sum(1).cpu()
        square = float(image.square().sum())
    images = matmat(columns).double()
    if not bool(torch.isfinite(images).all()):
        raise FloatingPointError(
            "The operator returned NaN or infinity; its diagonal cannot be measured."
        )
    samples = (signs.double() * images).cpu()
    parts = [part.sum(0).numpy() for part in torch.split(samples, sizes)]
    held = [float(part.sum()) for part in torch.split(known, sizes)]
    return DiagonalMoments(
        (known + samples.mean(1)).numpy(),
        (samples.std(1, correction=1) / probes**0.5).numpy(),
        np.array(held),
        np.stack(parts, axis=1),
        square,
        images.square().sum(0).cpu().numpy(),
    )


def _shifted(samples: Floats, exact: float, what: str, level: float) -> Estimate:
    how = f"{what}: exact on known directions, t over Rademacher probes on the rest"
    rest = mean_t(samples, unit="", how=how, over="probes", level=level)
    return replace(rest, value=rest.value + exact, low=rest.low + exact, high=rest.high + exact)
