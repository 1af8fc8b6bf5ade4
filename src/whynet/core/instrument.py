"""The shape of an instrument: metadata as literals, and three functions that work in rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from whynet.core.measurement import Measurement
    from whynet.core.outcome import NotApplicable


@dataclass(frozen=True)
class Instrument:
    """What the registry knows of an instrument without importing its file.

    All fields are written as literals in the instrument's file; the registry reads them from the
    source, so that listing instruments imports neither torch nor xarray.

    Attributes:
        title: what it measures, a phrase.
        unit: unit of its leading number.
        needs: tags (`whynet.core.tags`) that a subject must carry; else it does not apply.
        cost: what a round costs, in gradients, forward passes or seconds on a named machine.
        cites: keys of `references.bib`.
        closed_form: name of the case in `whynet.testing.closed_forms` whose true answer is
            known; the conformance suite measures there.
        rounds: largest number of rounds that can be asked for; 1 for a one-shot instrument.
        slow: whether an examination begins it only while there is time.
        draws: whether its numbers depend on the seed.
        unit_permutation_invariant: whether permuting hidden units must leave its numbers alone.

    """

    title: str
    unit: str
    needs: tuple[str, ...]
    cost: str
    cites: tuple[str, ...]
    closed_form: str
    rounds: int = 1
    slow: bool = False
    draws: bool = False
    unit_permutation_invariant: bool = True


class InstrumentModule(Protocol):
    """The three functions of an instrument's file.

    `start` prepares the state for a subject and a seed, or says why it does not apply. `advance`
    runs one round and returns a new state, leaving the old one readable, so that an interruption
    loses one round at most. `read` turns a state with at least one round into a measurement.
    """

    INSTRUMENT: Instrument

    def start(self, subject: Any, seed: int, **options: Any) -> Any | NotApplicable:
        """Prepare the state of round zero; settings, where it has some, are keyword arguments."""

    def advance(self, state: Any) -> Any:
        """Run one round of fixed size."""

    def read(self, state: Any) -> Measurement:
        """Return what the finished rounds say."""
