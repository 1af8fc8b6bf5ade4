"""Records of training: their schema, their file, and files that are none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement, Quantity
from whynet.models.trajectory import Trajectory


def record() -> Trajectory:
    values = np.array([0.1 + 0.2, 1 / 3, math.nan])
    loss = Quantity(
        values,
        values - 1,
        np.array([1.0, math.inf, math.nan]),
        dims=("step",),
        unit="nats",
        kind="interval",
        how="a <b>mean</b>",
        over="rows",
        missing="It went away.",
    )
    norm = Quantity(np.array([1.0, 2.0, 1e-300]), dims=("step",), how="norm")
    coords = {"step": np.array([0, 3, 10])}
    notes = ("First note.", "Zweite – ü.")
    return Trajectory(
        Measurement.of({"loss": loss, "norm": norm}, coords, ("cohen2021",), notes, "fine").dataset
    )


def test_round_trip_to_the_bit(tmp_path: Path) -> None:
    first = record()
    first.save(tmp_path / "run.json")
    second = Trajectory.load(tmp_path / "run.json")
    assert second.dataset.identical(first.dataset)
    assert second.steps == (0, 3, 10)
    assert second.names == ("loss", "norm")
    assert second.estimate("norm").value == 1e-300
    assert second.estimate("loss", 3).high == math.inf
    assert "3 steps to 10" in repr(second)
    assert math.isnan(second.values("loss")[2])


@pytest.mark.parametrize("steps", [[3, 3], [4, 2], [-1, 2], [0.5, 1.0]])
def test_steps_rise(steps: list[float]) -> None:
    quantity = Quantity(np.ones(2), dims=("step",))
    with pytest.raises(InputError, match="whole numbers that rise"):
        Trajectory(Measurement.of({"x": quantity}, {"step": np.array(steps)}).dataset)


def test_other_axes_and_broken_schemas_are_refused() -> None:
    coords = {"step": np.array([0, 1])}
    mixed = Measurement.of({"x": Quantity(1.0), "y": Quantity(np.ones(2), dims=("step",))}, coords)
    with pytest.raises(InputError, match="quantities over step"):
        Trajectory(mixed.dataset)
    broken = record().dataset.drop_vars("norm_low")
    with pytest.raises(InputError, match="norm_low"):
        Trajectory(broken)


def edited(path: Path, edit: Any) -> Path:
    record().save(path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_a_changed_number_is_damage(tmp_path: Path) -> None:
    def edit(content: Any) -> None:
        content["content"]["quantities"]["norm"]["value"][0] = 5.0

    with pytest.raises(StoreError, match="SHA-256"):
        Trajectory.load(edited(tmp_path / "run.json", edit))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", [0, 3]), ("step", [0, "3", 10]), ("step", [0, 10**30, 11]), ("step", {"0": 1}),
        ("quantities", []), ("quantities", {}), ("quantities", {"x": {}}), ("notes", "text"),
        ("cites", [1]), ("check", None),
    ],
)  # fmt: skip
def test_well_hashed_nonsense_is_damage(tmp_path: Path, key: str, value: object) -> None:
    from whynet.models.trajectory import _digest

    def edit(content: Any) -> None:
        content["content"][key] = value
        content["sha256"] = _digest(content["content"])

    with pytest.raises(StoreError, match="damaged"):
        Trajectory.load(edited(tmp_path / "run.json", edit))


@pytest.mark.parametrize("version", ["2.0", "99.1", "x", None, 1])
def test_newer_versions_are_refused(tmp_path: Path, version: object) -> None:
    def edit(content: Any) -> None:
        content["schema_version"] = version

    with pytest.raises(StoreError, match="schema_version"):
        Trajectory.load(edited(tmp_path / "run.json", edit))


def test_every_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    record().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            Trajectory.load(path)
    path.write_bytes(whole[:-20])
    with pytest.raises(StoreError, match="cut off"):
        Trajectory.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b"{}", b'{"format": 1}', b"[" * 100_000, b"NaN"]
)
def test_other_files_are_no_record(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"--trajectory: found .*no record of training"):
        Trajectory.load(path, "--trajectory")


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unreadable"):
        Trajectory.load(tmp_path / "absent.json")
    with pytest.raises(InputError, match="not writable"):
        record().save(tmp_path / "no" / "run.json")
