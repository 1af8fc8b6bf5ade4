"""Pictures in a record of training: kept, thinned out, and read from files of anyone's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.test_recorder import data
from torch import nn

from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement
from whynet.models.trajectory import Trajectory, _digest
from whynet.models.trajectory_pictures import MOST, chosen, pictures_in, quantities, thinned
from whynet.numerics.plane_pictures import PlanePicture
from whynet.training.recorder import Recorder


@pytest.fixture(scope="module")
def record() -> Trajectory:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    recorder = Recorder(model, train=data(), steps=range(40), quantities=["pieces"])
    for step in range(1, 40):
        with torch.no_grad():
            model[0].weight.mul_(1.02)
        recorder(step)
    return recorder.trajectory()


def same(one: PlanePicture, two: PlanePicture) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in one.__dataclass_fields__
    )


def test_a_record_holds_eight_pictures_from_the_first_to_the_last_step(record: Trajectory) -> None:
    steps = [step for step, _ in record.pictures]
    assert (len(steps), steps[0], steps[-1]) == (MOST, 0, 39)
    ratios = np.diff(np.log1p(steps))
    assert ratios.max() < 2.5 * ratios.min()
    for step, picture in record.pictures:
        assert picture.cells == record.estimate("cells_of_triangle", step).value


def test_pictures_come_back_from_a_file_and_from_a_measurement(
    record: Trajectory, tmp_path: Path
) -> None:
    record.save(tmp_path / "run.json")
    read = Trajectory.load(tmp_path / "run.json").pictures
    held = pictures_in(Measurement.of(quantities(record.pictures)))
    for found in (read, held):
        assert [step for step, _ in found] == [step for step, _ in record.pictures]
        assert all(same(a[1], b[1]) for a, b in zip(found, record.pictures, strict=True))
    assert quantities(()) == {}
    assert pictures_in(record.measurement) == ()


def test_thinning_keeps_the_first_and_the_last(record: Trajectory) -> None:
    picture = record.pictures[0][1]
    held: dict[int, PlanePicture] = {}
    for step in range(300):
        held = thinned({**held, step: picture})
        assert min(held) == 0
        assert max(held) == step
        assert len(held) <= 2 * MOST
    assert chosen({}) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": [3, 2]}, {"corners": [0.0]}, {"corners": "none"}, {"classes": [0.5]},
        {"cells": 0}, {"complete": 1}, {"step": 7000}, {"polygon": []}, {"values": [True]},
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(
    record: Trajectory, tmp_path: Path, change: dict[str, object]
) -> None:
    file = tmp_path / "run.json"
    record.save(file)
    whole = json.loads(file.read_text(encoding="utf-8"))
    whole["content"]["pictures"][1].update(change)
    whole["sha256"] = _digest(whole["content"])
    file.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(StoreError, match="damaged"):
        Trajectory.load(file)


def test_a_picture_of_no_recorded_step_is_refused(record: Trajectory) -> None:
    with pytest.raises(InputError, match="one of a step that is not recorded"):
        Trajectory(record.dataset, ((99, record.pictures[0][1]),))
