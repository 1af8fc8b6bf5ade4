"""Support functions of zonotopes, folded: networks whose number of linear pieces is known."""

import torch
from torch import Tensor, nn

from whynet.concepts.approximation.theory.sawtooth_networks import sawtooth
from whynet.core.errors import InputError


def zonotope_network(directions: Tensor, folds: int) -> nn.Sequential:
    """Build x -> sawtooth of folds teeth of the sum of |<b_j, x>|.

    The sum is the support function of the zonotope of the segments from -b_j to b_j, in one hidden
    layer of 2 m units. For directions in general position (any n of them independent) it has one
    linear piece for each cone that the hyperplanes orthogonal to the b_j cut out, which are 2 times
    the sum of C(m - 1, i) over i < n (`central_arrangement_regions`). Where the sum is at most 1,
    folding it cuts every cone into 2^folds pieces (Arora, Basu, Mianjy and Mukherjee, 2018,
    arXiv 1611.01491, theorem 3.9), for 2 more units each time.

    Args:
        directions: b_j, shape (m, n), floating; the network has their dtype.
        folds: how often it is folded; 0 leaves the sum.

    Raises:
        InputError: If the shape or number of folds does not fit, or a direction is zero or not
            finite.
    """
    if directions.ndim != 2 or 0 in directions.shape or not directions.is_floating_point():
        raise InputError(
            "directions", f"shape {tuple(directions.shape)} of {directions.dtype}",
            "floats of shape (directions, inputs)",
        )  # fmt: skip
    if not bool(directions.isfinite().all()) or not bool((directions != 0).any(1).all()):
        raise InputError("directions", "one that is zero or not finite", "finite ones")
    if folds < 0:
        raise InputError("folds", str(folds), "a whole number of at least 0")
    count, inputs = directions.shape
    layer = nn.Linear(inputs, 2 * count, bias=False, dtype=directions.dtype)
    total = nn.Linear(2 * count, 1, bias=False, dtype=directions.dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([directions, -directions]))
        total.weight.fill_(1.0)
    folding = list(sawtooth(folds, directions.dtype)) if folds else []
    return nn.Sequential(layer, nn.ReLU(), total, *folding)


def unit_polygon(directions: Tensor) -> Tensor:
    """Return the corners of the polygon on which the sum of |<b_j, x>| is at most 1, in the plane.

    The sum is linear between the lines orthogonal to the b_j, so that corners lie on these alone:
    2 m of them where no two directions are parallel.

    Args:
        directions: b_j, shape (m, 2), of which two are not parallel.

    Returns:
        Float64, shape (2 m, 2), counter-clockwise.

    Raises:
        InputError: If the shape does not fit or all directions are parallel.
    """
    if directions.ndim != 2 or directions.shape[1] != 2:
        raise InputError("directions", f"shape {tuple(directions.shape)}", "(directions, 2)")
    own = directions.double()
    if not bool((own[:, :1] * own[:1, 1:] - own[:, 1:] * own[:1, :1]).abs().max() > 0):
        raise InputError("directions", "parallel ones", "two that are not parallel")
    rays = torch.stack([-own[:, 1], own[:, 0]], 1)
    rays = torch.cat([rays, -rays])
    corners = rays / (rays @ own.T).abs().sum(1, keepdim=True)
    return corners[torch.argsort(torch.atan2(corners[:, 1], corners[:, 0]))]
