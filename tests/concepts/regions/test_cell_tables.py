"""Tables of cells that are written while a plane is cut: the same as those held in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from torch import nn

import whynet
from whynet.concepts.regions import cell_tables
from whynet.core.errors import InputError, StoreError
from whynet.core.outcome import NotApplicable
from whynet.models import piecewise_linear_plane_search
from whynet.numerics import plane_joining
from whynet.numerics.plane_cells import PlaneCells

ARRAYS = ("vertices", "offsets", "corners", "neighbors", "origins", "maps")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise_linear_plane_search, "_LEAST", 60)
    monkeypatch.setattr(cell_tables, "ROWS", 500)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(3)
    layers = (nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    return nn.Sequential(*layers).double()


@pytest.fixture(scope="module")
def square() -> whynet.regions.Plane:
    return whynet.regions.Plane.box(-2, 2)


def whole(net: nn.Module, plane: whynet.regions.Plane) -> PlaneCells:
    found = whynet.regions.subdivide(net, plane)
    assert isinstance(found, whynet.regions.PlaneRegions)
    return found.cells


def test_what_is_written_in_pieces_is_what_one_piece_gives(
    net: nn.Module, square: whynet.regions.Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = whynet.regions.subdivide(net, square)
    assert isinstance(one, whynet.regions.PlaneRegions)
    parts: list[int] = []
    true = plane_joining.Joining.joined

    def joined(self: plane_joining.Joining, part: plane_joining.Part) -> plane_joining.Joined:
        parts.append(len(part.vertices))
        return true(self, part)

    monkeypatch.setattr(plane_joining.Joining, "joined", joined)
    table = whynet.regions.write_cells(net, square, tmp_path / "cells.zarr", memory=1)
    assert isinstance(table, whynet.regions.CellTable)
    assert len(parts) > 10
    assert max(parts) < 250
    assert (table.complete, table.count) == (True, one.count)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.zarr"]
    found = whynet.regions.read_cells(table.path)
    # The same cells in another order: parts lie as the polygon was cut.
    pieces = whynet.regions.PlaneRegions(square, found, table.steps, one.output_shape)
    np.testing.assert_allclose(np.sort(pieces.areas), np.sort(one.areas), rtol=1e-9)
    assert len(found.vertices) == len(one.cells.vertices)
    assert (found.neighbors < 0).sum() == (one.cells.neighbors < 0).sum()
    assert pieces.linear_regions == one.linear_regions
    assert pieces.decision_boundary.length == pytest.approx(one.decision_boundary.length)
    points = np.random.default_rng(0).uniform(-2, 2, (200, 2))
    with torch.no_grad():
        exact = net(torch.as_tensor(points))
    torch.testing.assert_close(pieces.evaluate(points), exact, rtol=0, atol=1e-12)
    # What was summed up on the way.
    numbers = table.numbers
    assert numbers["lipschitz_constant"] == pytest.approx(one.lipschitz_constant, rel=1e-12)
    assert numbers["area"] == pytest.approx(16, rel=1e-12)
    assert numbers["walls"] == len(one.neighbors)
    assert numbers["wall_length"] == pytest.approx(one.wall_length, rel=1e-10)
    assert sum(numbers["wall_length_by_operation"].values()) == pytest.approx(one.wall_length)
    np.testing.assert_allclose(numbers["integrals"], one.integrals, rtol=1e-9)
    variations = one.gradient_norm_integrals
    np.testing.assert_allclose(numbers["gradient_norm_integrals"], variations, rtol=1e-9)
    np.testing.assert_allclose(numbers["smallest"], one.extrema.smallest, rtol=1e-12)
    np.testing.assert_allclose(numbers["largest"], one.extrema.largest, rtol=1e-12)
    assert table.density.sum() == table.count


def test_the_arrays_are_those_in_memory_to_the_bit(
    net: nn.Module, square: whynet.regions.Plane, tmp_path: Path
) -> None:
    # Enough for the table in memory, and once so little that there are several parts.
    for memory in (2**20, 2**30):
        held = whynet.regions.subdivide(net, square, memory=memory)
        assert isinstance(held, whynet.regions.PlaneRegions)
        assert held.complete
        place = tmp_path / f"{memory}.zarr"
        table = whynet.regions.write_cells(net, square, place, memory=memory)
        assert isinstance(table, whynet.regions.CellTable)
        found = whynet.regions.read_cells(place)
        for name in ARRAYS:
            assert np.array_equal(getattr(found, name), getattr(held.cells, name)), name


@pytest.mark.parametrize("when", ["while it is cut", "while it is written"])
def test_an_interruption_keeps_what_was_finished_as_a_lower_bound(
    net: nn.Module, square: whynet.regions.Plane, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, when: str,
) -> None:  # fmt: skip
    count = len(whole(net, square).offsets) - 1
    calls = []
    cutting = when == "while it is cut"
    home = piecewise_linear_plane_search if cutting else plane_joining.Joining
    name = "applied" if cutting else "joined"
    true = getattr(home, name)

    def stopped(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == (40 if cutting else 8):
            raise KeyboardInterrupt
        return true(*arguments)

    monkeypatch.setattr(home, name, stopped)
    table = whynet.regions.write_cells(net, square, tmp_path / "cells.zarr", memory=1)
    assert isinstance(table, whynet.regions.CellTable)
    assert (table.complete, table.interrupted) == (False, True)
    assert 10 < table.count < count
    assert "lipschitz_constant" not in table.numbers
    found = whynet.regions.read_cells(table.path)
    assert not found.complete
    assert len(found.offsets) - 1 == table.count
    assert zarr.open_group(table.path, mode="r").attrs["complete"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["cells.zarr"]
    # Every cell that stands is one of the network's, or holds one.
    if not cutting:
        middles = np.add.reduceat(found.vertices[found.corners], found.offsets[:-1])
        middles /= np.diff(found.offsets)[:, None]
        rows = np.column_stack([middles, np.ones(len(middles))])
        with torch.no_grad():
            exact = net(torch.as_tensor(middles)).numpy()
        np.testing.assert_allclose(np.einsum("ni,nio->no", rows, found.maps), exact, atol=1e-12)


def test_bounds_stop_it(net: nn.Module, square: whynet.regions.Plane, tmp_path: Path) -> None:
    table = whynet.regions.write_cells(net, square, tmp_path / "a.zarr", max_cells=50, memory=1)
    assert isinstance(table, whynet.regions.CellTable)
    assert (table.complete, table.interrupted) == (False, False)
    assert 50 < table.count <= 100
    late = whynet.regions.write_cells(net, square, tmp_path / "b.zarr", seconds=1e-9)
    assert isinstance(late, whynet.regions.CellTable)
    assert (late.complete, late.count) == (False, 1)


def test_what_cannot_be_written_or_read_is_said(
    net: nn.Module, square: whynet.regions.Plane, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("taken", encoding="utf-8")
    with pytest.raises(InputError, match="where something is"):
        whynet.regions.write_cells(net, square, tmp_path / "file")
    with pytest.raises(InputError, match="no group of cells"):
        whynet.regions.read_cells(tmp_path / "nothing")
    smooth = nn.Sequential(nn.Linear(2, 3), nn.Tanh()).double()
    refused = whynet.regions.write_cells(smooth, square, tmp_path / "smooth.zarr")
    assert isinstance(refused, NotApplicable)
    assert "Tanh, which is curved" in refused.reason
    assert not (tmp_path / "smooth.zarr").exists()
    table = whynet.regions.write_cells(net, square, tmp_path / "cells.zarr", max_cells=9)
    assert isinstance(table, whynet.regions.CellTable)
    root = zarr.open_group(table.path, mode="a")
    root["corners"].resize((3,))
    with pytest.raises(StoreError, match="do not fit together"):
        whynet.regions.read_cells(table.path)
