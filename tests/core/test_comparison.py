from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from whynet.core.comparison import compare
from whynet.core.measurement import Measurement, Prediction, Quantity


def said(
    value: Any,
    width: float = 0.1,
    labels: Any = ("a", "b"),
    unit: str = "fraction",
    name: str = "x",
    kind: type[Measurement] = Measurement,
    **options: Any,
) -> Measurement:
    array = np.asarray(value, dtype=float)
    quantity = Quantity(
        array,
        array - width,
        array + width,
        dims=("split",) if array.ndim else (),
        unit=unit,
        kind="interval",
        **options,
    )
    return kind.of({name: quantity}, {"split": list(labels)} if array.ndim else {})


def test_values_gaps_and_overlaps_stand_side_by_side() -> None:
    joined = compare(said([0.5, 0.9]), said([0.6, 0.2], kind=Prediction))
    np.testing.assert_allclose(joined["x"]["measured"], [0.5, 0.9])
    np.testing.assert_allclose(joined["x"]["predicted"], [0.6, 0.2])
    np.testing.assert_allclose(joined["x"]["gap"], [-0.1, 0.7])
    assert joined["x"]["overlap"].values.tolist() == [True, False]


def test_touching_intervals_meet() -> None:
    assert bool(compare(said(1.0, 0.5), said(2.0, 0.5))["x"]["overlap"])
    assert bool(compare(said(2.0, 0.5), said(1.0, 0.5))["x"]["overlap"])
    assert not bool(compare(said(1.0, 0.25), said(2.0, 0.5))["x"]["overlap"])


def test_what_was_measured_besides_is_left_out() -> None:
    measured = Measurement.of({"x": Quantity(1.0), "y": Quantity(2.0)})
    assert set(compare(measured, Measurement.of({"x": Quantity(1.0)}))) == {"x"}


def test_entries_absent_on_both_sides_agree_and_on_one_do_not() -> None:
    there = said([0.5, 0.6], missing="few rows")
    absent = said([0.5, np.nan], missing="few rows")
    assert compare(absent, absent)["x"]["overlap"].values.tolist() == [True, True]
    assert compare(there, absent)["x"]["overlap"].values.tolist() == [True, False]
    assert compare(absent, there)["x"]["overlap"].values.tolist() == [True, False]


@pytest.mark.parametrize(
    ("measured", "predicted", "sentence"),
    [
        (said([1, 2]), said([1, 2], name="y"), "'y' is predicted but was not measured"),
        (said([1, 2]), said([1, 2], unit="nats"), "in 'fraction' and predicted in 'nats'"),
        (said([1, 2]), said([1, 2], labels=("a", "c")), "has other labels on the two sides"),
        (said([1, 2]), said([1, 2, 3], labels="abc"), "has other labels on the two sides"),
        (said([1, 2]), said(1), r"has shapes \(2,\) and \(\)"),
    ],
)
def test_what_cannot_be_joined_exactly_is_an_error(
    measured: Measurement, predicted: Measurement, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        compare(measured, predicted)


def test_float_labels_are_not_joined_approximately() -> None:
    ours, theirs = said([1, 2], labels=(0.1, 0.3)), said([1, 2], labels=(0.1, 0.1 + 0.2))
    with pytest.raises(ValueError, match="other labels"):
        compare(ours, theirs)
