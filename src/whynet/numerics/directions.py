"""Directions that coincide: groups by cosine, effective rank, and the same of random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform


def normalized(moments: np.ndarray, floor: np.ndarray | float = 0.0) -> np.ndarray:
    """Scale a matrix of second moments to unit diagonal: cosines, or correlations.

    Args:
        moments: `[units, units]`.
        floor: diagonal entries up to it count as zero; such units are orthogonal to all others.

    """
    square = np.diag(moments)
    there = square > np.maximum(floor, 1e-24 * float(square.max(initial=0.0)))
    scale = np.where(there, 1 / np.sqrt(np.where(there, square, 1.0)), 0.0)
    scaled = np.clip(moments * scale[:, None] * scale[None, :], -1.0, 1.0)
    np.fill_diagonal(scaled, 1.0)
    return np.asarray(scaled)


def clusters(cosines: np.ndarray, tolerances: Sequence[float]) -> list[np.ndarray]:
    """Group units such that all pairs of a group exceed a tolerance: complete linkage.

    The result does not depend on the order of the units, exact ties between different merges
    apart. Cost: order `units^2`.

    Returns:
        For each tolerance `[units]`, the group of each unit, from 1.

    """
    if len(cosines) < 2:
        return [np.ones(len(cosines), dtype=int) for _ in tolerances]
    distance = squareform(np.clip(1 - cosines, 0, None), checks=False)
    tree = linkage(distance, "complete")
    return [np.asarray(fcluster(tree, 1 - t, "distance")) for t in tolerances]


def distinct(labels: np.ndarray) -> int:
    """Count groups."""
    return len(np.unique(labels))


def opposite_pairs(cosines: np.ndarray, labels: np.ndarray, tolerance: float) -> int:
    """Count pairs of groups of which every unit is nearly the negative of every other's."""
    if len(labels) < 2:
        return 0
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0])
    worst = np.maximum.reduceat(cosines[np.ix_(order, order)], starts, axis=0)
    worst = np.maximum.reduceat(worst, starts, axis=1)
    return int((np.triu(worst, 1) < -tolerance).sum())


def effective_rank(cosines: np.ndarray) -> float:
    """Participation ratio of the eigenvalues: (trace)² over the sum of squared entries."""
    return float(len(cosines) ** 2 / max(float((cosines**2).sum()), 1e-300))


def jackknifed_rank(rows: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Effective rank of the cosines of columns, with a delete-group jackknife interval.

    The jackknife works on the logarithm of the rank and removes its bias of order one over the
    number of examples (Quenouille 1956); bounds are Student's t over the pseudo-values.

    Args:
        rows: `[rows, units]`; rows of one group are left out together.
        groups: `[rows]`, group of each row, from 0; all of an example's rows in one group.

    Returns:
        value, low, high; within 1 and the number of units.

    """
    count = int(groups.max()) + 1
    parts = np.stack([rows[groups == g].T @ rows[groups == g] for g in range(count)])
    whole = parts.sum(0)
    full = np.log(effective_rank(normalized(whole)))
    left = np.array([np.log(effective_rank(normalized(whole - part))) for part in parts])
    pseudo = count * full - (count - 1) * left
    half = float(stats.t.ppf(0.975, count - 1)) * float(pseudo.std(ddof=1)) / np.sqrt(count)
    center = float(pseudo.mean())
    low, value, high = np.clip(np.exp([center - half, center, center + half]), 1, rows.shape[1])
    return float(value), float(low), float(high)


def counted(layers: Iterable[np.ndarray], tolerances: Sequence[float]) -> np.ndarray:
    """Count the directions of layers.

    Args:
        layers: `[width, width]` each, cosines.
        tolerances: cosines above which directions count as one.

    Returns:
        `[layers, tolerances + 1]`: distinct directions at each tolerance, effective rank.

    """
    rows = []
    for cosines in layers:
        labels = clusters(cosines, tolerances)
        rows.append([*map(distinct, labels), effective_rank(cosines)])
    return np.asarray(rows)


def random_cosines(
    spectrum: np.ndarray, width: int, draws: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Draw layers of independent isotropic Gaussian directions on inputs of a given spectrum.

    In the eigenbasis of the inputs' second moment the functions of such neurons are Gaussian
    vectors scaled by the roots of its eigenvalues, so the inputs themselves are not needed.

    Yields:
        `[width, width]`, cosines of one layer.

    """
    root = np.sqrt(spectrum)[:, None]
    for _ in range(draws):
        vectors = root * generator.standard_normal((len(spectrum), width))
        yield normalized(vectors.T @ vectors)


def random_products(
    rows: np.ndarray,
    width: int,
    size: float,
    activate: Callable[[np.ndarray], np.ndarray],
    draws: int,
    generator: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Draw layers of gated units, `activate(gate) * value`, of independent isotropic directions.

    Args:
        rows: `[rows, features]`, inputs; a constant among them stands for biases.
        width: units of a layer.
        size: root of the mean square of a layer's gates before their activation. The length of
            values is of no account for cosines.
        activate: elementwise function of the gates.
        draws: number of layers.
        generator: of the random numbers.

    Yields:
        `[width, width]`, cosines of one layer's products in the inputs' second moment.

    Cost: two products of `rows * features * width` and one of `rows * width^2` a layer.

    """
    for _ in range(draws):
        gates, values = np.split(rows @ generator.standard_normal((rows.shape[1], 2 * width)), 2, 1)
        gates *= size / max(float(np.sqrt(np.mean(gates**2))), 1e-300)
        products = activate(gates) * values
        yield normalized(products.T @ products)


def groups_holding(labels: np.ndarray, amounts: np.ndarray, share: float) -> int:
    """Count the largest groups that together hold a share of a total.

    Args:
        labels: `[units]`, the group of each unit, from 1.
        amounts: `[units]`, at least 0; what each unit adds to its group.
        share: of the sum, from 0 to 1.

    """
    sizes = np.sort(np.bincount(labels, amounts))[::-1].cumsum()
    # Round-off of the sums never asks for one group more.
    return int(np.searchsorted(sizes, share * sizes[-1] * (1 - 1e-12))) + 1
