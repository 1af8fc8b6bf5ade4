"""Differences of maxima of affine functions as ReLU networks of logarithmic depth."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from whynet.concepts.approximation.theory.few_terms import maxima_of_few_terms
from whynet.core.errors import InputError


def difference_of_maxima(
    raised: tuple[Tensor, Tensor], lowered: tuple[Tensor, Tensor]
) -> nn.Sequential:
    """Build the ReLU network x -> max_i (A x + b)_i - max_j (C x + d)_j.

    Every continuous piecewise-linear function has this form. A balanced tree takes maxima in
    pairs, max(u, v) = relu(u - v) + relu(v) - relu(-v), and carries an odd one as
    relu(v) - relu(-v), so the network has ceil(log2(k)) hidden layers, k the larger number of
    terms. The identities are exact in real arithmetic; in floating point the network equals the
    function to round-off. `shallow_difference_of_maxima` has ceil(log2(n + 1)) layers where that is
    fewer.

    Args:
        raised: A and b, shapes (terms, inputs) and (terms,), of one floating dtype.
        lowered: C and d, shapes (terms, inputs) and (terms,), of the same dtype and inputs.

    Returns:
        Alternating `Linear` and `ReLU` modules with one output, at most 3 units a pair.

    Raises:
        InputError: If the shapes or dtypes do not fit, there is no term, or one is not finite.
    """
    _check("raised", raised, raised[0])
    _check("lowered", lowered, raised[0])
    return _sum_of_maxima([1.0, -1.0], [raised, lowered])


def shallow_difference_of_maxima(
    raised: tuple[Tensor, Tensor], lowered: tuple[Tensor, Tensor]
) -> nn.Sequential:
    """Build the same network with ceil(log2(n + 1)) hidden layers, n the inputs.

    Both maxima are rewritten as sums of maxima of at most n + 1 terms (`maxima_of_few_terms`),
    which stand beside each other: any continuous piecewise-linear function of n variables takes no
    more layers, however many pieces it has (Wang and Sun, 2005; Arora, Basu, Mianjy and Mukherjee,
    2018, arXiv 1611.01491, theorem 2.1).

    Args:
        raised: As in `difference_of_maxima`; at most 16 terms.
        lowered: As in `difference_of_maxima`; at most 16 terms.

    Raises:
        InputError: As there, or if there are more terms.
    """
    _check("raised", raised, raised[0])
    _check("lowered", lowered, raised[0])
    factors: list[float] = []
    groups: list[tuple[Tensor, Tensor]] = []
    for sign, (weight, bias) in ((1, raised), (-1, lowered)):
        for places, factor in maxima_of_few_terms((weight, bias)).items():
            factors.append(float(sign * factor))
            groups.append((weight[list(places)], bias[list(places)]))
    return _sum_of_maxima(factors, groups)


def _sum_of_maxima(
    factors: Sequence[float], groups: Sequence[tuple[Tensor, Tensor]]
) -> nn.Sequential:
    """Build x -> sum of factors times maxima of the affine functions of each group."""
    weight = torch.cat([group[0] for group in groups]).detach()
    bias = torch.cat([group[1] for group in groups]).detach()
    counts = [len(group[1]) for group in groups]
    layers: list[nn.Module] = []
    while max(counts) > 1:
        into, out_of, counts = _level(counts, weight.dtype)
        into, out_of = into.to(weight.device), out_of.to(weight.device)
        layers += [_linear(into @ weight, into @ bias), nn.ReLU()]
        weight, bias = out_of, torch.zeros(len(out_of), dtype=bias.dtype, device=bias.device)
    row = torch.tensor([factors], dtype=weight.dtype, device=weight.device)
    return nn.Sequential(*layers, _linear(row @ weight, row @ bias))


def maxima_of_hidden_layer(
    hidden: tuple[Tensor, Tensor], outer: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Write a network of one hidden layer of ReLUs as a difference of maxima of affine functions.

    A unit of positive outer weight v adds max(0, v (w x + b)), and a sum of maxima is the maximum
    over all ways to choose a term of each, here over the subsets of the units: 2^p raised terms for
    p units of positive outer weight, 2^q lowered ones for q others.

    Args:
        hidden: weight and bias of the units, shapes (units, inputs) and (units,).
        outer: weight and bias of the output, shapes (units,) and ().

    Returns:
        Raised and lowered terms, as `difference_of_maxima` takes them; the output's bias is in
        the raised ones.

    Raises:
        InputError: If the shapes do not fit, or there are more than 16 units of one sign.
    """
    weight, bias = hidden
    factors, offset = outer
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or factors.shape != bias.shape:
        raise InputError(
            "outer", f"shapes {tuple(weight.shape)}, {tuple(bias.shape)}, {tuple(factors.shape)}",
            "(units, inputs), (units,) and (units,)",
        )  # fmt: skip
    sides = []
    for chosen in (factors > 0, factors <= 0):
        units = int(chosen.sum())
        if units > 16:
            raise InputError("outer", f"{units} units of one sign", "at most 16")
        numbers = torch.arange(2**units, device=weight.device)
        places = torch.arange(units, device=weight.device)
        subsets = ((numbers[:, None] >> places) & 1).to(weight.dtype)
        size = factors[chosen].abs()
        sides.append((subsets @ (size[:, None] * weight[chosen]), subsets @ (size * bias[chosen])))
    (raised, raised_bias), lowered = sides
    return (raised, raised_bias + offset), lowered


def _level(counts: list[int], dtype: torch.dtype) -> tuple[Tensor, Tensor, list[int]]:
    """Return the matrices from values to hidden units and from those to the paired maxima."""
    units: list[dict[int, float]] = []
    outputs: list[dict[int, float]] = []
    start = 0
    for count in counts:
        for first in range(start, start + count, 2):
            unit = len(units)
            if first + 1 < start + count:
                units += [{first: 1.0, first + 1: -1.0}, {first + 1: 1.0}, {first + 1: -1.0}]
                outputs.append({unit: 1.0, unit + 1: 1.0, unit + 2: -1.0})
            else:
                units += [{first: 1.0}, {first: -1.0}]
                outputs.append({unit: 1.0, unit + 1: -1.0})
        start += count
    return (
        _matrix(units, start, dtype),
        _matrix(outputs, len(units), dtype),
        [(count + 1) // 2 for count in counts],
    )


def _matrix(rows: list[dict[int, float]], columns: int, dtype: torch.dtype) -> Tensor:
    matrix = torch.zeros(len(rows), columns, dtype=dtype)
    for index, row in enumerate(rows):
        for column, entry in row.items():
            matrix[index, column] = entry
    return matrix


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], len(weight), dtype=weight.dtype, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _check(argument: str, terms: tuple[Tensor, Tensor], like: Tensor) -> None:
    weight, bias = terms
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        raise InputError(
            argument,
            f"shapes {tuple(weight.shape)} and {tuple(bias.shape)}",
            "(terms, inputs) and (terms,) with at least one of each",
        )
    if weight.shape[1] != like.shape[1] or {weight.dtype, bias.dtype} != {like.dtype}:
        raise InputError(
            argument,
            f"{weight.shape[1]} inputs of {weight.dtype} and {bias.dtype}",
            f"{like.shape[1]} inputs of {like.dtype}, as the other terms",
        )
    if not weight.is_floating_point() or not bool(
        weight.isfinite().all() and bias.isfinite().all()
    ):
        raise InputError(argument, "entries that are no finite floats", "finite floats")
