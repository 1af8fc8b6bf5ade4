"""`whynet measure curvature` and `whynet measure loss-slice`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from tests.cli.own import OWN, Shell


def test_one_matrix_with_options_of_its_own(shell: Shell) -> None:
    asked = ("--top", "2", "--ridge", "0.01", "--saddle", "0.01", "--json")
    found = json.loads(shell.good("measure", "curvature", *OWN, *asked))
    assert {"largest.1", "largest.2", "trace", "adaptive_sharpness", "saddle_index"} <= {*found}
    assert "log_determinant.0.01" in found
    assert found["largest.1"]["kind"] == "certified"
    layers = [value["value"] for name, value in found.items() if name.startswith("trace.")]
    assert sum(layers) == pytest.approx(found["trace"]["value"], rel=1e-4)
    part = ("--matrix", "gauss-newton", "--parameters", "*.weight", "--top", "1")
    printed = shell.good("measure", "curvature", *OWN, *part)
    assert "trace.0.weight" in printed
    assert "negative_ratio" not in printed


def test_a_slice_is_written_as_a_picture(shell: Shell) -> None:
    asked = ("--dimensions", "2", "--points", "5", "--out", "slice", "--json")
    summary = json.loads(shell.good("measure", "loss-slice", *OWN, *asked))
    assert summary["kind"] == "a picture, not a measure"
    held = np.load("slice/slice.npz")
    assert held["loss"].shape == (5, 5)
    assert held["loss"][2, 2] == pytest.approx(summary["loss_here"])
    assert sorted(path.name for path in Path("slice").iterdir()) == [
        "figure.png", "figure.svg", "slice.npz", "summary.json",
    ]  # fmt: skip
    assert len(np.unique(imread("slice/figure.png")[::25, ::25].reshape(-1, 4), axis=0)) > 8


def test_the_picture_beside_the_drawing_has_its_colors(shell: Shell) -> None:
    shell.good("measure", "loss-slice", *OWN, "--points", "5", "--out", "line", "--json")
    pixels = np.round(255 * imread("line/figure.png")[..., :3]).astype(int).reshape(-1, 3)
    assert (pixels == (0x0B, 0x6E, 0x99)).all(1).any(), "the accent of whynet's figures"


def test_options_of_another_measurement_are_refused(shell: Shell) -> None:
    for asked, sentence in (
        (("loss-slice", "--top", "2"), "--top: found it beside loss-slice; wanted it beside"),
        (("curvature", "--out", "x"), "--out: found it beside curvature; wanted it beside"),
        (("curvature", "--ridge", "0"), "--ridge: found 0.0; wanted a number above 0"),
        (("hessian-spectrum", "--span", "2"), "--span: found it beside hessian-spectrum"),
        (("loss-slice", "--rounds", "2"), "--rounds: found it beside loss-slice"),
        (("loss-slice", "--points", "4"), "points: found 4; wanted an odd number"),
    ):
        assert shell("measure", asked[0], *OWN, *asked[1:]) == 2
        assert sentence in shell.err
