"""In how many activation regions the Jacobian of a network of one input has full rank."""

from fractions import Fraction
from math import comb

from whynet.core.errors import InputError


def full_rank_share(rows: int, units: int) -> tuple[float, float]:
    """Bound the share of activation regions with a Jacobian of full row rank, for one input.

    Hidden units relu(w x + b) of one input on n different rows are active on a first or a last
    part of the rows in order, 2 n patterns, and the units of a region take any of them
    independently. In a region the Jacobian has, on a block of rows that no unit divides, the rank
    of their (x, 1): at most two. So full rank needs blocks of at most two rows, that is no two
    neighboring gaps without a unit. Of n places, n - 1 gaps and one beyond, each chosen alike by m
    units, that has the probability

        sum_e C(n - e, e) sum_j (-1)^j C(n - 1 - e, j) ((n - e - j) / n)^m,

    e empty gaps of which no two are neighbors, and inclusion and exclusion over the others. It
    suffices where some gap is cut from both sides or a unit is active everywhere, since then the
    patterns span the indicators of all blocks. Neither happens with probability

        sum_j (-1)^(n-1-j) C(n - 1, j) 2^j (j + 1)^m / (2 n)^m,

    which is below 1e-4 from m = 3 n / 2 and n = 20 on. Karhadkar, Murray, Tseran and Montufar
    (2024, arXiv 2305.19510) show that m of the order n log(n / eps) leaves a share of eps; the
    closed form is derived here.

    Args:
        rows: n, different values of the input.
        units: m.

    Returns:
        A lower and an upper bound on the share.

    Raises:
        InputError: If a number is below one.

    Cost: rows squared, in whole numbers of units times log(rows) digits.
    """
    for name, count in (("rows", rows), ("units", units)):
        if count < 1:
            raise InputError(name, str(count), "a whole number of at least 1")
    small_blocks = sum(
        comb(rows - empty, empty)
        * (-1) ** j
        * comb(rows - 1 - empty, j)
        * (rows - empty - j) ** units
        for empty in range(rows // 2 + 1)
        for j in range(rows - empty)
    )
    one_sided = sum(
        (-1) ** (rows - 1 - j) * comb(rows - 1, j) * 2**j * (j + 1) ** units for j in range(rows)
    )
    high = Fraction(small_blocks, rows**units)
    low = high - Fraction(one_sided, (2 * rows) ** units)
    return float(max(low, Fraction(0))), float(high)
