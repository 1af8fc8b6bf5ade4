"""The Hessian of the training loss: ends of its spectrum, trace and density."""

from __future__ import annotations

from dataclasses import replace

from whynet.concepts.curvature import spectrum_rounds as spectrum
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject

INSTRUMENT = Instrument(
    title="Hessian of the training loss: largest and smallest eigenvalues, trace, density, how "
    "many are negative",
    unit="loss per squared weight",
    needs=("train-data", "deterministic", "trainable"),
    cost="680 Hessian products on at most 2,000 rows, each 1 to 3 gradients",
    cites=(
        "pearlmutter1994",
        "kuczynski1992",
        "hutchinson1990",
        "ubaru2017",
        "ghorbani2019",
        "kwon2021",
    ),
    closed_form="quadratic",
    rounds=100,
    draws=True,
)


def start(subject: Subject, seed: int) -> spectrum.State | NotApplicable:
    """Choose the differentiation plan and make the operator."""
    return spectrum.begin(subject, seed, "hessian")


def advance(state: spectrum.State) -> spectrum.State:
    """Find the ends and adaptive sharpness once, then add 30 quadratures, which carry the trace."""
    return spectrum.with_quadrature(spectrum.with_adaptive(spectrum.with_extremes(state)))


def read(state: spectrum.State) -> Measurement:
    """Return the ends, the shares of negative curvature and gradient, the trace and the density."""
    assert state.adaptive is not None
    quantities = spectrum.ends(state) | spectrum.gradient_share(state)
    quantities["adaptive_sharpness"] = replace(
        Quantity.from_estimate(state.adaptive),
        unit="loss",
        how="largest eigenvalue of D H D, D the magnitudes of the parameters; "
        + state.adaptive.how,
    )
    quantities["trace"] = Quantity.from_estimate(spectrum.trace(state))
    if (ratio := _negative_ratio(state)) is not None:
        quantities["negative_ratio"] = ratio
    quantities |= spectrum.negative_share(state)
    curves, grid = spectrum.density(state)
    return Measurement.of(
        quantities | curves,
        coords={
            "rank": spectrum.ranks(state),
            "eigenvalue": ("place", grid),
            "depth": list(spectrum.DEPTHS),
        },
        cites=INSTRUMENT.cites,
        notes=state.notes,
        check=state.check,
    )


def _negative_ratio(state: spectrum.State) -> Quantity | None:
    """Most negative over largest eigenvalue, at least 0; None where the largest may be zero."""
    extremes = state.extremes
    assert extremes is not None
    largest, smallest = extremes.top[0], extremes.smallest
    if largest.low <= 0:
        return None
    return Quantity(
        max(0.0, -smallest.value) / largest.value,
        max(0.0, -smallest.high) / largest.high,
        max(0.0, -smallest.low) / largest.low,
        unit="ratio",
        kind=largest.kind,
        level=largest.level,
        how="−smallest over largest eigenvalue, from their joint intervals",
        over=largest.over,
    )
