"""A maximum of many affine functions as a sum of maxima of few."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice
from math import comb

import numpy as np
from torch import Tensor

from whynet.core.errors import InputError

MOST_TERMS = 16
"""Terms above which the sum may become too long to be of use."""

_TRIED = 60
"""Choices of n + 2 terms of which that is taken which splits off the fewest."""

_ROUND_OFF = 1e-12


def maxima_of_few_terms(terms: tuple[Tensor, Tensor]) -> dict[tuple[int, ...], int]:
    """Write max_i (A x + b)_i as a sum of maxima of at most n + 1 of the terms, n the inputs.

    That n + 1 terms suffice is due to Wang and Sun (2005); the way to them here is derived from the
    identity of maxima and minima. Of any n + 2 terms there are numbers λ, not all zero, with
    Σ λ_i = 0 and Σ λ_i a_i = 0, so that Σ λ_i (a_i x + b_i) is a constant; with the sign for which
    it is at most 0, the least of the terms S = {λ > 0} is nowhere above the largest of the others.
    Then, by inclusion and exclusion,

        max over all = Σ over J ⊆ S, J not empty, of (-1)^(|J| + 1) max over all but J,

    which is repeated. Whole numbers, exact in real arithmetic.

    Args:
        terms: A and b, shapes (terms, inputs) and (terms,), floating.

    Returns:
        Places of the terms of each maximum, ascending, and its factor, which is never 0.

    Raises:
        InputError: If the shapes do not fit or there are more than 16 terms.

    Cost: up to 2^terms maxima, each of which is split once.

    """
    weight, bias = (part.detach().double().cpu().numpy() for part in terms)
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        found = f"shapes {weight.shape} and {bias.shape}"
        raise InputError("terms", found, "(terms, inputs) and (terms,) with at least one of each")
    if len(weight) > MOST_TERMS:
        raise InputError("terms", f"{len(weight)} terms", f"at most {MOST_TERMS}")
    most = weight.shape[1] + 1
    factors = {tuple(range(len(weight))): 1}
    for size in range(len(weight), most, -1):
        for chosen in [group for group in factors if len(group) == size]:
            factor = factors.pop(chosen)
            apart = _split_off(weight, bias, chosen)
            for count in range(1, len(apart) + 1):
                for left_out in combinations(apart, count):
                    rest = tuple(place for place in chosen if place not in left_out)
                    signed = factor if count % 2 else -factor
                    factors[rest] = factors.get(rest, 0) + signed
                    if factors[rest] == 0:
                        del factors[rest]
    return factors


def _split_off(weight: np.ndarray, bias: np.ndarray, chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Return few terms whose least is nowhere above the largest of the others."""
    inputs = weight.shape[1]
    tried: Iterator[tuple[int, ...]] = combinations(chosen, inputs + 2)
    if comb(len(chosen), inputs + 2) > _TRIED:
        tried = (chosen[i:] + chosen[:i] for i in range(len(chosen)))
        tried = (tuple(sorted(one[: inputs + 2])) for one in tried)
    groups = np.array(list(islice(tried, _TRIED)))
    rows = np.concatenate([weight[groups], np.ones((*groups.shape, 1))], 2)
    null = np.linalg.svd(rows.transpose(0, 2, 1))[2][:, -1]
    null /= np.abs(null).max(1, keepdims=True)
    constant = (null * bias[groups]).sum(1)
    none = np.abs(constant) <= _ROUND_OFF * np.abs(bias[groups]).max(1)
    # Where the constant is 0 both signs serve: that with fewer terms is taken.
    many = (null > _ROUND_OFF).sum(1) > (null < -_ROUND_OFF).sum(1)
    null *= np.where(np.where(none, many, constant > 0), -1.0, 1.0)[:, None]
    sides = null > _ROUND_OFF
    best = int(sides.sum(1).argmin())
    return tuple(int(place) for place in groups[best][sides[best]])
