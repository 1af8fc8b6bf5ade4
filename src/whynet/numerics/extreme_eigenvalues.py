"""The ends of the spectrum of a symmetric operator, with intervals, from one Lanczos run.

A round is one call with a fixed number of steps; the next round continues the same Krylov space
from the state it is given and tightens the intervals. Since the only random event is the draw of
the start vector, the bounds hold for all rounds at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.numerics.krylov_bounds import ends_of_spectrum
from whynet.numerics.lanczos import LanczosResult, Operator, continue_lanczos, lanczos
from whynet.numerics.probes import uniform_direction

_END = "Lanczos; Ritz value, random-start bound beyond it"
_NEXT = (
    "Lanczos; an eigenvalue lies within the residual, and the one of this rank is at least the "
    "value; that no eigenvalue above was skipped is not certified"
)
_OVER = "start vectors"


@dataclass(frozen=True)
class ExtremeEigenvalues:
    """The ends of a spectrum.

    Attributes:
        top: the k largest eigenvalues, descending; fewer where the Krylov space holds fewer. The
            first is of kind `certified`, the others `indicative`.
        smallest: the smallest eigenvalue, `certified`. The intervals of `top[0]` and `smallest`
            hold together with the stated level.
        vectors: [P, k] orthonormal Ritz vectors of `top`, in dtype and device of the run.
        residuals: [k] norms of A v - theta v, from the recurrence (round-off not included).
        roundoff: what was added to every interval on both sides for round-off.
        krylov: the state; pass it back to continue.

    """

    top: tuple[Estimate, ...]
    smallest: Estimate
    vectors: Tensor
    residuals: tuple[float, ...]
    roundoff: float
    krylov: LanczosResult


def extreme_eigenvalues(
    matvec: Operator,
    size: int,
    *,
    k: int = 1,
    steps: int = 50,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    level: float = 0.9999,
    unit: str = "",
    state: LanczosResult | None = None,
) -> ExtremeEigenvalues:
    """Find the k largest eigenvalues and the smallest, each with an interval.

    The lower end of `top[0]` and the upper end of `smallest` hold by Cauchy interlacing, without
    chance. The upper end of `top[0]` and the lower end of `smallest` are `ends_of_spectrum`:
    together they miss with probability at most 1 - level over the start vector, at every
    spectrum, whatever is done with the values. The width grows only with the logarithm of
    1 / (1 - level), hence the strict default.

    For `top[1:]` the interval is Ritz value plus and minus residual norm: an
    eigenvalue lies there for sure, and by interlacing the eigenvalue of that rank is at least the
    value; but one vector cannot see that an eigenvalue is multiple (and few steps do not separate
    close ones), so that the true second eigenvalue may be a copy of the first.

    Round-off: eps (4 sqrt(P) + steps) times the norm of T is added on both sides, the
    probabilistic rounding model of Higham and Mary (2019) for a product with rows of length P.

    Cost: `steps` products. Memory: all steps so far times P numbers.

    Args:
        matvec: symmetric operator, [P] to [P].
        size: P.
        k: number of largest eigenvalues.
        steps: Lanczos steps of this round; nothing stops earlier except an invariant space.
        seed: seed of the start vector; ignored where `state` is given.
        dtype: float32 or float64, likewise.
        device: likewise.
        level: level of the certified intervals.
        unit: unit of the eigenvalues.
        state: `krylov` of an earlier round.

    Raises:
        InputError: k, steps, size or level out of range, or a state of another size.
        FloatingPointError: the operator returned NaN or infinity.

    """
    if k < 1:
        raise InputError("k", str(k), "at least 1")
    if not 0 < level < 1:
        raise InputError("level", str(level), "a number between 0 and 1, such as 0.9999")
    if state is None:
        start = uniform_direction(size, seed, dtype=dtype, device=device)
        krylov = lanczos(matvec, start, steps)
    elif len(state.basis) != size:
        raise InputError("state", f"vectors of size {len(state.basis)}", f"size {size}")
    else:
        krylov = continue_lanczos(matvec, state, steps)
    return read_extremes(krylov, k=k, level=level, unit=unit)


def read_extremes(
    krylov: LanczosResult, *, k: int = 1, level: float = 0.9999, unit: str = ""
) -> ExtremeEigenvalues:
    """Read the ends of the spectrum off a Lanczos run from a uniform random start vector.

    Costs no product with the operator: 2 P m k flops for the vectors. Arguments and result as
    for `extreme_eigenvalues`; intervals are certified only if `lanczos` was started from
    `whynet.numerics.probes.uniform_direction`.
    """
    values, vectors = krylov.eigen()
    size = len(krylov.basis)
    precision = torch.finfo(krylov.basis.dtype).eps
    roundoff = float(precision * (4 * size**0.5 + krylov.steps) * values.abs().max())
    count = min(k, krylov.steps)
    chosen = vectors[:, -count:].flip(1)
    residual = krylov.residual_norm
    residuals = tuple(residual * abs(entry) for entry in chosen[-1].tolist())
    alphas, betas = krylov.alphas.tolist(), [*krylov.betas.tolist(), residual]
    least, largest = float(values[0]), float(values[-1])
    below, above = ends_of_spectrum(alphas, betas, (least, largest), size, level)

    def estimate(value: float, low: float, high: float, certified: bool) -> Estimate:
        ends = low - roundoff, high + roundoff
        if certified:
            return Estimate(value, *ends, "certified", level, unit, _END, _OVER)
        return Estimate(value, *ends, "indicative", level, unit, _NEXT, _OVER)

    top = [estimate(largest, largest, above, True)]
    for value, reach in zip(values.flip(0)[1:count].tolist(), residuals[1:], strict=True):
        top.append(estimate(value, value - reach, value + reach, False))
    smallest = estimate(least, below, least, True)
    ritz = krylov.basis @ chosen.to(krylov.basis)
    return ExtremeEigenvalues(tuple(top), smallest, ritz, residuals, roundoff, krylov)
