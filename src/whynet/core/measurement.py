"""Measurements and predictions: labelled arrays that say how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from whynet.core.estimate import KINDS, Estimate, Kind

_BOUNDS = ("_low", "_high")


@dataclass(frozen=True)
class Quantity:
    """One named array on its way into a measurement.

    Attributes:
        value: scalar or array of shape given by `dims`.
        low: lower ends of the intervals; None where `kind` is `exact`.
        high: upper ends.
        dims: names of the axes of `value`.
        unit: unit of value and bounds; `fraction` for shares of one, `""` for pure numbers.
        kind: how the uncertainty is known, see `whynet.core.estimate.Kind`.
        level: nominal coverage of the intervals.
        how: how it was computed, one phrase.
        over: what the interval is over (`probes`, `examples`, `segments`…).
        missing: why entries may be NaN; where empty, a NaN is refused.

    """

    value: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    dims: tuple[str, ...] = ()
    unit: str = ""
    kind: Kind = "exact"
    level: float = 0.95
    how: str = ""
    over: str = ""
    missing: str = ""

    @classmethod
    def from_estimate(cls, estimate: Estimate) -> Quantity:
        """Lift one estimate to a scalar quantity."""
        return cls(
            estimate.value,
            estimate.low,
            estimate.high,
            unit=estimate.unit,
            kind=estimate.kind,
            level=estimate.level,
            how=estimate.how,
            over=estimate.over,
        )

    @classmethod
    def stacked(cls, estimates: Sequence[Estimate], *dims: str) -> Quantity:
        """Stack estimates along one axis; the weakest kind speaks for all of them."""
        first = estimates[0]
        weakest = max((estimate.kind for estimate in estimates), key=KINDS.index)
        return cls(
            [estimate.value for estimate in estimates],
            [estimate.low for estimate in estimates],
            [estimate.high for estimate in estimates],
            dims=dims,
            unit=first.unit,
            kind=weakest,
            level=first.level,
            how=first.how,
            over=first.over,
        )


class Measurement:
    """What an instrument says: an xarray Dataset of a declared schema, checked when made.

    Every variable `x` stands beside `x_low` and `x_high` of the same shape and carries the
    attributes `kind`, `level`, `unit`, `how` and `over`; the dataset carries `cites` and `notes`.
    Values are finite and lie inside their bounds; `exact` ones have bounds without width.

    Args:
        dataset: the labelled arrays.

    Raises:
        ValueError: the dataset breaks the schema; the message names the variable and the rule.

    """

    def __init__(self, dataset: xr.Dataset) -> None:
        _check(dataset)
        self.dataset = dataset

    @classmethod
    def of(
        cls,
        quantities: Mapping[str, Quantity],
        coords: Mapping[str, Any] | None = None,
        cites: Sequence[str] = (),
        notes: Sequence[str] = (),
        check: str = "",
    ) -> Self:
        """Assemble a measurement from named quantities.

        Args:
            quantities: name to quantity.
            coords: labels of the axes.
            cites: keys of `references.bib`.
            notes: sentences the reader of these numbers must know.
            check: what an independent check of the derivatives behind them said, a phrase.

        """
        variables: dict[str, Any] = {}
        for name, quantity in quantities.items():
            value = np.asarray(quantity.value)
            low = value if quantity.low is None else np.asarray(quantity.low)
            high = value if quantity.high is None else np.asarray(quantity.high)
            attrs = {
                "kind": quantity.kind,
                "level": float(quantity.level),
                "unit": quantity.unit,
                "how": quantity.how,
                "over": quantity.over,
            }
            if quantity.missing:
                attrs["missing"] = quantity.missing
            variables[name] = (quantity.dims, value, attrs)
            variables[f"{name}_low"] = (quantity.dims, low, {"unit": quantity.unit})
            variables[f"{name}_high"] = (quantity.dims, high, {"unit": quantity.unit})
        dataset = xr.Dataset(
            variables,
            coords=dict(coords or {}),
            attrs={"cites": list(cites), "notes": list(notes), "check": check},
        )
        return cls(dataset)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the quantities, without their bounds."""
        return tuple(quantity_names(self.dataset))

    def estimate(self, name: str, **labels: Any) -> Estimate:
        """Return one entry as an `Estimate`.

        Args:
            name: the quantity.
            **labels: one label for each of its axes.

        Raises:
            KeyError: there is no such quantity or label.

        """
        value, low, high = (
            self.dataset[name + suffix].sel(labels) if labels else self.dataset[name + suffix]
            for suffix in ("", *_BOUNDS)
        )
        attrs = self.dataset[name].attrs
        return Estimate(
            float(value),
            float(low),
            float(high),
            kind=attrs["kind"],
            level=attrs["level"],
            unit=attrs["unit"],
            how=attrs["how"],
            over=attrs["over"],
        )

    def values(self, name: str, **labels: Any) -> np.ndarray[Any, Any]:
        """Return the values of a quantity as an array, at the given labels."""
        return np.asarray(self.dataset[name].sel(labels).values)

    def bounds(self, name: str, **labels: Any) -> tuple[Any, Any]:
        """Return lower and upper bounds of a quantity as arrays, at the given labels."""
        low, high = (np.asarray(self.dataset[name + s].sel(labels).values) for s in _BOUNDS)
        return low, high

    @property
    def cites(self) -> tuple[str, ...]:
        """Keys of the references this measurement rests on."""
        return tuple(self.dataset.attrs.get("cites", ()))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences the reader of these numbers must know."""
        return tuple(self.dataset.attrs.get("notes", ()))

    @property
    def check(self) -> str:
        """What an independent check of the derivatives behind these numbers said."""
        return str(self.dataset.attrs.get("check", ""))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.names)})"

    def _repr_html_(self) -> str:
        return str(self.dataset._repr_html_())


class Prediction(Measurement):
    """What a theory says: the same schema, computed without looking at any instrument."""


def quantity_names(dataset: xr.Dataset) -> list[str]:
    """Return the names of the quantities of a dataset, without their bounds."""
    names = [str(name) for name in dataset.data_vars]
    bounds = {name + suffix for name in names for suffix in _BOUNDS}
    return [name for name in names if name not in bounds]


def _check(dataset: xr.Dataset) -> None:
    names = quantity_names(dataset)
    if not names:
        raise ValueError("a measurement holds at least one quantity, this one none")
    for name in names:
        _check_quantity(dataset, name)


def _check_quantity(dataset: xr.Dataset, name: str) -> None:
    variable = dataset[name]
    for key in ("kind", "level", "unit", "how", "over"):
        if key not in variable.attrs:
            raise ValueError(f"quantity {name!r} lacks the attribute {key!r}")
    if variable.attrs["kind"] not in KINDS:
        raise ValueError(f"quantity {name!r} has kind {variable.attrs['kind']!r}, not of {KINDS}")
    for suffix in _BOUNDS:
        if name + suffix not in dataset:
            raise ValueError(f"quantity {name!r} lacks {name + suffix!r}")
        if dataset[name + suffix].dims != variable.dims:
            raise ValueError(f"{name + suffix!r} has other axes than {name!r}")
    if variable.size == 0:
        raise ValueError(f"quantity {name!r} is empty")
    value, low, high = (np.asarray(dataset[name + s].values) for s in ("", *_BOUNDS))
    if value.dtype.kind not in "fiub":
        raise ValueError(f"quantity {name!r} has dtype {value.dtype}, not a real number")
    absent = np.isnan(np.asarray(value, dtype=float))
    if not variable.attrs.get("missing") and (absent.any() or np.isinf(value).any()):
        raise ValueError(f"quantity {name!r} is not finite, and says not why")
    there = ~absent
    if np.isnan(low[there]).any() or np.isnan(high[there]).any():
        raise ValueError(f"quantity {name!r} has bounds that are not numbers")
    if (low[there] > value[there]).any() or (value[there] > high[there]).any():
        raise ValueError(f"quantity {name!r} lies outside its bounds")
    if variable.attrs["kind"] == "exact" and (low[there] != high[there]).any():
        raise ValueError(f"quantity {name!r} is called exact, but its bounds have width")
