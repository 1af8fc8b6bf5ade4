"""The registry is the folder: instruments, questions and field tests, without importing them."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Generic, Literal, cast

from whynet.core.errors import InputError
from whynet.core.field_test import Broken, FieldModule, FieldTest
from whynet.core.instrument import Instrument, InstrumentModule
from whynet.core.metadata import Metadata, read_metadata
from whynet.core.question import Question

Room = Literal["instruments", "questions", "field_tests"]

FIELD_PARTS: Final[dict[str, type]] = {"Broken": Broken}
"""Classes that the literals of a field test may call."""


@dataclass(frozen=True)
class Entry(Generic[Metadata]):
    """One file of a room.

    Attributes:
        id: the file's name with `-` for `_`.
        concept: the folder it stands in.
        module: its dotted name.
        metadata: read from the source.

    """

    id: str
    concept: str
    module: str
    metadata: Metadata


@cache
def instruments() -> dict[str, Entry[Instrument]]:
    """Return all instruments, by id, in the order of concept and name."""
    return {entry.id: entry for entry in _scan("instruments", "INSTRUMENT", Instrument)}


@cache
def questions() -> dict[str, Entry[Question]]:
    """Return all questions, by id, in the order of their panels."""
    found = sorted(_scan("questions", "QUESTION", Question), key=lambda e: e.metadata.order)
    return {entry.id: entry for entry in found}


@cache
def field_tests() -> dict[str, Entry[FieldTest]]:
    """Return the field tests, by the id of their claim, in the order of concept and name."""
    found = _scan("field_tests", "FIELD_TEST", FieldTest, FIELD_PARTS)
    return {entry.id: entry for entry in found}


def load_field_test(name: str) -> FieldModule:
    """Import the file of a field test."""
    return cast(FieldModule, importlib.import_module(field_tests()[name].module))


MOST_SEEDS: Final = 20
"""Rounds of a field test, each of which trains one further seed."""


@cache
def measurers() -> dict[str, Entry[Instrument]]:
    """Return all that measures in rounds: the instruments, and field tests in their form."""
    found = dict(instruments())
    for name, entry in field_tests().items():
        found[name] = Entry(name, entry.concept, entry.module, instrument_of(entry.metadata))
    return found


def instrument_of(about: FieldTest) -> Instrument:
    """Return what a field test is as an instrument, one that waits for time."""
    return Instrument(
        title=about.asks,
        unit="",
        needs=about.needs,
        cost=about.cost,
        cites=about.cites,
        closed_form="",
        rounds=MOST_SEEDS,
        slow=True,
        draws=True,
    )


def load_measurer(name: str, argument: str = "instrument") -> InstrumentModule:
    """Import an instrument, or a field test in the form of one.

    Raises:
        InputError: there is neither; the sentence names the nearest instrument.

    """
    if name not in field_tests():
        return load_instrument(name, argument)
    from whynet.concepts.field_testing import as_instrument

    return as_instrument(load_field_test(name))


def load_instrument(name: str, argument: str = "instrument") -> InstrumentModule:
    """Import the file of an instrument.

    Raises:
        InputError: there is no such instrument; the sentence names the nearest.

    """
    entry = instruments().get(name)
    if entry is None:
        raise InputError(argument, repr(name), "one of " + _choices(name, instruments()))
    return cast(InstrumentModule, importlib.import_module(entry.module))


def load_question(name: str) -> Any:
    """Import the file of a question; it has `QUESTION` and `ask(results) -> Panel`."""
    return importlib.import_module(questions()[name].module)


def _choices(name: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ", ".join(known) + hint


def _scan(
    room: Room, name: str, kind: type[Metadata], parts: dict[str, type] | None = None
) -> list[Entry[Metadata]]:
    root = Path(str(files("whynet.concepts")))
    entries = []
    for path in sorted(root.glob(f"*/{room}/*.py")):
        if path.name == "__init__.py":
            continue
        concept = path.parent.parent.name
        entries.append(
            Entry(
                path.stem.replace("_", "-"),
                concept,
                f"whynet.concepts.{concept}.{room}.{path.stem}",
                read_metadata(path, name, kind, parts),
            )
        )
    return entries
