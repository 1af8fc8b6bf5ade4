"""Parts of the tables that a claim is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray


def along(values: xr.DataArray, parameter: str) -> NDArray[Any]:
    """Return values over one parameter and the seed, `[parameter, seeds]`.

    Args:
        values: over the parameters of a claim and `seed`; of all other axes the first entry counts.
        parameter: the one that varies.

    """
    rest = [name for name in values.dims if name not in (parameter, "seed")]
    one = values.isel(dict.fromkeys(rest, 0)).transpose(parameter, "seed")
    return np.asarray(one.values)


def families(
    measured: xr.DataArray | xr.Dataset, parameters: Sequence[str]
) -> list[dict[str, object]]:
    """Return every combination of these parameters, the last one varying fastest."""
    values = [measured[name].values.tolist() for name in parameters]
    return [dict(zip(parameters, one, strict=True)) for one in product(*values)]


def named_along(values: xr.DataArray, parameter: str, *, named: str) -> dict[str, NDArray[Any]]:
    """Return values over one parameter and the seed for each combination of what else varies.

    Args:
        values: over the parameters of a claim and `seed`.
        parameter: the one that varies within each, as in `along`.
        named: parameter that takes part in names even where it has one value.

    Returns:
        A name, the values of `named` and of what varies, to `[parameter, seeds]`.

    """
    rest = [str(name) for name in values.dims if name not in (parameter, "seed")]
    varying = [name for name in rest if values.sizes[name] > 1 or name == named]
    return {
        ", ".join(str(value) for value in one.values()): along(values.sel(one), parameter)
        for one in families(values, varying)
    }
