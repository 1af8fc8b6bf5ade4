"""The packed view: what the tables hold, in a form anyone can read, refused where it is damaged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from tests.atlas.storing import GRID, IDENTITY, KEYS, fill, measured, predicted

from whynet.atlas.journal import Journal
from whynet.atlas.pack import Tables, pack, read_view
from whynet.atlas.tables import STATE, table_of
from whynet.core.claim import Control
from whynet.core.errors import InputError, StoreError

CONTROL = Control("random-data", "data", "data", "b", "The data are random, and nothing holds.")


def tables(keys: list[str] = KEYS[:40]) -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    return {
        name: (
            table_of(grid, {key: measured(key).values for key in keys}, {KEYS[-1]: "no"}),
            table_of(grid, {key: predicted(key).values for key in keys}, {}),
        )
        for name, grid in (("claim", GRID), (CONTROL.name, GRID.under(CONTROL)))
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "s"
    fill(folder, KEYS[:40])
    with Journal.open(folder, IDENTITY) as journal:
        assert pack(journal, folder, tables()) == folder / "results.zarr"
    return folder / "results.zarr"


def same(one: Tables, other: Tables) -> None:
    assert set(one) == set(other)
    for name, pair in one.items():
        for table, wanted in zip(pair, other[name], strict=True):
            xr.testing.assert_identical(table, wanted)


def test_what_is_packed_comes_back(made: Path) -> None:
    identity, found = read_view(made)
    assert identity == IDENTITY
    same(found, tables())
    measured_table, _ = found["claim"]
    assert list(measured_table.loss.dims) == ["width", "rate", "data", "seed", "loss_0"]
    assert list(measured_table.width.values) == [10, 20, 40]
    absent = measured_table[STATE].values == "absent"
    assert absent.sum() == 7 and (measured_table[STATE].values == "failed").sum() == 1
    assert np.isnan(measured_table.loss.values[absent]).all()
    assert not np.isnan(measured_table.loss.values[measured_table[STATE].values == "done"]).any()


def test_it_is_read_without_whynet(made: Path) -> None:
    with xr.open_datatree(made, engine="zarr", consolidated=False) as tree:
        whole = tree["claim/measured"].to_dataset().load()
    one = whole.loss.sel(width=20, rate=0.5, data="a", seed=2).values
    key = next(c.key for c in GRID.cells() if (*c.parameters.values(), c.seed) == (20, 0.5, "a", 2))
    assert one.tobytes() == np.asarray(measured(key).values["loss"]).tobytes()


def test_each_array_has_checksums_and_nan_for_what_is_missing(made: Path) -> None:
    files = list(made.rglob("zarr.json"))
    arrays = [about for f in files if (about := json.loads(f.read_bytes()))["node_type"] == "array"]
    assert len(arrays) > 20
    for about in arrays:
        assert about["codecs"][-1]["name"] == "crc32c" and len(about["codecs"]) == 2
        if about["data_type"] == "float64" and len(about["shape"]) > 1:
            assert about["fill_value"] == "NaN"
    root = json.loads((made / "zarr.json").read_bytes())
    assert "consolidated_metadata" not in root and root["attributes"]["whynet"]["version"] == 1


def test_the_same_tables_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    with Journal.open(made.parent, IDENTITY) as journal:
        pack(journal, tmp_path, tables())
    assert {p.relative_to(made): p.read_bytes() for p in made.rglob("*") if p.is_file()} == {
        p.relative_to(tmp_path / "results.zarr"): p.read_bytes()
        for p in tmp_path.rglob("*")
        if p.is_file()
    }


def test_it_is_made_again_at_will_and_beside_its_place(tmp_path: Path) -> None:
    fill(tmp_path)
    with Journal.open(tmp_path, IDENTITY) as journal:
        for keys in (KEYS[:4], KEYS, KEYS[:30]):
            pack(journal, tmp_path, tables(keys))
            same(read_view(tmp_path / "results.zarr")[1], tables(keys))
        shutil.rmtree(tmp_path / "results.zarr")
        pack(journal, tmp_path, tables())
        same(read_view(tmp_path / "results.zarr")[1], tables())
    assert {p.name for p in tmp_path.iterdir()} == {
        "journal.lock",
        "journal.sqlite",
        "results.zarr",
    }


def test_a_failure_keeps_the_old_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    with Journal.open(tmp_path, IDENTITY) as journal:
        pack(journal, tmp_path, tables())
        for part in ("_sha256", "swap", "_write_array"):
            with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):

                def full(*arguments: object) -> None:
                    raise OSError(28, "full")

                patch.setattr(f"whynet.atlas.pack.{part}", full)
                pack(journal, tmp_path, tables(KEYS))
            same(read_view(tmp_path / "results.zarr")[1], tables())
    assert not list(tmp_path.glob(".whynet-*"))


def test_large_arrays_are_cut_into_chunks(tmp_path: Path) -> None:
    values = np.arange(40 * 30_000.0).reshape(40, 30_000)
    table = xr.Dataset({"a": (("width", "seed"), values)}, {"width": range(40)})
    with Journal.open(tmp_path, IDENTITY) as journal:
        pack(journal, tmp_path, {"claim": (table, xr.Dataset())})
    array = zarr.open_array(tmp_path / "results.zarr/claim/measured/a", mode="r")
    assert array.chunks == (4, 30_000)
    xr.testing.assert_identical(read_view(tmp_path / "results.zarr")[1]["claim"][0], table)


@pytest.fixture
def view(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results.zarr"))


def test_each_flipped_bit_is_refused_or_harmless(view: Path) -> None:
    draw, wanted = random.Random(0), tables()
    files = sorted(path for path in view.rglob("*") if path.is_file())
    refused = 0
    for _ in range(100):
        [file] = draw.choices(files, [path.stat().st_size for path in files])
        whole = file.read_bytes()
        content = bytearray(whole)
        bit = draw.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            identity, found = read_view(view)
            assert identity == IDENTITY and file == view / "zarr.json"
            same(found, wanted)
        except StoreError:
            refused += 1
        file.write_bytes(whole)
    assert refused >= 95


def test_each_missing_or_additional_file_is_refused(view: Path) -> None:
    for file in sorted(path for path in view.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        file.unlink()
        with pytest.raises(StoreError):
            read_view(view)
        file.write_bytes(whole)
    (view / "more").write_bytes(b"")
    with pytest.raises(StoreError, match="its SHA-256 is another"):
        read_view(view)


def test_hostile_views_are_refused(view: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="which cannot be read"):
        read_view(tmp_path / "none")
    root = json.loads((view / "zarr.json").read_bytes())
    root["attributes"]["whynet"]["schema_version"] = "2.0"
    (view / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreError, match=r"at most 1\.x: update whynet"):
        read_view(view)
    shutil.rmtree(view)
    zarr.create_array(view / "a", shape=(2**50,), chunks=(2**50,), dtype="f8")
    with pytest.raises(StoreError, match="numbers"):
        read_view(view)


def test_what_whynet_did_not_write_is_not_replaced(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s", IDENTITY) as journal:
        (tmp_path / "results.zarr").mkdir()
        (tmp_path / "results.zarr" / "mine").write_text("kept")
        with pytest.raises(InputError, match="which whynet did not write"):
            pack(journal, tmp_path, tables())
        for name in ("../a", "", "a b", "x" * 101):
            with pytest.raises(InputError, match="kebab-case"):
                pack(journal, tmp_path / "s", {name: tables()["claim"]})
    assert (tmp_path / "results.zarr" / "mine").read_text() == "kept"
    with Journal.open(tmp_path / "s", driver=False) as reader, pytest.raises(TypeError):
        pack(reader, tmp_path / "s", tables())
