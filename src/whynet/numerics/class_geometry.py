"""How the features of classes lie: neural collapse and the rank of their covariance.

With h an example's features, mu_c the mean of class c, mu the mean of the C class means and
m_c = mu_c - mu, all classes weighing alike:

    S_W = mean over c of the covariance of h in class c,  S_B = mean over c of m_c m_c'
    variability  tr(S_W S_B^+) / C
    norms        standard deviation over mean of |m_c|
    angles       root mean square over pairs of cos(m_c, m_d) + 1/(C-1)
    alignment    <V, M> / (|V| |M|),  M the rows m_c, V the last layer's rows, centered

Collapse (Papyan, Han and Donoho 2020) is variability, norms and angles 0, and alignment 1.
"""

from __future__ import annotations

from typing import Final

import numpy as np

NUMBERS: Final = ("variability", "norms", "angles", "alignment")

_RANK: Final = 1e-10
"""Relative size below which an eigenvalue of S_B counts as zero."""


def collapse(features: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Return the four numbers of neural collapse; NaN where one does not exist.

    Args:
        features: `[examples, features]`.
        labels: `[examples]`, from 0 to classes - 1, each of them at least twice.
        weight: `[classes, features]`, the last layer's row of each class.

    Cost: order `examples * features * classes`.

    """
    count = len(weight)
    member = labels[:, None] == np.arange(count)
    share = member / member.sum(0)
    means = share.T @ features
    centered = means - means.mean(0)
    size, axes = np.linalg.svd(centered, full_matrices=False)[1:]
    kept = size**2 > _RANK * max(float(size[0] ** 2), 1e-300)
    there = size[0] > 1e-12 * max(float(np.abs(means).max()), 1e-300)
    if not there:
        return dict.fromkeys(NUMBERS, np.nan)
    inside = (features - means[labels]) @ axes[kept].T
    spread = share.mean(1) @ inside**2
    norms = np.linalg.norm(centered, axis=1)
    return {
        "variability": float((spread / size[kept] ** 2).sum()),
        "norms": float(norms.std() / norms.mean()) if count > 2 else np.nan,
        "angles": _angles(centered, norms) if count > 2 else np.nan,
        "alignment": _alignment(weight - weight.mean(0), centered),
    }


def _angles(centered: np.ndarray, norms: np.ndarray) -> float:
    if not norms.all():
        return float("nan")
    unit = centered / norms[:, None]
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.sqrt(((cosines + 1 / (len(unit) - 1)) ** 2).mean()))


def _alignment(weight: np.ndarray, centered: np.ndarray) -> float:
    product = float(np.linalg.norm(weight) * np.linalg.norm(centered))
    return float((weight * centered).sum()) / product if product > 0 else float("nan")


def covariance_ranks(features: np.ndarray, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the participation ratio of the covariance's eigenvalues, (sum)² over sum of squares.

    Args:
        features: `[examples, features]`.
        groups: `[examples]`, from 0.

    Returns:
        On all examples, and `[groups]` with each group left out; NaN where nothing varies.

    Cost: order `examples * features^2`.

    """
    rows = features - features.mean(0)
    moment, total = rows.T @ rows, rows.sum(0)
    left = []
    for group in range(int(groups.max()) + 1):
        part = rows[groups == group]
        count = len(rows) - len(part)
        left.append(_ratio(moment - part.T @ part, total - part.sum(0), count))
    return _ratio(moment, total, len(rows)), np.array(left)


def _ratio(moment: np.ndarray, total: np.ndarray, count: int) -> float:
    covariance = moment / count - np.outer(total, total) / count**2
    squares = float((covariance**2).sum())
    return float(np.trace(covariance)) ** 2 / squares if squares > 0 else float("nan")
