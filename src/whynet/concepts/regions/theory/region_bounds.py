"""How many regions hyperplanes, ReLU layers and maxout layers can cut out of their input space."""

from collections.abc import Sequence
from functools import cache
from math import comb, factorial, inf, prod

from whynet.core.errors import InputError


def generic_arrangement_regions(hyperplanes: int, dimension: int) -> int:
    """Count the regions of hyperplanes in general position, exactly.

    The number is the sum of C(N, j) over j = 0, ..., n (Zaslavsky, 1975; `zaslavsky1975`).

    Raises:
        InputError: If the number of hyperplanes is negative or the dimension below one.
    """
    _check_count("hyperplanes", hyperplanes, 0)
    _check_count("dimension", dimension, 1)
    return sum(comb(hyperplanes, j) for j in range(dimension + 1))


def central_arrangement_regions(hyperplanes: int, dimension: int) -> int:
    """Count the regions of hyperplanes through the origin, otherwise in general position.

    The number is 2 times the sum of C(N - 1, j) over j = 0, ..., n - 1 (Zaslavsky, 1975), and one
    where there is no hyperplane. It is also the number of linear pieces of a sum of absolute
    values of N generic linear functions.

    Raises:
        InputError: If the number of hyperplanes is negative or the dimension below one.
    """
    _check_count("hyperplanes", hyperplanes, 0)
    _check_count("dimension", dimension, 1)
    if hyperplanes == 0:
        return 1
    return 2 * sum(comb(hyperplanes - 1, j) for j in range(dimension))


def montufar_lower_bound(inputs: int, widths: Sequence[int]) -> int:
    """Bound from below the most linear regions a ReLU network of these widths can have.

    Montúfar, Pascanu, Cho and Bengio (2014, arXiv 1402.1869, `montufar2014`): the product of
    floor(n_l / n_0)^n_0 over all hidden layers but the last, times the regions of n_L generic
    hyperplanes. It needs every width to be at least the number of inputs.

    Raises:
        InputError: If there is no layer, or one is narrower than the input.
    """
    _check_network(inputs, widths)
    if min(widths) < inputs:
        raise InputError(
            "widths", f"a layer of {min(widths)} units", f"at least {inputs} units, one per input"
        )
    folds: int = prod(pow(width // inputs, inputs) for width in widths[:-1])
    return folds * generic_arrangement_regions(widths[-1], inputs)


def montufar_upper_bound(inputs: int, widths: Sequence[int]) -> int:
    """Bound the activation regions of a ReLU network by a product over its layers.

    Montúfar (2017): each layer cuts what reaches it, whose dimension is at most the smallest
    width so far, into at most as many parts as generic hyperplanes do.

    Raises:
        InputError: If there is no layer, or a size is below one.
    """
    _check_network(inputs, widths)
    dimension, bound = inputs, 1
    for width in widths:
        dimension = min(dimension, width)
        bound *= generic_arrangement_regions(width, dimension)
    return bound


def serra_upper_bound(inputs: int, widths: Sequence[int]) -> int:
    """Bound the activation regions of a ReLU network, counting the rank that inactive units take.

    Serra, Tjandraatmadja and Ramalingam (2018, arXiv 1711.02114, theorem 1, `serra2018`): the sum
    of products of C(n_l, j_l), where j_l is at most the rank that the layers before it leave. It
    is never above `montufar_upper_bound`. Cost: layers times inputs times width additions.

    Raises:
        InputError: If there is no layer, or a size is below one.
    """
    _check_network(inputs, widths)

    @cache
    def beyond(layer: int, rank: int) -> int:
        if layer == len(widths):
            return 1
        width = widths[layer]
        return sum(
            comb(width, j) * beyond(layer + 1, min(rank, width - j))
            for j in range(min(rank, width) + 1)
        )

    return beyond(0, inputs)


def maxout_layer_regions(inputs: int, ranks: Sequence[int]) -> int:
    """Bound the linear regions of one layer of maxout units by the ranks of its units.

    The most that a layer attains is the sum, over sets S of at most n units, of the product of
    (k_i - 1) over S (Montúfar, Ren and Zhang, 2021, arXiv 2104.08135). Rank two is a ReLU layer.

    Raises:
        InputError: If there is no unit, or a rank or the number of inputs is below one.
    """
    _check_network(inputs, ranks, "ranks")
    sums = [1] + [0] * inputs
    for rank in ranks:
        for size in range(inputs, 0, -1):
            sums[size] += sums[size - 1] * (rank - 1)
    return sum(sums)


def maxout_upper_bound(inputs: int, widths: Sequence[int], rank: int) -> int:
    """Bound the linear regions of a maxout network by a product over its layers.

    What reaches a layer from one region of those before it is an affine image of dimension at most
    the smallest width so far, and a layer of maxout units on it has at most
    `maxout_layer_regions` (Montúfar, Ren and Zhang, 2021, arXiv 2104.08135, who show that single
    layers attain theirs). Of rank two it is `montufar_upper_bound`.

    Args:
        inputs: of the network.
        widths: Maxout units of every layer.
        rank: Affine functions of which a unit is the largest.

    Raises:
        InputError: If there is no layer, or a size is below one.
    """
    _check_network(inputs, widths)
    _check_count("rank", rank, 1)
    dimension, bound = inputs, 1
    for width in widths:
        bound *= maxout_layer_regions(dimension, [rank] * width)
        dimension = min(dimension, width)
    return bound


def expected_cells_bound(units: int, inputs: int, gradient: float, density: float) -> float:
    """Bound the mean number of activation regions per unit of volume at initialization.

    Hanin and Rolnick (2019, arXiv 1906.00904), for cubes that are not too small: (T N)^n / n! for
    N >= n units, with T = 2^5 C C', and 2^N otherwise, at any depth.

    That 2^5 is enough follows from counting lowest vertices, and with room: 2^2 is enough for cubes
    of sides of at least n / (N C C'). A cell of a cube of side d has one lowest corner, at which k
    walls meet a face of the cube of dimension k; around such a point there are 2^k cells, and the
    mean number of those points in a face is at most binom(N, k) (C C' d)^k, since k biases have a
    density of at most C'^k, and gradients span a volume of at most the product of their norms. With
    binom(n, k) 2^(n - k) faces, the sum over k of 2^n binom(n, k) binom(N, k) (C C' d)^k is at most
    (4 C C' N d)^n / n!, since (C C' N d)^k / k! rises with k up to n there. For one input the sharp
    form is `expected_breakpoints_bound`, in a plane `expected_plane_cells`.

    Args:
        units: N, of all hidden layers.
        inputs: n.
        gradient: C, a bound on the root mean n-th power of the norm of any unit's gradient (of the
            2n-th in the paper), also where the biases of others are given.
        density: C', the largest density of a bias.

    Raises:
        InputError: If a size is below one, or a constant not positive.
    """
    _check_count("units", units, 1)
    _check_count("inputs", inputs, 1)
    for name, value in (("gradient", gradient), ("density", density)):
        if not 0 < value < inf:
            raise InputError(name, str(value), "a positive finite number")
    if units < inputs:
        return float(2**units)
    return float((32 * gradient * density * units) ** inputs / factorial(inputs))


def _check_network(inputs: int, sizes: Sequence[int], argument: str = "widths") -> None:
    _check_count("inputs", inputs, 1)
    if not sizes:
        raise InputError(argument, "an empty sequence", "at least one number")
    for size in sizes:
        _check_count(argument, size, 1)


def _check_count(argument: str, count: int, least: int) -> None:
    if count < least:
        raise InputError(argument, str(count), f"a whole number of at least {least}")
