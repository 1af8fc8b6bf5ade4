"""Optimistic sample sizes: how many equations a target takes at the least, whatever the width."""

from __future__ import annotations

from whynet.core.errors import InputError


def optimistic_matrix(rows: int, columns: int, rank: int) -> int:
    """Return the optimistic sample size of a product of matrices at a target of given rank.

    It is the dimension of the set of matrices of that rank, `rank (rows + columns − rank)`, for any
    number of factors from two on and any inner widths of at least the rank.

    Args:
        rows: of the product.
        columns: of the product.
        rank: of the target, 1 to the smaller of the two.

    Raises:
        InputError: the rank is out of range.

    Source: Zhang, Zhang, Zhang, Bai, Luo and Xu 2025 (arXiv 2307.08921), matrix factorization.

    """
    if not 1 <= rank <= min(rows, columns):
        raise InputError("rank", str(rank), f"1 to {min(rows, columns)}")
    return rank * (rows + columns - rank)


def optimistic_neurons(inputs: int, neurons: int) -> int:
    """Return the optimistic sample size of a two-layer network at a target of some neurons.

    For a generic smooth activation without bias each neuron of the target costs its input weights
    and its output weight, `neurons (inputs + 1)`; the width of the network does not matter.

    Raises:
        InputError: a size is below 1.

    Source: Zhang, Zhang, Zhang, Bai, Luo and Xu 2025 (arXiv 2307.08921), two-layer networks.

    """
    if inputs < 1 or neurons < 1:
        raise InputError("sizes", f"{inputs} inputs and {neurons} neurons", "at least 1 of each")
    return neurons * (inputs + 1)
