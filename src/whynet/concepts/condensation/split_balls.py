"""Tighter bounds over balls of few dimensions: the ones that decide are split into smaller ones.

A bound by linear bound propagation loses what bends inside a ball, and small balls hold fewer
bends. A cube of d dimensions is 2^d cubes of half its radius; the largest of their bounds is one of
the whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

MOST_INPUTS: Final = 6
"""Dimensions above which a cube has too many parts."""

ENOUGH: Final = 1.05
"""Largest bound over what is reached, below which nothing is split any more."""

_AT_ONCE: Final = 512

BoundsOf = Callable[[Tensor, Tensor], Tensor]
"""Centers `[n, *input]` and radii `[n]` of cubes to bounds `[n]`."""


def split_bounds(
    bounds_of: BoundsOf,
    centers: Tensor,
    radius: float,
    bounds: np.ndarray,
    reached: float,
    most: int,
) -> np.ndarray:
    """Lower the bounds of cubes by splitting those with the largest ones.

    Args:
        bounds_of: bounds of any cubes.
        centers: `[cubes, *input]`, float64.
        radius: of the cubes.
        bounds: `[cubes]`, proven.
        reached: what is reached inside some cube: no bound that decides can fall below it.
        most: cubes whose bounds may be computed.

    Returns:
        `[cubes]`, proven bounds, none above those given.

    Cost: at most `most` bounds.

    """
    dims = centers[0].numel()
    if not 1 <= dims <= MOST_INPUTS:
        return bounds
    signs = list(itertools.product((-0.5, 0.5), repeat=dims))
    corners = torch.tensor(signs, dtype=torch.float64).reshape(-1, *centers.shape[1:])
    shape = (-1, *[1] * (centers.ndim - 1))
    owner = torch.arange(len(centers))
    radii = torch.full((len(centers),), radius, dtype=torch.float64)
    bound = torch.from_numpy(bounds)
    at_once = max(1, _AT_ONCE // len(corners))
    while len(bound) and most >= len(corners):
        wanted = bound > ENOUGH * reached
        chosen = bound.argsort(descending=True)[: min(at_once, most // len(corners))]
        chosen = chosen[wanted[chosen]]
        if len(chosen) == 0:
            break
        most -= len(chosen) * len(corners)
        half = (radii[chosen] / 2).repeat_interleave(len(corners))
        moved = corners * (2 * half.reshape(len(chosen), len(corners), *shape[1:]))
        parts = (centers[chosen][:, None] + moved).flatten(0, 1)
        above = bound[chosen].repeat_interleave(len(corners))
        found = torch.minimum(bounds_of(parts, half), above)
        kept = torch.ones(len(bound), dtype=torch.bool)
        kept[chosen] = False
        owner = torch.cat([owner[kept], owner[chosen].repeat_interleave(len(corners))])
        centers, radii = torch.cat([centers[kept], parts]), torch.cat([radii[kept], half])
        bound = torch.cat([bound[kept], found])
    lowered = np.zeros(len(bounds))
    np.maximum.at(lowered, owner.numpy(), bound.numpy())
    return np.asarray(np.minimum(lowered, bounds))
