"""The Gauss-Newton matrix of the training loss: its largest eigenvalues and trace."""

from __future__ import annotations

from whynet.concepts.curvature import spectrum_rounds as spectrum
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject

INSTRUMENT = Instrument(
    title="Gauss-Newton matrix of the training loss: largest eigenvalues, trace by layers",
    unit="loss per squared weight",
    needs=("train-data", "deterministic", "trainable"),
    cost="90 Gauss-Newton products on at most 2,000 rows, each 2 to 4 gradients",
    cites=("schraudolph2002", "kuczynski1992", "hutchinson1990"),
    closed_form="quadratic",
    rounds=100,
    draws=True,
)


def start(subject: Subject, seed: int) -> spectrum.State | NotApplicable:
    """Choose the differentiation plan and make the operator."""
    return spectrum.begin(subject, seed, "gauss-newton")


def advance(state: spectrum.State) -> spectrum.State:
    """Find the ends once, then add 30 probes of the trace."""
    return spectrum.with_trace(spectrum.with_extremes(state))


def read(state: spectrum.State) -> Measurement:
    """Return the ends of the spectrum, the trace with those of the layers, and the norm."""
    quantities = spectrum.ends(state) | spectrum.layers(state)
    quantities["trace"] = Quantity.from_estimate(spectrum.trace(state))
    return Measurement.of(
        quantities,
        coords={
            "rank": spectrum.ranks(state),
            "parameter": list(state.operator.layout.names),
        },
        cites=INSTRUMENT.cites,
        notes=state.notes,
        check=state.check,
    )
