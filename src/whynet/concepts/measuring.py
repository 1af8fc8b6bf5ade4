"""Running one instrument on one subject."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from whynet.concepts.registry import load_measurer
from whynet.core.errors import InputError
from whynet.core.instrument import InstrumentModule
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.joint_checks import check_outputs
from whynet.models.preservation import preserved
from whynet.models.subject import Split, Subject


def measure(
    instrument: str,
    subject: Subject,
    *,
    rounds: int = 1,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Measurement | NotApplicable:
    """Measure one thing on a subject.

    Args:
        instrument: id of an instrument, see `whynet measure --list`; or of a claim that can be
            tried on a network, of which a round trains one further seed for reference.
        subject: the network with its loss and data.
        rounds: how many rounds to run; more rounds, shorter bars. One-shot instruments take one.
        seed: what the random draws derive from; the same seed gives the same numbers.
        options: settings of instruments that have some, such as the widths of `weight-change`.

    Returns:
        The measurement, or why nothing can be measured here.

    Raises:
        InputError: no such instrument or option, or `rounds` or `seed` is out of range.

    """
    module = load_measurer(instrument)
    check_rounds(module, rounds)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError("seed", repr(seed), "a whole number of at least 0")
    with preserved():
        state = begin(module, subject, seed, _known_options(module, instrument, options or {}))
        if isinstance(state, NotApplicable):
            return state
        for _ in range(rounds):
            state = module.advance(state)
        return module.read(state)


def _known_options(
    module: InstrumentModule, name: str, options: Mapping[str, Any]
) -> Mapping[str, Any]:
    known = [
        argument.name
        for argument in inspect.signature(module.start).parameters.values()
        if argument.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            wanted = f"one of {', '.join(known)}" if known else f"none: {name} has no options"
            raise InputError("options", repr(option), wanted)
    return options


def begin(
    module: InstrumentModule,
    subject: Subject,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> object | NotApplicable:
    """Start an instrument where the subject has what it needs; else say what it lacks.

    Raises:
        InputError: the network's outputs are not finite on every row of its data.

    """
    lacking = subject.lacks(module.INSTRUMENT.needs)
    if lacking is not None:
        return lacking
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        if getattr(subject, split) is not None:
            check_outputs(subject, split)
    return module.start(subject, seed, **(options or {}))


def check_rounds(module: InstrumentModule, rounds: int) -> None:
    """Refuse a number of rounds that this instrument cannot run.

    Raises:
        InputError: fewer than one, or more than the instrument offers.

    """
    most = module.INSTRUMENT.rounds
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= most:
        raise InputError("rounds", repr(rounds), f"a whole number from 1 to {most}")
