"""What every instrument must hold, as checks that third parties can run on theirs.

A check is a function `(instrument module, make_subject) -> None` that raises `AssertionError`
with a sentence. `make_subject(dtype, batch_size)` makes the same subject anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from whynet.concepts.measuring import begin
from whynet.core.citations import bibliography
from whynet.core.estimate import Estimate
from whynet.core.instrument import InstrumentModule
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.core.tags import TAGS
from whynet.models.preservation import fingerprint, global_state, preserved
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, closed_forms

TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-7}
"""Relative to the largest entry of a quantity: how far round-off alone may move a number."""


class MakeSubject(Protocol):
    """Makes the same subject anew, in a precision and with a batch size."""

    def __call__(self, dtype: torch.dtype, batch_size: int = 512) -> Subject:
        """Make it."""


def run_once(module: InstrumentModule, subject: Subject, seed: int = 0) -> Any:
    """Run one round and read it; or return why the instrument does not apply."""
    with preserved():
        state = begin(module, subject, seed)
        if isinstance(state, NotApplicable):
            return state
        return module.read(module.advance(state))


def check_metadata(module: InstrumentModule) -> None:
    """Metadata name things that exist."""
    about = module.INSTRUMENT
    assert set(about.needs) <= set(TAGS), f"unknown tags {set(about.needs) - set(TAGS)}"
    assert set(about.cites) <= set(bibliography()), "a citation is not in references.bib"
    assert about.closed_form in closed_forms(), f"no closed form {about.closed_form!r}"
    assert about.rounds >= 1, "an instrument runs at least one round"
    assert about.title, "an instrument says what it measures"


def check_answers(
    module: InstrumentModule, make: MakeSubject, dtype: torch.dtype = torch.float32
) -> None:
    """A sound subject gets a measurement of the schema, or one full sentence of refusal."""
    outcome = run_once(module, make(dtype))
    if isinstance(outcome, NotApplicable):
        assert outcome.reason.endswith("."), f"no full sentence: {outcome.reason!r}"
        assert len(outcome.reason) > 20, f"no reason: {outcome.reason!r}"
        return
    assert isinstance(outcome, Measurement), f"read returned {type(outcome).__name__}"
    assert set(outcome.cites) <= set(bibliography()), "a citation is not in references.bib"


def check_untouched(
    module: InstrumentModule, make: MakeSubject, dtype: torch.dtype = torch.float32
) -> None:
    """Network, buffers, flags, hooks, random states and settings are as before."""
    subject = make(dtype)
    before, world = fingerprint(subject.module), global_state()
    run_once(module, subject)
    after, world_after = fingerprint(subject.module), global_state()
    changed = [name for name in before if before[name] != after.get(name)]
    assert before == after, f"the network was changed: {changed[:5]}"
    moved = [name for name in world if world[name] != world_after[name]]
    assert not moved, f"global state was changed: {moved}"


def check_same_seed(
    module: InstrumentModule, make: MakeSubject, dtype: torch.dtype = torch.float32
) -> None:
    """The same seed gives the same bits; another one others, where the instrument draws."""
    first, second = (run_once(module, make(dtype)) for _ in range(2))
    if isinstance(first, NotApplicable):
        assert isinstance(second, NotApplicable), "refused once, measured the other time"
        return
    assert first.dataset.identical(second.dataset), "the same seed gave other numbers"


def check_batch_split(
    module: InstrumentModule, make: MakeSubject, dtype: torch.dtype = torch.float32
) -> None:
    """How the data are cut into batches moves nothing but round-off."""
    whole, cut = run_once(module, make(dtype)), run_once(module, make(dtype, batch_size=7))
    _same(whole, cut, TOLERANCE[dtype], "cutting the batches")


def check_precisions(
    module: InstrumentModule, make: MakeSubject, dtype: torch.dtype = torch.float32
) -> None:
    """Float32 and float64 agree within the round-off of float32."""
    narrow, wide = run_once(module, make(torch.float32)), run_once(module, make(torch.float64))
    _same(narrow, wide, 20 * TOLERANCE[torch.float32], "float32 against float64")


def check_old_state(
    module: InstrumentModule, make: MakeSubject, dtype: torch.dtype = torch.float32
) -> None:
    """A round leaves the state before it readable, so that an interruption loses one round."""
    with preserved():
        state = begin(module, make(dtype), 0)
        if isinstance(state, NotApplicable):
            return
        state = module.advance(state)
        before = module.read(state)
        if module.INSTRUMENT.rounds > 1:
            module.advance(state)
        after = module.read(state)
    assert before.dataset.identical(after.dataset), "a further round changed the state before it"


CHECKS: Mapping[str, Callable[..., None]] = {
    "answers": check_answers,
    "untouched": check_untouched,
    "same seed": check_same_seed,
    "batch split": check_batch_split,
    "precisions": check_precisions,
    "old state": check_old_state,
}
"""Checks on an instrument and a subject; `check_metadata` and `coverage` stand beside them."""


@dataclass(frozen=True)
class Coverage:
    """How often the intervals of one quantity held the truth.

    Attributes:
        kind: what they are called; `indicative` ones are left out where others claim more.
        draws: how many claimed that.
        hits: how many of these held the truth.
        level: what they claim.

    """

    kind: str
    draws: int = 0
    hits: int = 0
    level: float = 0.95

    @property
    def share(self) -> float:
        """Share of the intervals that held the truth."""
        return self.hits / self.draws


def coverage(
    module: InstrumentModule,
    instrument: str,
    form: ClosedForm,
    dtype: torch.dtype,
    draws: range,
) -> dict[str, Coverage]:
    """Measure how often intervals hold the truth of a closed form.

    Bounds are widened by round-off alone: 1000 times that of the precision, relative to the truth.

    Args:
        module: the instrument's file.
        instrument: its id.
        form: the closed form.
        dtype: precision.
        draws: numbers of the draws, of examples or of the instrument's seed.

    Returns:
        Quantity with labels to how often it held the truth.

    """
    found: dict[str, Coverage] = {}
    fixed = None if form.over_examples else form.subject(dtype, 0)
    for draw in draws:
        subject = fixed or form.subject(dtype, draw)
        outcome = run_once(module, subject, 0 if form.over_examples else draw)
        assert isinstance(outcome, Measurement), f"refused its closed form: {outcome}"
        truth = {**form.truth[instrument], **form.of_draw(instrument, draw)}
        for key, value in truth.items():
            estimate = outcome.estimate(key[0], **dict(key[1]))
            slack = 1000 * torch.finfo(dtype).eps * abs(value) + 1e-9
            hit = estimate.low - slack <= value <= estimate.high + slack
            name = " ".join([key[0], *(str(label) for _, label in key[1])])
            found[name] = _counted(found.get(name), estimate, hit)
    return found


def _counted(before: Coverage | None, estimate: Estimate, hit: bool) -> Coverage:
    """Add one draw; the first that claims more than `indicative` ends the count of those."""
    if before is None or (before.kind == "indicative" != estimate.kind):
        before = Coverage(estimate.kind, level=estimate.level)
    if before.kind != estimate.kind:
        return before
    return replace(before, draws=before.draws + 1, hits=before.hits + hit)


def _same(first: Any, second: Any, tolerance: float, what: str) -> None:
    if isinstance(first, NotApplicable) or isinstance(second, NotApplicable):
        assert type(first) is type(second), f"{what}: refused once, measured the other time"
        return
    assert first.names == second.names, f"{what}: other quantities"
    for name in first.names:
        if first.dataset[name].attrs.get("from_check"):
            continue  # round-off itself is what this number measures
        one, two = np.asarray(first.values(name)), np.asarray(second.values(name))
        assert one.shape == two.shape, f"{what}: {name} changed its shape"
        low, high = (np.asarray(b) for b in first.bounds(name))
        scale = max(float(np.abs(one[np.isfinite(one)]).max(initial=0.0)), 1e-12)
        allowed = tolerance * scale + 0.05 * (high - low)
        gap = np.abs(one - two)
        assert bool((np.isnan(gap) | (gap <= allowed)).all()), (
            f"{what}: {name} moved by {float(np.nanmax(gap)):.2e} of {scale:.2e}"
        )
