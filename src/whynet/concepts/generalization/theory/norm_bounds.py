"""What norms of the weights guarantee: the spectrally normalized margin bound.

Bartlett, Foster and Telgarsky 2017 (arXiv:1706.08498). For matrices A_i with spectral norms s_i and
distances b_i = ‖(A_i − M_i)ᵀ‖_{2,1} from matrices M_i that the data did not choose, their theorem
3.3 covers the class at scale ε with ln N ≤ ‖X‖² ln(2W²) R² / ε², where
R = Π s_i (Σ (b_i/s_i)^{2/3})^{3/2}. Through the ramp of slope 1/γ of the margin (2/γ-Lipschitz),
Dudley's integral from 1/n, and their lemma 3.1, with probability at least 1 − δ
error ≤ margin error + 8 n^{-3/2} + 72 ‖X‖ √ln(2W²) R ln(n) / (γ n) + 3 √(ln(2/δ) / 2n).
Trained norms are no class fixed in advance: s_i, b_i and γ are rounded to geometric grids, the
bound is evaluated at the upper grid value (γ: the grid itself), and the cell's price is paid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from whynet.core.errors import InputError
from whynet.core.measurement import Prediction, Quantity
from whynet.numerics.kl_inverse import Floats
from whynet.numerics.union_price import union_price

STEPS = 8
"""Grid values of a norm in an octave."""

LOWEST = -512
"""Smallest index on that grid: what is below 2^-64 counts as 2^-64."""


def spectral_complexity(spectral: ArrayLike, distances: ArrayLike) -> float:
    """Return R = Π s_i (Σ (b_i/s_i)^{2/3})^{3/2}.

    Args:
        spectral: s_i, above 0, one a layer.
        distances: b_i, at least 0.

    Raises:
        InputError: an argument is out of range.

    """
    s, b = np.asarray(spectral, np.float64), np.asarray(distances, np.float64)
    if s.ndim != 1 or s.size == 0 or s.shape != b.shape:
        raise InputError("distances", f"shape {b.shape}", f"one a layer, like spectral {s.shape}")
    if not (bool((s > 0).all()) and bool((b >= 0).all())):
        raise InputError("spectral", str(spectral), "norms above 0, distances of at least 0")
    return float(np.prod(s) * ((b / s) ** (2 / 3)).sum() ** 1.5)


def rounded_up(values: ArrayLike) -> tuple[Floats, float]:
    """Round norms up to the grid 2^(j/8), and return what their cells cost together, in nats.

    Args:
        values: norms of at least 0.

    """
    numbers = np.maximum(np.asarray(values, np.float64), 2.0 ** (LOWEST / STEPS))
    indices = np.ceil(STEPS * np.log2(numbers))
    return np.asarray(2.0 ** (indices / STEPS)), float(union_price(indices).sum())


def predict(
    *,
    spectral: ArrayLike,
    distances: ArrayLike,
    input_norm: float,
    width: int,
    margins: ArrayLike,
    margin_errors: ArrayLike,
    examples: int,
    delta: float,
) -> Prediction:
    """Bound the error of a plain chain of linear maps and 1-Lipschitz activations.

    Args:
        spectral: spectral norm of each matrix.
        distances: sum over its rows of their distance from the reference matrix.
        input_norm: root of the sum over examples of the squared norm of the input.
        width: largest number of rows or columns of a matrix.
        margins: powers of two.
        margin_errors: share of training examples with a margin of at most that.
        examples: rows of training data, at least 2.
        delta: chance that the bound is wrong.

    Returns:
        `error`: the margin error, its upper end the bound, at the margin where that is smallest;
        this `margin`; the `complexity` R at the upper grid values.

    Raises:
        InputError: an argument is out of range.

    """
    gammas, errors = np.asarray(margins, np.float64), np.asarray(margin_errors, np.float64)
    exponents = _exponents(gammas)
    if examples < 2 or not 0 < delta < 1:
        raise InputError("delta", f"{delta} with {examples} rows", "0 to 1, and at least 2 rows")
    upper_norms, norm_price = rounded_up(spectral)
    upper_distances, distance_price = rounded_up(distances)
    complexity = spectral_complexity(upper_norms, upper_distances)
    price = norm_price + distance_price + union_price(exponents)
    core = input_norm * complexity * math.sqrt(math.log(2 * width**2)) / (gammas * examples)
    noise = 3 * np.sqrt((math.log(2 / delta) + price) / (2 * examples))
    bounds = errors + 8 * examples**-1.5 + 72 * math.log(examples) * core + noise
    best = _shown(errors, bounds)
    return Prediction.of(
        {
            "error": _error(float(errors[best]), float(bounds[best]), 1 - delta),
            "margin": Quantity(gammas[best], unit="logits"),
            "complexity": Quantity(complexity),
        },
        cites=("bartlett2017",),
    )


def _error(share: float, bound: float, level: float) -> Quantity:
    return Quantity(
        share,
        0.0,
        bound,
        unit="fraction",
        kind="certified",
        level=level,
        how="spectrally normalized margin bound, stratified",
        over="training examples",
    )


def _exponents(margins: Floats) -> Floats:
    exponents = np.log2(margins)
    if not bool((exponents == np.round(exponents)).all()):
        raise InputError("margins", str(margins), "powers of two, a grid fixed in advance")
    return np.asarray(exponents)


def _shown(errors: Floats, bounds: Floats) -> int:
    """Choose the margin of the smallest bound.

    Where none is below 1, margins that more than half of the examples miss do not count: at the
    largest of them the bound is 1 and a little, which hides by how much it is vacuous.
    """
    counted = errors <= 0.5
    if bounds.min() >= 1 and counted.any():
        return int(np.where(counted, bounds, np.inf).argmin())
    return int(bounds.argmin())
