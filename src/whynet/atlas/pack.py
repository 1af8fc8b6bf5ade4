"""The packed view of a store: Zarr, for everyone who has no whynet; made again at will.

The journal is the truth. The view is built beside its place and swapped in one step, each chunk
carries a CRC-32C, and the description of the whole a SHA-256 over all of its files: what is not
as it was written is refused, a chunk that is gone included, which Zarr itself would read as NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

from whynet.atlas.journal import Journal
from whynet.atlas.rows import Identity, identity_content, to_json
from whynet.atlas.schema import OURS, VIEW
from whynet.core.errors import InputError, StoreError
from whynet.core.fresh_folder import clear_stale, fresh_folder, swap
from whynet.core.store_check import check_store

Tables = Mapping[str, tuple[xr.Dataset, xr.Dataset]]
"""Variant (the claim or one of its controls) to what was measured and predicted."""

SCHEMA_VERSION: Final = "1.0"
PARTS: Final = ("measured", "predicted")
_ROOT: Final = "zarr.json"
_CHUNK: Final = 2**17
"""Numbers of a chunk: 1 MiB of float64."""


def pack(journal: Journal, folder: str | Path, tables: Tables) -> Path:
    """Write the view `results.zarr` into a folder, whole or not at all.

    Args:
        journal: the store, whose driver this is: two at once would undo each other.
        folder: where the view goes; that of the store, as a rule.
        tables: variant to its tables over the grid.

    Returns:
        Path of the view.

    Raises:
        OSError: the disk is full or gone; the old view is still there.

    """
    if not journal.driver:
        raise TypeError("the store was opened to read")
    place = Path(folder) / VIEW
    if place.is_symlink() or (place.exists() and not (place / _ROOT).is_file()):
        found = f"{str(place)!r}, which whynet did not write"
        raise InputError("folder", found, "the folder of a store")
    clear_stale(place.parent, OURS)
    with fresh_folder(place.parent) as fresh:
        _write(fresh / VIEW, journal.identity, tables)
        swap(fresh / VIEW, place)
    return place


def _write(place: Path, identity: Identity, tables: Tables) -> None:
    with zarr.config.set({"array.write_empty_chunks": True}):
        root = zarr.create_group(place, zarr_format=3)
        for variant, pair in tables.items():
            _check_name(variant)
            for part, table in zip(PARTS, pair, strict=True):
                node = root.create_group(f"{variant}/{part}")
                for name, variable in table.variables.items():
                    _write_array(node, str(name), variable)
    about = {**identity_content(identity), "schema_version": SCHEMA_VERSION}
    root.update_attributes({"whynet": about, "sha256": _sha256(place, about)})


def _write_array(node: zarr.Group, name: str, variable: Any) -> None:
    values = np.asarray(variable.values)
    text = values.dtype.kind in "UTO"
    fill: Any = "" if text else np.nan if values.dtype.kind == "f" else values.dtype.type(0)
    array = node.create_array(
        name,
        shape=values.shape,
        dtype=str if text else values.dtype,
        chunks=_chunks(values.shape),
        compressors=[Crc32cCodec()],
        filters=None,
        fill_value=fill,
        dimension_names=[str(dim) for dim in variable.dims],
        attributes={str(key): value for key, value in variable.attrs.items()},
    )
    array[...] = values.astype(object) if text else values


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Cut leading axes until a chunk is small; the last ones stay whole as long as they can."""
    chunks = [max(1, size) for size in shape]
    for axis in range(len(chunks)):
        rest = math.prod(chunks[axis + 1 :])
        chunks[axis] = max(1, min(chunks[axis], _CHUNK // rest))
    return tuple(chunks)


def _check_name(variant: str) -> None:
    words = variant.split("-")
    if not all(word.isascii() and word.isalnum() for word in words) or len(variant) > 100:
        raise InputError("variant", repr(variant), "a name in kebab-case")


def _sha256(place: Path, about: Mapping[str, Any]) -> str:
    """Return the hash over the description and all files but the root's, which holds it."""
    digest = hashlib.sha256(to_json(about))
    for file in sorted(place.rglob("*"), key=lambda path: path.relative_to(place).as_posix()):
        if file.is_file() and file != place / _ROOT:
            name = file.relative_to(place).as_posix().encode()
            with file.open("rb") as stream:
                held = hashlib.file_digest(stream, "sha256").digest()
            digest.update(len(name).to_bytes(8, "little") + name + held)
    return digest.hexdigest()


def read_view(
    place: str | Path, argument: str = "PATH"
) -> tuple[Identity, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    """Read a packed view, which may come from anyone.

    Args:
        place: the folder `results.zarr`.
        argument: how the caller calls it.

    Returns:
        Whose results it holds, and the tables by variant.

    Raises:
        StoreError: it is damaged, no view, or of a newer major version.

    """
    place = Path(place)
    try:
        check_store(place)
        attributes = json.loads((place / _ROOT).read_bytes())["attributes"]
        about = attributes["whynet"]
        version = about["schema_version"]
        if int(version.split(".")[0]) > int(SCHEMA_VERSION.split(".")[0]):
            wanted = f"at most {SCHEMA_VERSION.split('.')[0]}.x: update whynet"
            raise StoreError(argument, f"schema_version {version} in {str(place)!r}", wanted)
        if _sha256(place, about) != attributes["sha256"]:
            raise ValueError("its SHA-256 is another")
        with xr.open_datatree(place, engine="zarr", consolidated=False, zarr_format=3) as tree:
            tables = {
                variant: (_plain(node["measured"]), _plain(node["predicted"]))
                for variant, node in tree.children.items()
            }
        return Identity(about["claim"], about["version"], about["source"]), tables
    except StoreError:
        raise
    except Exception as error:
        found = f"{str(place)!r}, which cannot be read ({type(error).__name__}: {error})"
        raise StoreError(argument, found, "the view as whynet packed it") from error


def _plain(node: Any) -> xr.Dataset:
    """Return a table as it was, with texts of one length."""
    table: xr.Dataset = node.to_dataset(inherit=False).load()
    texts = {
        name: (variable.dims, np.asarray(variable.values.astype(object), dtype=str))
        for name, variable in table.variables.items()
        if variable.dtype.kind in "OT"
    }
    coords = {name: text for name, text in texts.items() if name in table.coords}
    variables = {name: text for name, text in texts.items() if name not in table.coords}
    return table.assign_coords(coords).assign(variables)
