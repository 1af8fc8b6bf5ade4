"""What holds for the core as a whole: examples run, imports stay light, metadata are frozen."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from whynet import core
from whynet.core.builtin import BuiltIn
from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.outcome import Failed, NotApplicable
from whynet.core.question import Finding, Panel, Question, Reference, Results, Table
from whynet.core.tags import TAGS

MODULES = sorted(
    f"whynet.core.{path.stem}"
    for path in Path(core.__path__[0]).glob("*.py")
    if path.stem != "__init__"
)

ESTIMATE = Estimate(1.0, 0.5, 1.5, "interval")
OBJECTS: list[Any] = [
    ESTIMATE,
    NotApplicable("x"),
    Failed("x"),
    BuiltIn("t", "mlp", "mse", "d"),
    Instrument("t", "", (), "one pass", (), "form"),
    Question("t", "t", ("a",)),
    Reference("linear model", 0.1, 0.2),
    Finding("k", "h", "n", "a", ESTIMATE, "l", 0.5, "i"),
    Table(("a",), ((ESTIMATE,),)),
    Panel("l", "m"),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0


def test_there_are_examples_to_run() -> None:
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 6


@pytest.mark.parametrize("name", MODULES)
def test_the_core_imports_nothing_heavy(name: str) -> None:
    heavy = ("torch", "scipy", "sklearn", "matplotlib", "jinja2", "zarr", "rich")
    program = f"import sys, {name}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("made", OBJECTS, ids=lambda made: type(made).__name__)
def test_the_words_of_the_core_are_frozen_and_comparable(made: Any) -> None:
    assert made == dataclasses.replace(made)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, "other")


def test_defaults_say_the_least() -> None:
    instrument = OBJECTS[4]
    assert (instrument.rounds, instrument.draws) == (1, False)
    assert Panel("l", "m").findings == ()
    assert Results.__dataclass_fields__.keys() == {
        "facts",
        "measured",
        "initial",
        "shuffled",
        "seeds",
        "inapplicable",
    }


def test_tags_are_words_and_their_sentences_have_no_stop() -> None:
    for tag, sentence in TAGS.items():
        assert tag == tag.lower()
        assert " " not in tag
        assert sentence
        assert not sentence.endswith(".")
