"""The registry is the folder, read without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from whynet.concepts.measuring import measure
from whynet.concepts.registry import (
    field_tests,
    instruments,
    load_instrument,
    load_question,
    measurers,
    questions,
    read_metadata,
)
from whynet.core.citations import bibliography
from whynet.core.errors import InputError
from whynet.core.instrument import Instrument
from whynet.core.question import Question

ROOT = Path(__file__).parents[2] / "src" / "whynet" / "concepts"


@pytest.mark.parametrize(("room", "entries"), [("instruments", instruments()),
                                               ("questions", questions()),
                                               ("field_tests", field_tests())])  # fmt: skip
def test_every_file_is_an_entry_and_every_entry_a_file(
    room: str, entries: dict[str, object]
) -> None:
    files = [p for p in ROOT.glob(f"*/{room}/*.py") if p.name != "__init__.py"]
    assert sorted(p.stem.replace("_", "-") for p in files) == sorted(entries)
    assert len(files) == len(entries)


def test_metadata_in_the_source_are_those_of_the_module() -> None:
    for name, entry in instruments().items():
        assert entry.metadata == load_instrument(name).INSTRUMENT
    for name, asked in questions().items():
        assert asked.metadata == load_question(name).QUESTION


def test_questions_use_instruments_that_exist() -> None:
    used = set()
    for entry in questions().values():
        question: Question = entry.metadata
        names = {*question.uses, *question.may_use}
        assert names <= set(measurers())
        assert set(question.references) <= names
        assert question.title.endswith("?")
        used |= names
    assert used == set(measurers()), "an instrument or a field test that no question uses"


def test_questions_are_in_the_order_of_their_panels() -> None:
    orders = [entry.metadata.order for entry in questions().values()]
    assert orders == sorted(orders)


def test_instruments_cite_and_describe() -> None:
    for name, entry in instruments().items():
        about: Instrument = entry.metadata
        assert set(about.cites) <= set(bibliography()), name
        assert about.title[0].islower() or about.title.split()[0] in ("Hessian", "Gauss-Newton")
        assert (about.rounds > 1) <= about.draws, f"{name}: more rounds of the same numbers"


def test_listing_imports_neither_torch_nor_xarray() -> None:
    code = (
        "import sys; from whynet.concepts.registry import instruments, questions; "
        "assert instruments() and questions(); "
        "print([m for m in ('torch', 'xarray', 'numpy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_instrument_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'calibration'") as caught:
        load_instrument("calibraton")
    assert caught.value.argument == "instrument"
    with pytest.raises(InputError, match="fit"):
        measure("fitt", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("rounds", [0, 2, True, 1.0])
def test_rounds_are_within_what_an_instrument_offers(rounds: int) -> None:
    with pytest.raises(InputError, match="a whole number from 1 to 1") as caught:
        measure("fit", None, rounds=rounds)  # type: ignore[arg-type]
    assert caught.value.argument == "rounds"


@pytest.mark.parametrize("seed", [-1, True, 0.5])
def test_a_seed_is_a_whole_number(seed: int) -> None:
    with pytest.raises(InputError, match="at least 0") as caught:
        measure("fit", None, seed=seed)  # type: ignore[arg-type]
    assert caught.value.argument == "seed"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1", "has no INSTRUMENT = Instrument"),
        ("INSTRUMENT = Instrument(title=name())", "malformed"),
    ],
)
def test_a_file_without_literal_metadata_is_an_error(
    tmp_path: Path, source: str, words: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_metadata(path, "INSTRUMENT", Instrument)
