from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tests.examination.small import small_subject

from whynet.core.estimate import Estimate
from whynet.core.measurement import Measurement, Quantity
from whynet.examination.examine import examine
from whynet.examination.summary import as_json, entries, numbers, to_json


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_keys_are_stable() -> None:
    report = examine(small_subject(), only=["fit"]).report
    assert list(numbers(report)) == [
        "fit.loss.train",
        "fit.loss.test",
        "fit.accuracy.train",
        "fit.accuracy.test",
        "fit.loss_gap",
        "fit.accuracy_gap",
        "fit.seen_test_rows",
        "train_loss",
        "test_loss",
        "train_accuracy",
        "test_accuracy",
    ]
    content = strict(to_json(report))
    assert list(content) == [
        "schema_version", "whynet", "subject", "interrupted", "seconds", "findings", "questions",
        "instruments", "set_aside", "numbers", "references", "reference_notes",
    ]  # fmt: skip
    assert content["numbers"]["test_accuracy"] == content["numbers"]["fit.accuracy.test"]


def test_a_short_key_names_one_number_or_none() -> None:
    report = examine(small_subject(), only=["fit", "calibration"]).report
    found = numbers(report)
    for key in found:
        if "." not in key:
            split, quantity = key.split("_", 1)
            same = [k for k in found if k.endswith(f".{quantity}.{split}")]
            assert len(same) == 1 and found[same[0]] == found[key]


def test_infinite_ends_and_missing_entries_are_strict_json() -> None:
    measured = Measurement.of(
        {
            "a": Quantity([1.0, math.nan], [-math.inf, math.nan], [math.inf, math.nan],
                          dims=("split",), kind="interval", missing="no second"),
            "curve": Quantity(list(range(65)), dims=("t",)),
        },
        coords={"split": ["train", "test"]},
    )  # fmt: skip
    found = [(name, labels) for name, labels, _ in entries(measured)]
    assert found == [("a", {"split": "train"})]
    content = as_json(Estimate(1.0, -math.inf, math.inf, "interval"))
    assert (content["low"], content["value"], content["high"]) == (None, 1.0, None)
    assert strict(json.dumps(content, allow_nan=False)) == content


@pytest.mark.parametrize("unit", ["", "count"])
def test_axes_without_labels_are_numbered(unit: str) -> None:
    measured = Measurement.of({"a": Quantity([3, 4], dims=("t",), unit=unit)})
    assert [(labels, e.value) for _, labels, e in entries(measured)] == [
        ({"t": 0}, 3.0), ({"t": 1}, 4.0),
    ]  # fmt: skip
