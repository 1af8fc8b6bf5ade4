"""The registry reads source; the imported objects must say the same, and name what exists."""

from __future__ import annotations

import importlib
import re

import pytest
from tests.house.places import CONCEPTS, ROOT, SOURCE, short, tracked

from whynet.atlas.registry import claims
from whynet.concepts.registry import (
    field_tests,
    instruments,
    load_instrument,
    load_question,
    questions,
)
from whynet.core.builtin import BuiltIn
from whynet.core.citations import bibliography
from whynet.core.family import Family
from whynet.core.tags import TAGS
from whynet.training.builtin import builtins


@pytest.mark.parametrize("name", instruments())
def test_instrument_is_what_its_source_says(name: str) -> None:
    module = load_instrument(name)
    assert instruments()[name].metadata == module.INSTRUMENT
    for function in ("start", "advance", "read"):
        assert callable(getattr(module, function))
    assert set(module.INSTRUMENT.needs) <= set(TAGS)


@pytest.mark.parametrize("name", questions())
def test_question_is_what_its_source_says_and_names_instruments(name: str) -> None:
    module = load_question(name)
    assert questions()[name].metadata == module.QUESTION
    assert callable(module.ask)
    about = module.QUESTION
    used = {*about.uses, *about.may_use}
    assert used
    assert used <= set(instruments()) | set(field_tests())
    assert set(about.references) <= used


@pytest.mark.parametrize("name", builtins())
def test_builtin_is_what_its_source_says(name: str) -> None:
    module = importlib.import_module(f"whynet.training.subjects.{name.replace('-', '_')}")
    assert isinstance(module.SUBJECT, BuiltIn)
    assert builtins()[name] == module.SUBJECT
    assert (SOURCE / "models" / "families" / f"{module.SUBJECT.family}.py").is_file()


def test_every_family_declares_itself() -> None:
    files = sorted((SOURCE / "models" / "families").glob("[!_]*.py"))
    assert files
    for path in files:
        module = importlib.import_module(f"whynet.models.families.{path.stem}")
        assert isinstance(module.FAMILY, Family), short(path)


def test_ids_are_unique_and_every_instrument_is_asked_for() -> None:
    stems = [p.stem for p in CONCEPTS.glob("*/instruments/[!_]*.py")]
    assert len(stems) == len(set(stems)) == len(instruments())
    used = {n for e in questions().values() for n in (*e.metadata.uses, *e.metadata.may_use)}
    assert set(instruments()) | set(field_tests()) == used
    assert not set(instruments()) & set(field_tests())


@pytest.mark.parametrize("room", ["instruments", "questions", "claims", "field_tests"])
def test_every_room_holds_something(room: str) -> None:
    rooms = sorted(CONCEPTS.glob(f"*/{room}"))
    assert rooms
    for folder in rooms:
        assert list(folder.glob("[!_]*.py")), f"{short(folder)} is an empty room"


def test_every_field_test_stands_in_the_concept_of_its_claim() -> None:
    assert field_tests()
    for name, entry in field_tests().items():
        assert claims()[name].concept == entry.concept


def test_every_concept_has_a_page_that_names_its_instruments() -> None:
    for entry in instruments().values():
        page = ROOT / "docs" / "concepts" / f"{entry.concept}.md"
        assert f"`{entry.id}`" in page.read_text(encoding="utf-8"), f"{short(page)}: {entry.id}"


def test_every_key_that_is_cited_exists_and_every_entry_is_cited() -> None:
    cited = {key for entry in instruments().values() for key in entry.metadata.cites}
    for path in SOURCE.rglob("*.py"):
        for found in re.findall(r"\bcites=\(([^)]*)\)", path.read_text(encoding="utf-8")):
            cited |= set(re.findall(r"\"([a-z]+\d{4}[a-z]?)\"", found))
    assert cited <= set(bibliography()), cited - set(bibliography())
    words = {
        word
        for path in tracked(".py", ".md")
        for word in re.findall(r"\b[a-z]+\d{4}[a-z]?\b", path.read_text(encoding="utf-8"))
    }
    assert set(bibliography()) <= words, set(bibliography()) - words


def test_bibliography_is_well_formed() -> None:
    text = (SOURCE / "core" / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),$", text, flags=re.MULTILINE)
    assert len(keys) == len(set(keys)) == text.count("@") == len(bibliography())
    for key, work in bibliography().items():
        assert re.fullmatch(r"[a-z]+\d{4}[a-z]?", key), key
        assert re.fullmatch(r"\d{4}", work.year), key
        assert work.authors, key
        assert work.title, key
        assert work.where, key
        assert work.bibtex.count("{") == work.bibtex.count("}"), key
