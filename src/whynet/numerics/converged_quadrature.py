"""Lanczos quadrature whose isolated eigenvalues have their exact weight, at no further product.

The first probe's Lanczos run finds the isolated eigenvalues with their eigenvectors. They are taken
out of that probe and of all others, and given back with the weight 1 / n that each has; otherwise
it would be nearly chi-squared, which is most of the error of a quadrature from few probes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from whynet.numerics.lanczos import Operator, lanczos
from whynet.numerics.lanczos_quadrature import (
    Band,
    Quadrature,
    cumulative_band,
    exact_cumulative,
    join,
    lanczos_quadrature,
)
from whynet.numerics.moment_brackets import cumulative_bounds
from whynet.numerics.probes import rademacher
from whynet.numerics.tall_bases import tall_qr

Floats = NDArray[np.float64]

ISOLATED = 1e-2
"""Eigenvalues below this share of the largest magnitude stay with the probes."""

CONVERGED = 1e-4
"""Residual over eigenvalue below which an eigenvector is taken out."""


@dataclass(frozen=True)
class Spectrum:
    """A spectral measure: known eigenvalues, and quadratures of the rest.

    Attributes:
        known: [q] eigenvalues that were taken out, descending.
        vectors: [P, q] their eigenvectors.
        rest: quadratures of the probes without them.

    """

    known: Floats
    vectors: Tensor
    rest: Quadrature

    def measure(self) -> tuple[Floats, Floats]:
        """Return places, ascending, and weights that sum to 1."""
        masses = self.rest.weights.sum(1, keepdims=True)
        left = 1 - len(self.known) / self.rest.size
        weights = self.rest.weights / masses * (left / len(masses))
        places = np.concatenate([self.rest.nodes.ravel(), self.known])
        share = np.full(len(self.known), 1 / self.rest.size)
        order = np.argsort(places)
        return places[order], np.concatenate([weights.ravel(), share])[order]

    def band(self, places: ArrayLike, *, level: float = 0.95) -> Band:
        """Return the share of the spectrum at or below each place, with its pointwise band.

        The band covers the draw of the probes (Student's t) and the finite number of steps
        (brackets of Chebyshev, Markov and Stieltjes, a probe each); `interval` from 30 probes on.

        Args:
            places: [G] eigenvalues.
            level: nominal pointwise coverage, at least.

        Raises:
            InputError: fewer than 2 probes.

        """
        low, high = cumulative_bounds(self.rest.nodes, self.rest.weights, places)
        exact = exact_cumulative(self.known, self.rest.size, places)
        return cumulative_band(low, high, exact, level=level)

    def distance(self, eigenvalues: ArrayLike) -> float:
        """Return the Wasserstein-1 distance to a spectrum of which all eigenvalues are given."""
        from scipy.stats import wasserstein_distance

        places, weights = self.measure()
        return float(wasserstein_distance(places, np.asarray(eigenvalues), weights))


def converged_quadrature(
    matmat: Operator,
    size: int,
    *,
    steps: int = 40,
    probes: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Spectrum:
    """Run a Lanczos quadrature from each probe, the first of which finds what is isolated.

    Cost: `steps` products for each probe; the others run together. Memory: steps * P * probes.

    Args:
        matmat: symmetric operator on columns, [P, p] to [P, p].
        size: P.
        steps: Lanczos steps of each probe.
        probes: number of probes, at least 1.
        seed: of the probes.
        dtype: dtype of the vectors.
        device: where they live.

    Raises:
        InputError: sizes out of range.
        FloatingPointError: the operator returned NaN or infinity.

    """
    first = rademacher(size, 1, seed, dtype=dtype, device=device)[:, 0]
    run = lanczos(lambda vector: matmat(vector[:, None])[:, 0], first, steps)
    values, turned = run.eigen()
    residuals = run.residual_norm * turned[-1].abs()
    known = values.abs() >= ISOLATED * values.abs().max()
    known &= residuals <= CONVERGED * values.abs()
    if int(known.sum()) >= size:
        known[:] = False
    vectors = (run.basis @ turned[:, known].to(run.basis)).contiguous()
    # Ritz vectors are orthonormal up to round-off of the basis; a small QR makes them so.
    vectors = tall_qr(vectors)[0] if vectors.shape[1] else vectors
    weights = turned[0].square().masked_fill(known, 0.0)
    pad = min(steps, size) - len(values)
    nodes = np.pad(values.numpy(), (0, pad), mode="edge")[None]
    masses = np.pad(weights.numpy(), (0, pad))[None]
    parts = [Quadrature(nodes, masses, size)]
    if probes > 1:
        found = lanczos_quadrature(
            matmat,
            size,
            steps=steps,
            probes=probes - 1,
            seed=seed + 1,
            deflation=vectors,
            dtype=dtype,
            device=device,
        )
        parts.append(found)
    eigenvalues = values[known].flip(0).numpy()
    return Spectrum(eigenvalues, vectors.flip(1), join(parts))
