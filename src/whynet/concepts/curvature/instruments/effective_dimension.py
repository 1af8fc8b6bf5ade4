"""How many directions of weight space the training data determine, at a stated ridge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from whynet.concepts.curvature import spectrum_rounds as spectrum
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.derivatives.gauss_newton_kernel import gauss_newton_kernel
from whynet.models.subject import Subject
from whynet.numerics.effective_dimension import (
    Brackets,
    bracketed_dimension,
    bracketing_quadratures,
    effective_dimension,
    together,
)

INSTRUMENT = Instrument(
    title="effective dimension of the Gauss-Newton matrix of the training loss",
    unit="count",
    needs=("train-data", "deterministic", "trainable"),
    cost="about 530 Gauss-Newton products on at most 2,000 rows, each 2 to 4 gradients",
    cites=("mackay1992", "maddox2020", "golub1994", "schraudolph2002"),
    closed_form="wide-quadratic",
    rounds=100,
    slow=True,
    draws=True,
)

SHARES = (0.1, 0.01, 0.001)
"""Ridges relative to the largest eigenvalue."""

DECAYS = (0.1, 0.01, 0.001, 0.0001)
"""Ridges as they are: what weight decay adds to the second derivative of the mean loss."""

EXACT = 500
"""Parameters up to which the matrix is made whole and nothing is drawn."""

STEPS, PROBES = 16, 30

CONVERGED = 1e-6
"""Residual over eigenvalue of a removed vector: what couples it to the rest is lost."""


@dataclass(frozen=True)
class State:
    """The operator with its largest eigenvalues, or all eigenvalues; and what the probes said.

    Attributes:
        base: the operator, and the directions that are removed from the probes.
        eigenvalues: all that are not zero, where they could be had; None elsewhere.
        side: how those were had.
        brackets: of each round.
        rounds: rounds that were run.

    """

    base: spectrum.State
    subject: Subject
    eigenvalues: np.ndarray | None = None
    side: str = ""
    brackets: tuple[Brackets, ...] = ()
    rounds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Make the operator, and choose between all eigenvalues and probes."""
    if subject.loss.task == "other":
        return NotApplicable(
            "This does not apply: the loss is not known to be convex in the outputs, so that its "
            "Gauss-Newton matrix may have negative eigenvalues."
        )
    base = spectrum.begin(subject, seed, "gauss-newton")
    return base if isinstance(base, NotApplicable) else State(base, subject)


def advance(state: State) -> State:
    """Find all eigenvalues where that is cheap; else the largest once, then 30 more probes."""
    if state.rounds == 0:
        state = _begun(state)
    if state.eigenvalues is not None:
        return replace(state, rounds=state.rounds + 1)
    base, number = state.base, state.rounds
    layout, size = base.operator.layout, base.operator.size
    steps = min(STEPS, base.effort.quadrature_steps)
    group = max(1, min(PROBES, spectrum.BASIS_NUMBERS // (steps * size)))
    found = together(
        [
            bracketing_quadratures(
                base.operator.matmat,
                size,
                steps=steps,
                probes=min(group, PROBES - first),
                seed=seed_from("effective-dimension", base.seed, number, first),
                deflation=base.deflation,
                dtype=layout.dtype,
                device=layout.device,
            )
            for first in range(0, PROBES, group)
        ]
    )
    return replace(state, brackets=(*state.brackets, found), rounds=number + 1)


def _begun(state: State) -> State:
    """Find all eigenvalues from the smaller side in float64, or the largest by Lanczos."""
    size = state.base.operator.size
    if size <= EXACT:
        wide = spectrum.begin(state.subject.in_precision(torch.float64), 0, "gauss-newton")
        if not isinstance(wide, NotApplicable):
            whole = wide.operator.matmat(torch.eye(size, dtype=torch.float64))
            matrix = whole.cpu().numpy()
            values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
            return replace(state, eigenvalues=values, side="the whole matrix")
    kernel = gauss_newton_kernel(state.subject.in_precision(torch.float64), state.base.effort.rows)
    if not isinstance(kernel, NotApplicable):
        side = "the kernel of the outputs, which has the same eigenvalues but zeros"
        return replace(state, eigenvalues=np.linalg.eigvalsh(kernel), side=side)
    return replace(state, base=spectrum.with_extremes(state.base, CONVERGED))


def read(state: State) -> Measurement:
    """Return the effective dimension at ridges relative to the largest eigenvalue and as such."""
    largest = _largest(state)
    relative = [_dimension(state, share * largest.value) for share in SHARES]
    absolute = [_dimension(state, decay) for decay in DECAYS]
    base, unresolved = state.base, "the ridge is within the round-off of the largest eigenvalue"
    ways = (
        f"The eigenvalues are exact, from {state.side}."
        if state.eigenvalues is not None
        else f"Each interval covers the draw of {PROBES * state.rounds} probes and the "
        f"{min(STEPS, base.effort.quadrature_steps)} Lanczos steps from each; more rounds "
        "shorten the first part only."
    )
    return Measurement.of(
        {
            "largest": Quantity.from_estimate(largest),
            "relative": replace(Quantity.stacked(relative, "share"), missing=unresolved),
            "effective_dimension": replace(Quantity.stacked(absolute, "decay"), missing=unresolved),
            "parameters": Quantity(
                float(base.operator.size), unit="count", how="trainable parameters"
            ),
        },
        coords={"share": list(SHARES), "decay": list(DECAYS)},
        cites=INSTRUMENT.cites,
        notes=(*base.notes, ways),
        check=base.check,
    )


def _largest(state: State) -> Estimate:
    if state.eigenvalues is None:
        assert state.base.extremes is not None
        return state.base.extremes.top[0]
    value = max(0.0, float(state.eigenvalues.max(initial=0.0)))
    return Estimate(value, value, value, "exact", 0.95, "", "all eigenvalues")


def _dimension(state: State, ridge: float) -> Estimate:
    if state.eigenvalues is not None:
        value = float(effective_dimension(state.eigenvalues, ridge)[0]) if ridge > 0 else np.nan
        return Estimate(
            value, value, value, "exact", 0.95, "count", "sum over all eigenvalues",
            "the training data",
        )  # fmt: skip
    brackets = together(state.brackets)
    if not (ridge > 0 and brackets.resolves(ridge)):
        return Estimate(np.nan, np.nan, np.nan, "interval", 0.95, "count", "", "probes")
    return bracketed_dimension(brackets, state.base.known, ridge)
