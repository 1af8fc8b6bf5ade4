"""The files a student reads run as they stand, and leave the record they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from whynet.models.trajectory import Trajectory

FOLDER = Path(__file__).resolve().parents[2] / "examples"
LAST = {"record_a_loop": 400, "record_lightning": 116, "record_transformers": 32}
"""Example to the number of steps it takes."""


def test_every_example_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(LAST)


@pytest.mark.parametrize("name", LAST)
def test_example(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "run.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Trajectory(" in done.stdout
    record = Trajectory.load(tmp_path / "run.json")
    assert record.steps[-1] == LAST[name]
    assert len(record.steps) > 8
    loss = record.values("loss")
    assert np.isfinite(loss).all()
    assert loss[-1] < loss[0]
    assert (record.values("kernel_shape_drift")[1:] > 0).all()
    assert (record.values("sharpness_over_limit")[3:-1] > 0).all()
    assert set(record.values("batch_size")) <= {32, 64}
