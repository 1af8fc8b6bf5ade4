from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from whynet.core.estimate import KINDS, Estimate
from whynet.core.measurement import Measurement, Prediction, Quantity, quantity_names


def sound() -> xr.Dataset:
    quantities = {
        "accuracy": Quantity(
            [0.5, 0.75],
            [0.4, 0.7],
            [0.6, 0.8],
            dims=("split",),
            unit="fraction",
            kind="interval",
            how="Wilson",
            over="examples",
        ),
        "rows": Quantity(7, unit="count"),
    }
    return Measurement.of(
        quantities, {"split": ["train", "test"]}, ["guo2017"], ["A note."]
    ).dataset


def without(name: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda dataset: dataset.drop_vars(name)


def attribute(name: str, value: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(dataset: xr.Dataset) -> xr.Dataset:
        if value is None:
            del dataset["accuracy"].attrs[name]
        else:
            dataset["accuracy"].attrs[name] = value
        return dataset

    return change


def values(name: str, *entries: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(dataset: xr.Dataset) -> xr.Dataset:
        attrs = dataset[name].attrs
        dataset[name] = ("split", np.asarray(entries), attrs)
        return dataset

    return change


def other_axes(dataset: xr.Dataset) -> xr.Dataset:
    dataset["accuracy_low"] = dataset["accuracy_low"].isel(split=0, drop=True)
    return dataset


VIOLATIONS: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "no quantity": (lambda _: xr.Dataset(), "holds at least one quantity"),
    "no lower bound": (without("accuracy_low"), "'accuracy' lacks 'accuracy_low'"),
    "no upper bound": (without("accuracy_high"), "'accuracy' lacks 'accuracy_high'"),
    "bounds without a value": (without("accuracy"), "lacks the attribute 'kind'"),
    "no kind": (attribute("kind", None), "lacks the attribute 'kind'"),
    "no level": (attribute("level", None), "lacks the attribute 'level'"),
    "no unit": (attribute("unit", None), "lacks the attribute 'unit'"),
    "no how": (attribute("how", None), "lacks the attribute 'how'"),
    "no over": (attribute("over", None), "lacks the attribute 'over'"),
    "an unknown kind": (attribute("kind", "sure"), "has kind 'sure', not of"),
    "exact with width": (attribute("kind", "exact"), "called exact, but its bounds have width"),
    "other axes": (other_axes, "'accuracy_low' has other axes than 'accuracy'"),
    "empty": (lambda d: d.isel(split=slice(0, 0)), "'accuracy' is empty"),
    "words": (values("accuracy", "a", "b"), "not a real number"),
    "complex": (values("accuracy", 1j, 0j), "not a real number"),
    "a NaN": (values("accuracy", 0.5, np.nan), "is not finite, and says not why"),
    "an infinity": (values("accuracy", 0.5, np.inf), "is not finite, and says not why"),
    "a NaN bound": (values("accuracy_low", 0.4, np.nan), "bounds that are not numbers"),
    "below its bounds": (values("accuracy", 0.3, 0.75), "lies outside its bounds"),
    "above its bounds": (values("accuracy", 0.5, 0.9), "lies outside its bounds"),
}


def test_a_sound_dataset_is_accepted() -> None:
    measurement = Measurement(sound())
    assert measurement.names == ("accuracy", "rows")
    assert quantity_names(measurement.dataset) == ["accuracy", "rows"]
    assert measurement.cites == ("guo2017",)
    assert measurement.notes == ("A note.",)
    assert repr(measurement) == "Measurement(accuracy, rows)"
    assert "accuracy" in measurement._repr_html_()


@pytest.mark.parametrize("name", VIOLATIONS)
@pytest.mark.parametrize("kind", [Measurement, Prediction])
def test_every_violation_of_the_schema_is_caught(name: str, kind: type[Measurement]) -> None:
    broken, sentence = VIOLATIONS[name]
    with pytest.raises(ValueError, match=sentence):
        kind(broken(sound()))


def test_a_missing_entry_needs_a_reason() -> None:
    entries = {"value": [0.5, np.nan], "low": [0.4, np.nan], "high": [0.6, np.nan]}
    with pytest.raises(ValueError, match="says not why"):
        Measurement.of({"x": Quantity(**entries, dims=("split",), kind="interval")})
    told = Quantity(**entries, dims=("split",), kind="interval", missing="too few rows")
    measurement = Measurement.of({"x": told})
    assert np.isnan(measurement.values("x")[1])
    assert measurement.dataset["x"].attrs["missing"] == "too few rows"


def test_an_entry_is_viewed_as_an_estimate() -> None:
    measurement = Measurement(sound())
    assert measurement.estimate("accuracy", split="test") == Estimate(
        0.75, 0.7, 0.8, "interval", unit="fraction", how="Wilson", over="examples"
    )
    assert measurement.estimate("rows") == Estimate(7.0, 7.0, 7.0, "exact", unit="count")
    np.testing.assert_array_equal(measurement.values("accuracy"), [0.5, 0.75])
    low, high = measurement.bounds("accuracy", split="train")
    assert (float(low), float(high)) == (0.4, 0.6)
    with pytest.raises(KeyError):
        measurement.estimate("loss")
    with pytest.raises(KeyError):
        measurement.estimate("accuracy", split="validation")


def test_an_estimate_goes_in_and_comes_out_unchanged() -> None:
    estimate = Estimate(1.0, 0.5, 2.0, "certified", 0.99, "nats", "bound", "examples")
    measurement = Measurement.of({"x": Quantity.from_estimate(estimate)})
    assert measurement.estimate("x") == estimate


def test_stacked_estimates_carry_the_weakest_kind() -> None:
    sure, unsure = Estimate(1.0, 1.0, 1.0, "exact"), Estimate(2.0, 1.0, 3.0, "indicative")
    for order in ([sure, unsure], [unsure, sure]):
        quantity = Quantity.stacked(order, "split")
        assert quantity.kind == "indicative"
        measurement = Measurement.of({"x": quantity}, {"split": ["a", "b"]})
        assert measurement.estimate("x", split="b").value == order[1].value
    assert KINDS == ("exact", "certified", "interval", "indicative")


def test_a_prediction_has_its_own_name() -> None:
    assert repr(Prediction(sound())) == "Prediction(accuracy, rows)"


def test_dataset_and_arguments_are_told_apart_by_name() -> None:
    quantities = {"x": Quantity(1.0), "x_low_noise": Quantity(2.0)}
    assert Measurement.of(quantities).names == ("x", "x_low_noise")
