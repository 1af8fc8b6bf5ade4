from __future__ import annotations

import pickle

import pytest

from whynet.core.errors import InputError, StoreError
from whynet.core.outcome import Failed, NotApplicable


@pytest.mark.parametrize("kind", [InputError, StoreError])
def test_the_sentence_has_one_form(kind: type[InputError]) -> None:
    error = kind("--train", "an empty file", "at least one row")
    assert str(error) == "--train: found an empty file; wanted at least one row."
    assert (error.argument, error.found, error.wanted) == (
        "--train",
        "an empty file",
        "at least one row",
    )
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("kind", [InputError, StoreError])
def test_errors_travel_between_processes(kind: type[InputError]) -> None:
    error = kind("model", "nothing", "a network")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.found == "nothing"


def test_a_damaged_store_is_an_input_error() -> None:
    assert issubclass(StoreError, InputError)


def test_expected_failure_is_data() -> None:
    assert NotApplicable("No data.") == NotApplicable("No data.")
    assert Failed("ValueError: x").traceback == ""
    assert not isinstance(NotApplicable("x"), Exception)
