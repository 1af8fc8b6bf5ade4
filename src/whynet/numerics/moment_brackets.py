"""How much of a measure lies below a place, as its Gauss quadrature brackets it: sharp, no chance.

A Gauss rule of m nodes knows the first moments of a measure and nothing else. Of all measures with
the moments up to degree 2 m - 2, the one that has least and the one that has most at or below a
place t agree with a single rule, the canonical one with a node at t: what it has below t is there
for sure, and its weight at t, the Christoffel function, is what is left open (inequalities of
Chebyshev, Markov and Stieltjes; Akhiezer 1965, The Classical Moment Problem, section 2.5). That
weight is small wherever the rule can tell t from the large weights beside it.

In the eigenvectors of the tridiagonal matrix T, changing its last diagonal entry until t is an
eigenvalue (Golub 1973, SIAM Rev. 15:318) is an update D + delta z z' with z the last entries of the
eigenvectors; these follow from nodes and weights, since first times last entry is a constant over
the derivative of the node polynomial.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_NOTHING = 1e-24
"""Of the mass of a probe: weights up to it are no nodes of its rule."""

_LONGEST = 1e6
"""Update of the last entry over the spread of nodes and place, beyond which nothing changes."""


def cumulative_bounds(
    nodes: ArrayLike, weights: ArrayLike, places: ArrayLike
) -> tuple[Floats, Floats]:
    """Bracket each probe's share of the spectrum at or below each place.

    Nodes are taken as they are: what round-off moved them by is the caller's to keep in mind.

    Cost: an eigendecomposition of order m for each probe and place.

    Args:
        nodes: [probes, m] ascending.
        weights: [probes, m] of Gauss rules; zeros are no nodes.
        places: [G] eigenvalues.

    Returns:
        low, high, each [probes, G], between 0 and the mass of the probe.

    """
    knots, masses = np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    where = np.asarray(places, dtype=np.float64)
    there = masses > _NOTHING * masses.sum(1, keepdims=True)
    first, last = _ends(knots, masses, there)
    found = [_bracket(knots, first, last, there, float(place)) for place in where]
    low, high = (np.stack([pair[end] for pair in found], axis=1) for end in (0, 1))
    whole = masses.sum(1, keepdims=True)
    return np.clip(low, 0, whole), np.clip(high, 0, whole)


def _ends(knots: Floats, masses: Floats, there: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return first and last entries of the eigenvectors of T, [probes, m]; zero where no node is.

    The last ones have alternating signs and a length of 1.
    """
    gaps = np.abs(knots[:, :, None] - knots[:, None, :])
    pairs = there[:, :, None] & there[:, None, :] & ~np.eye(knots.shape[1], dtype=bool)
    tiny = np.finfo(np.float64).tiny
    derivative = np.where(pairs, np.log(np.maximum(gaps, tiny)), 0.0).sum(2)
    logs = -derivative - 0.5 * np.log(np.maximum(masses, tiny))
    logs = np.where(there, logs, -np.inf)
    entries = np.exp(logs - np.maximum(logs.max(1, keepdims=True), -1e300))
    signs = np.where(np.cumsum(there, axis=1) % 2 == 0, 1.0, -1.0)
    last = signs * entries / np.maximum(np.linalg.norm(entries, axis=1, keepdims=True), tiny)
    return np.where(there, np.sqrt(np.maximum(masses, 0.0)), 0.0), last


def _bracket(
    knots: Floats, first: Floats, last: Floats, there: NDArray[np.bool_], place: float
) -> tuple[Floats, Floats]:
    """Return what the rule with a node at the place has below it, and what with that node."""
    probes, steps = knots.shape
    spread = np.abs(knots).max(1) + abs(place)
    # Entries that are no nodes stand behind all others, where they are never counted.
    diagonal = np.where(there, knots, 4 * spread[:, None])
    distance = place - knots
    close = np.finfo(np.float64).eps * spread[:, None]
    distance = np.where(np.abs(distance) > close, distance, close)
    with np.errstate(divide="ignore"):
        update = 1 / (last**2 / distance).sum(1)
    update = np.clip(update, -_LONGEST * spread, _LONGEST * spread)
    matrix = update[:, None, None] * last[:, :, None] * last[:, None, :]
    matrix[:, np.arange(steps), np.arange(steps)] += diagonal
    vectors = np.linalg.eigh(matrix)[1]
    mass = (first[:, None, :] @ vectors)[:, 0, :] ** 2
    passed = ((distance > 0) & there).sum(1)
    # The place is the eigenvalue that its lower neighbor went up to, or its upper one down to.
    at = np.where(update > 0, passed - 1, passed)
    sums = np.concatenate([np.zeros((probes, 1)), np.cumsum(mass, axis=1)], axis=1)
    rows = np.arange(probes)
    return sums[rows, at], sums[rows, np.minimum(at + 1, steps)]
