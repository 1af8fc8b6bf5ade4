"""Narrow models inside wide ones, and what a wide one can change to first order there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

RELATIVE = 1e-9
"""Singular values below this share of the largest count as zero; exact zeros come out at 1e-15."""


def split_network(
    generator: np.random.Generator, inputs: int, neurons: int, width: int, *, idle: bool
) -> tuple[Array, Array]:
    """Draw a two-layer network of few neurons and write it as a wide one.

    Args:
        generator: of everything random.
        inputs: of the network.
        neurons: that the function needs.
        width: of the network.
        idle: whether the others are neurons of their own without output, instead of copies of the
            first ones that share its output weight in random parts.

    Returns:
        Input weights `[width, inputs]` and output weights `[width]`.

    """
    weights = generator.standard_normal((neurons, inputs))
    outer = generator.uniform(0.5, 1.5, neurons) * generator.choice([-1.0, 1.0], neurons)
    others = generator.standard_normal((width - neurons, inputs))
    parts = generator.uniform(0.2, 1.0, width)
    if idle:
        return np.concatenate([weights, others]), np.concatenate([outer, np.zeros(len(others))])
    owner = np.concatenate([np.arange(neurons), generator.integers(neurons, size=len(others))])
    totals = np.bincount(owner, weights=parts, minlength=neurons)
    return weights[owner], outer[owner] * parts / totals[owner]


@dataclass(frozen=True)
class Activation:
    """A function of a neuron and its slope."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


TANH = Activation(np.tanh, lambda z: 1 / np.cosh(z) ** 2)
RECTIFIED = Activation(lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float))


def network_tangents(x: Array, weights: Array, outer: Array, activation: Activation) -> Array:
    """Return derivatives of a two-layer network by its weights, `[rows, width (inputs + 1)]`."""
    z = x @ weights.T
    inner = (outer * activation.slope(z))[:, :, None] * x[:, None, :]
    return np.concatenate([activation.value(z), inner.reshape(len(x), -1)], axis=1)


def padded_factors(
    generator: np.random.Generator, sizes: tuple[int, ...], rank: int, *, idle: bool
) -> list[Array]:
    """Draw factors of low rank and write them as wide ones, the first applied first.

    Args:
        generator: of everything random.
        sizes: columns of the product, inner widths, rows of the product.
        rank: of the product.
        idle: whether inner directions that are not needed are fed from the inputs without being
            read, instead of being zero on both sides.

    """
    factors = []
    for place in range(len(sizes) - 1):
        before, after = sizes[place], sizes[place + 1]
        first, last = place == 0, place == len(sizes) - 2
        factor = np.zeros((after, before))
        kept = (slice(None) if last else slice(rank)), (slice(None) if first else slice(rank))
        factor[kept] = generator.standard_normal(factor[kept].shape)
        extra = generator.standard_normal(factor.shape)
        if idle and not last:
            factor[rank:] = extra[rank:]
        factors.append(factor)
    return factors


def product_tangents(factors: list[Array]) -> Array:
    """Return derivatives of all entries of a product by all entries of its factors."""
    blocks = []
    for place, factor in enumerate(factors):
        right = np.eye(factor.shape[1])
        for other in factors[:place][::-1]:
            right = right @ other
        left = np.eye(factor.shape[0])
        for other in factors[place + 1 :]:
            left = other @ left
        blocks.append(np.kron(left, right.T))
    return np.concatenate(blocks, axis=1)


def numerical_rank(tangents: Array) -> tuple[int, float, float]:
    """Return the rank, and the singular values on both sides of the cut, over the largest.

    Columns are brought to one length first, which no rank depends on.
    """
    lengths = np.linalg.norm(tangents, axis=0)
    values = np.linalg.svd(tangents / np.where(lengths > 0, lengths, 1), compute_uv=False)
    values = values / values[0]
    rank = int((values > RELATIVE).sum())
    return rank, float(values[rank - 1]), float(values[rank]) if rank < len(values) else 0.0
