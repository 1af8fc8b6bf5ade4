"""Diagonal, traces of diagonal blocks and Frobenius norm of a symmetric operator, from one draw.

For orthonormal Q and random signs z, with w = (I - Q Q') z: z * A w is an unbiased sample of the
diagonal of A (I - Q Q') (Bekas, Kokiopoulou and Saad 2007, Appl. Numer. Math. 57:1214), its sum
over a block one of that block's trace (Hutchinson 1990), |A w|^2 one of the squared Frobenius norm.
What Q spans is added exactly; Q need not be eigenvectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.core.seeds import seed_from
from whynet.numerics.deflation import check_orthonormal, project_out
from whynet.numerics.intervals import mean_t
from whynet.numerics.lanczos import Operator
from whynet.numerics.probes import rademacher

Floats = NDArray[np.float64]

HELD: Final = 2**25
"""Numbers of the probes that run together; those of small operators are all one group."""


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

    Cost: one product a probe and one a known direction, as many in a call as `HELD` numbers allow.
    Memory: seven times the numbers of a call, at most.

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
    known, square = _known(matmat, size, deflation)
    held = [float(part.sum()) for part in torch.split(known, sizes)]
    together = max(1, min(probes, HELD // size))
    running = _Running(sizes, known.new_zeros(size), known.new_zeros(size))
    for first in range(0, probes, together):
        signs = rademacher(
            size,
            min(together, probes - first),
            seed_from("diagonal moments", seed, first) if first else seed,
            dtype=dtype,
            device=device,
        )
        columns = signs if deflation is None else project_out(deflation, signs)
        running.add(signs, _finite(matmat(columns)))
    return DiagonalMoments(
        (known + running.mean).numpy(),
        (running.spread / (probes - 1) / probes).sqrt().numpy(),
        np.array(held),
        np.concatenate(running.blocks),
        square,
        np.concatenate(running.squares),
    )


def _known(matmat: Operator, size: int, deflation: Tensor | None) -> tuple[Tensor, float]:
    """Return the diagonal [P] on the known directions, and their squared Frobenius norm."""
    known, square = torch.zeros(size, dtype=torch.float64), 0.0
    if deflation is None or not deflation.shape[-1]:
        return known, square
    check_orthonormal(deflation, size)
    for columns in torch.split(deflation, max(1, HELD // size), dim=1):
        image = _finite(matmat(columns)).double()
        known += (image * columns).sum(1).cpu()
        square += float(image.square().sum())
    return known, square


def _finite(images: Tensor) -> Tensor:
    if not bool(torch.isfinite(images).all()):
        raise FloatingPointError(
            "The operator returned NaN or infinity; its diagonal cannot be measured."
        )
    return images


@dataclass
class _Running:
    """Moments of the probes so far, joined as Chan, Golub and LeVeque (1983) join variances.

    Attributes:
        sizes: of the blocks.
        mean: [P] of the samples.
        spread: [P], sum of their squared distances from it.
        count: of the samples.
        blocks: [probes, blocks] of each group.
        squares: [probes] of each group.

    """

    sizes: list[int]
    mean: Tensor
    spread: Tensor
    count: int = 0
    blocks: list[Floats] = field(default_factory=list)
    squares: list[Floats] = field(default_factory=list)

    def add(self, signs: Tensor, images: Tensor) -> None:
        """Add a group of probes [P, p] with their products."""
        products = images.double()
        self.squares.append(products.square().sum(0).cpu().numpy())
        samples = products.mul_(signs).cpu()
        sums = [part.sum(0).numpy() for part in torch.split(samples, self.sizes)]
        self.blocks.append(np.stack(sums, axis=1))
        here = samples.mean(1)
        more = samples.shape[1]
        total = self.count + more
        gap = here - self.mean
        self.mean = self.mean + gap * (more / total)
        within = samples.sub_(here[:, None]).square_().sum(1)
        self.spread = self.spread + within + gap.square() * (self.count * more / total)
        self.count = total


def _shifted(samples: Floats, exact: float, what: str, level: float) -> Estimate:
    how = f"{what}: exact on known directions, t over Rademacher probes on the rest"
    rest = mean_t(samples, unit="", how=how, over="probes", level=level)
    return replace(rest, value=rest.value + exact, low=rest.low + exact, high=rest.high + exact)
