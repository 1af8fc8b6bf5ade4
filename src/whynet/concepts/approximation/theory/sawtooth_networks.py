"""The sawtooth: a deep narrow network with exponentially many pieces, and what few pieces miss."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whynet.core.errors import InputError


def sawtooth(folds: int, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Build the tent map 2 relu(x) - 4 relu(x - 1/2) composed with itself, two units a layer.

    On [0, 1] it has exactly 2^folds linear pieces of slope plus or minus 2^folds, with breakpoints
    at the multiples of 2^-folds (Telgarsky, 2016, arXiv 1602.04485). Its weights are powers of
    two, so it is evaluated without round-off at multiples of 2^-folds.

    Raises:
        InputError: If there is less than one fold.
    """
    if folds < 1:
        raise InputError("folds", str(folds), "a whole number of at least 1")
    return uneven_sawtooth([0.5] * folds, dtype)


def uneven_sawtooth(peaks: Sequence[float], dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Build tents with given peaks, composed, two units a layer and 6 folds + 1 parameters.

    The tent of peak a rises from 0 at 0 to 1 at a and falls to 0 at 1; it is
    relu(x) / a - relu(x - a) / (a (1 - a)). Each maps both of its pieces onto [0, 1], so that the
    composition has exactly 2^folds pieces there, between 0 and 1 in turn, whatever the peaks are
    (Arora, Basu, Mianjy and Mukherjee, 2018, arXiv 1611.01491, theorem 3.9). With peaks that are no
    powers of two the weights are rounded, and the tents end at 0 up to round-off only; in float32
    that is enough for further pieces a few 1e-7 wide.

    Args:
        peaks: a of every tent, the one applied first at the front.
        dtype: of the parameters.

    Raises:
        InputError: If there is no peak, or one is not between 0 and 1.
    """
    _check_peaks(peaks)
    layers: list[nn.Module] = []
    row = torch.ones(1, 1, dtype=dtype)
    for peak in peaks:
        hidden = nn.Linear(row.shape[1], 2, dtype=dtype)
        with torch.no_grad():
            hidden.weight.copy_(row.expand(2, -1))
            hidden.bias.copy_(torch.tensor([0.0, -peak], dtype=dtype))
        layers += [hidden, nn.ReLU()]
        row = torch.tensor([[1 / peak, -1 / (peak * (1 - peak))]], dtype=dtype)
    last = nn.Linear(2, 1, dtype=dtype)
    with torch.no_grad():
        last.weight.copy_(row)
        last.bias.zero_()
    return nn.Sequential(*layers, last)


def turning_points(peaks: Sequence[float]) -> NDArray[np.float64]:
    """Return where `uneven_sawtooth(peaks)` is 0 and 1 in turn, from 0 to 1, [2^folds + 1].

    The turning points of g after the tent of peak a are its two preimages of those of g,
    a t and 1 - (1 - a) t.

    Raises:
        InputError: As `uneven_sawtooth`.
    """
    _check_peaks(peaks)
    points = np.array([0.0, 1.0])
    for peak in reversed(peaks):
        points = np.concatenate([peak * points, 1 - (1 - peak) * points[-2::-1]])
    return points


def few_pieces_error_bound(turns: NDArray[np.float64], pieces: int) -> float:
    """Bound from below the L1 distance of few affine pieces from a sawtooth on its interval.

    A tent rises from 0 to 1 and falls back. Best among lines, in the mean of the distance, is the
    one that meets it at a quarter and at three quarters of its interval, the canonical points of
    {1, x}: the sign that is negative between them and positive outside is orthogonal to every line.
    So every line is at least width e(a) away, where e(a) = a / (2 (1 - a)) for a peak at a share
    a <= 1/4 of the width and e(a) = 1/2 - 1 / (16 a (1 - a)) for 1/4 <= a <= 1/2, e(1 - a) = e(a).
    The teeth are paired to N // 2 tents, upright or not. A function of p pieces, continuous or not,
    has p - 1 breaks, and each lies inside at most one tent; on all others it is a line. The bound
    is the sum of the N // 2 - p + 1 smallest distances, the better one of the two ways to pair.
    For N equal teeth, N even, it is 1/4 - (p - 1) / (2 N). That few pieces stay at a constant
    distance is due to Telgarsky (2016, arXiv 1602.04485); the constant is derived here.

    Args:
        turns: places where the sawtooth is 0 and 1 in turn, ascending, [N + 1].
        pieces: p, affine pieces of the other function.

    Returns:
        The bound; 0 where there are too many pieces for it to say anything.

    Raises:
        InputError: If the places do not ascend, or there is no piece.
    """
    if turns.ndim != 1 or turns.size < 2 or not bool((np.diff(turns) > 0).all()):
        raise InputError("turns", f"an array of shape {turns.shape}", "two or more ascending ones")
    if pieces < 1:
        raise InputError("pieces", str(pieces), "a whole number of at least 1")
    widths = np.diff(turns)
    bounds = []
    for first in (0, 1):
        pairs = widths[first : first + (len(widths) - first) // 2 * 2].reshape(-1, 2)
        whole = pairs.sum(1)
        peak = pairs.min(1) / whole
        near = np.where(peak <= 0.25, peak / (2 * (1 - peak)), 0.5 - 1 / (16 * peak * (1 - peak)))
        kept = max(0, len(pairs) - pieces + 1)
        bounds.append(float(np.sort(whole * near)[:kept].sum()))
    return max(bounds)


def _check_peaks(peaks: Sequence[float]) -> None:
    if not peaks:
        raise InputError("peaks", "no peak", "at least one")
    for peak in peaks:
        if not 0 < peak < 1:
            raise InputError("peaks", str(peak), "numbers between 0 and 1")
