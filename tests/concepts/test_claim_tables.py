"""Parts of a claim's tables are those that their labels name."""

import numpy as np
import xarray as xr

from whynet.concepts.claim_tables import along, families, named_along


def table() -> xr.DataArray:
    """Return `100 depth + 10 width + seed`, with axes in an order of no use and one of length 1."""
    axes = {"seed": [0, 1, 2], "depth": [1, 2], "width": [4, 8], "kind": ["plain"]}
    seed, depth, width = (np.array(axes[name]) for name in ("seed", "depth", "width"))
    values = 100 * depth[:, None, None] + 10 * width[:, None] + seed
    return xr.DataArray(
        values.transpose(2, 0, 1)[..., None], dims=tuple(axes), coords=axes, name="sum"
    )


def test_along_takes_the_first_entry_of_what_is_not_named() -> None:
    """Rows are the parameter, columns the seeds."""
    assert along(table(), "width").tolist() == [[140, 141, 142], [180, 181, 182]]
    assert along(table().sel(width=8), "depth").tolist() == [[180, 181, 182], [280, 281, 282]]


def test_families_are_all_combinations() -> None:
    """The last parameter varies fastest."""
    found = families(table(), ("depth", "width"))
    assert [tuple(one.values()) for one in found] == [(1, 4), (1, 8), (2, 4), (2, 8)]


def test_named_parts_have_what_varies_in_their_names() -> None:
    """A parameter of one value is named only where it is asked for."""
    found = named_along(table(), "width", named="kind")
    assert {name: values[1].tolist() for name, values in found.items()} == {
        "1, plain": [180, 181, 182],
        "2, plain": [280, 281, 282],
    }
    assert list(named_along(table(), "width", named="depth")) == ["1", "2"]
