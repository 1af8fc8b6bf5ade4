"""Measured beside predicted: an exact join, or an error."""

from __future__ import annotations

import numpy as np
import xarray as xr

from whynet.core.measurement import Measurement


def compare(measured: Measurement, predicted: Measurement) -> dict[str, xr.Dataset]:
    """Join two measurements on their labels and say where they agree.

    Args:
        measured: what an instrument said.
        predicted: what a theory said, or what was recorded earlier.

    Returns:
        For each quantity of `predicted` a dataset of `measured`, `predicted`, `gap` (measured
        minus predicted) and `overlap` (whether the two intervals meet).

    Raises:
        ValueError: a quantity is missing, units differ, labels differ, or nothing is compared.

    """
    joined: dict[str, xr.Dataset] = {}
    for name in predicted.names:
        if name not in measured.names:
            raise ValueError(f"quantity {name!r} is predicted but was not measured")
        ours, theirs = measured.dataset[name], predicted.dataset[name]
        if ours.attrs["unit"] != theirs.attrs["unit"]:
            raise ValueError(
                f"quantity {name!r} is measured in {ours.attrs['unit']!r} "
                f"and predicted in {theirs.attrs['unit']!r}"
            )
        pieces = [
            source.dataset[name + suffix]
            for source in (measured, predicted)
            for suffix in ("", "_low", "_high")
        ]
        try:
            value, low, high, other, other_low, other_high = xr.align(*pieces, join="exact")
        except ValueError as error:
            raise ValueError(f"quantity {name!r} has other labels on the two sides") from error
        if value.shape != other.shape:
            raise ValueError(f"quantity {name!r} has shapes {value.shape} and {other.shape}")
        absent = np.isnan(value) & np.isnan(other)
        joined[name] = xr.Dataset(
            {
                "measured": value,
                "predicted": other,
                "gap": value - other,
                "overlap": ((low <= other_high) & (other_low <= high)) | absent,
            }
        )
    return joined
