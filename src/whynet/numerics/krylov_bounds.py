"""How far an extreme eigenvalue can lie beyond the Ritz values of a random start vector.

Both bounds rest on one event: the start vector b, uniform on the unit sphere, has a component of
at least x along the extreme eigenvector. Since b_1^2 follows Beta(1/2, (n - 1) / 2), x is known
exactly for every probability of missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from whynet.core.errors import InputError


def least_weight(size: int, miss: float) -> float:
    """Square of the component that a uniform unit vector exceeds but for probability `miss`.

    Args:
        size: dimension n, at least 1.
        miss: probability of a smaller component, 0 to 1.

    Returns:
        The `miss` quantile of Beta(1/2, (n - 1) / 2); 1 in dimension 1.

    Raises:
        InputError: size or probability out of range.

    """
    if size < 1:
        raise InputError("size", str(size), "at least 1")
    if not 0 < miss < 1:
        raise InputError("miss", str(miss), "a probability between 0 and 1")
    return 1.0 if size == 1 else float(stats.beta.ppf(miss, 0.5, (size - 1) / 2))


def kuczynski_wozniakowski(size: int, steps: int, miss: float) -> float:
    """Share of the spread by which the largest Ritz value can fall short, before any step is run.

    With probability at least 1 - `miss`, lambda_1 - theta_1 <= eps (lambda_1 - lambda_n) for every
    symmetric matrix. Kuczynski and Wozniakowski (1992, SIAM J. Matrix Anal. Appl. 13:1094), Theorem
    4.2, state miss <= 1.648 sqrt(n) exp(-sqrt(eps) (2 m - 1)); here the constant is sharper.

    Proof. Shift and scale to lambda_n = 0, lambda_1 = 1; let c = 1 - eps, u = 2 m - 1, and let p,
    of degree m - 1, be p(x) = U_{u-1}(sqrt(x / c)), with U of the second kind. On [0, c],
    (c - x) p(x)^2 = c sin^2(u phi) <= c; at 1, (1 - c) p(1)^2 = c sinh^2(u psi) with
    tanh(psi) = sqrt(eps). If theta_1 < c, the Rayleigh quotient of p(A) b is below c, hence
    b_1^2 (1 - c) p(1)^2 < sum of (c - x_i) p(x_i)^2 b_i^2 <= c (1 - b_1^2), so that
    |b_1| < 1 / cosh(u psi). Setting that to x gives eps = tanh^2(arccosh(1 / x) / u).

    Args:
        size: dimension n.
        steps: number of Lanczos steps m.
        miss: probability of missing.

    Returns:
        eps, 0 to 1.

    Raises:
        InputError: an argument out of range.

    """
    if steps < 1:
        raise InputError("steps", str(steps), "at least 1")
    weight = least_weight(size, miss)
    return math.tanh(math.acosh(1 / math.sqrt(weight)) / (2 * steps - 1)) ** 2


def ends_of_spectrum(
    alphas: Sequence[float],
    betas: Sequence[float],
    ritz: tuple[float, float],
    size: int,
    level: float,
) -> tuple[float, float]:
    """Ends that the whole spectrum lies within, with probability `level` over the start vector.

    On the one event that the components along both extreme eigenvectors hold `least_weight` (each
    missed with probability (1 - level) / 2), four inequalities hold: `christoffel_upper_end` at
    both ends, and lambda_1 <= theta_1 + eps S, lambda_n >= theta_m - eps S with eps of
    `kuczynski_wozniakowski` and S the spread. The latter need a bound on S: it starts as that of
    the former and is tightened by every use.

    Args:
        alphas: diagonal of T, m entries, of a run from a uniform direction.
        betas: off-diagonal of T, and as entry m the norm of the residual.
        ritz: smallest and largest Ritz value.
        size: dimension n.
        level: probability of holding both.

    Returns:
        A lower end of the smallest, an upper end of the largest eigenvalue.

    Raises:
        InputError: size or level out of range.

    """
    least, largest = ritz
    miss = (1 - level) / 2
    weight = least_weight(size, miss)
    high = christoffel_upper_end(alphas, betas, largest, weight)
    low = -christoffel_upper_end([-alpha for alpha in alphas], betas, -least, weight)
    eps = kuczynski_wozniakowski(size, len(alphas), miss)
    for _ in range(50):
        spread = high - low
        high, low = min(high, largest + eps * spread), max(low, least - eps * spread)
    return low, high


def christoffel_upper_end(
    alphas: Sequence[float], betas: Sequence[float], start: float, weight: float
) -> float:
    """Largest place where the measure of the start vector can have a mass of `weight`.

    The Lanczos polynomials p_0 … p_m are orthonormal in the measure of b (mass b_i^2 at
    lambda_i), so a mass w at lambda satisfies w <= 1 / sum_j p_j(lambda)^2, the Christoffel
    function (Akhiezer 1965, The Classical Moment Problem, chapter 2). Beyond the largest Ritz value
    the sum grows strictly, so the eigenvalue whose component holds at least `weight` lies below
    the one place where the sum is 1 / weight. It uses all that m steps know of the matrix and
    nothing of its spread; without such knowledge no bound from the same coefficients is smaller.

    Args:
        alphas: diagonal of T, m entries.
        betas: off-diagonal of T, and as entry m the norm of the residual.
        start: the largest Ritz value.
        weight: least mass, 0 to 1.

    Returns:
        The upper end, at least `start`; `start` itself where the residual is zero. Where the
        measure has less than `weight` at the largest Ritz value already (the event failed, which
        has the stated probability) it is `start` as well.

    """
    limit = 1 / weight

    def beyond(place: float) -> bool:
        total, before, here = 1.0, 0.0, 1.0
        behind = 0.0
        for alpha, beta in zip(alphas, betas, strict=True):
            if beta == 0:
                return True
            before, here = here, ((place - alpha) * here - behind * before) / beta
            behind = beta
            total += here * here
            if total > limit:
                return True
        return False

    low, high = start, start + max(betas[-1], math.ulp(start))
    if beyond(low):
        return start
    while not beyond(high):
        low, high = high, high + 2 * (high - start)
    for _ in range(100):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high
