"""`whynet measure linear-regions`: folder, numbers and pictures of exact geometry."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import zarr
from matplotlib.image import imread
from safetensors.torch import load_file
from tests.cli.own import OWN, Shell
from torch import nn

MEASURE = ("measure", "linear-regions", *OWN)


def network() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    net.load_state_dict(load_file("end.safetensors"))
    return net.double()


def test_a_plane_through_three_rows(shell: Shell) -> None:
    printed = shell.good(*MEASURE, "--through", "0,1,2", "--out", "geometry")
    assert sorted(path.name for path in Path("geometry").iterdir()) == [
        "cells.zarr", "figure.png", "figure.svg", "plane.npz", "report.html", "summary.json",
    ]  # fmt: skip
    assert "figure: geometry/figure.svg" in printed
    summary = json.loads(Path("geometry/summary.json").read_text(encoding="utf-8"))
    assert summary["complete"]
    assert 2 < summary["cells"] <= 1 + 8 + 28  # eight lines cut a plane into at most 37 cells
    assert sum(summary["class_areas"].values()) == pytest.approx(summary["area"], rel=1e-9)
    # The cells as arrays are the network: at the vertices, by their own maps.
    held = zarr.open_group("geometry/cells.zarr", mode="r")
    offsets, corners = (np.asarray(held[name]) for name in ("offsets", "corners"))
    vertices, maps = (np.asarray(held[name]) for name in ("vertices", "maps"))
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    rows = np.concatenate([vertices[corners], np.ones((len(corners), 1))], 1)
    plane = np.load("geometry/plane.npz")
    inputs = plane["origin"] + vertices[corners] @ plane["axes"]
    with torch.no_grad():
        exact = network()(torch.as_tensor(inputs)).numpy()
    np.testing.assert_allclose(np.einsum("ij,ijk->ik", rows, maps[owner]), exact, atol=1e-12)
    test = np.load("test.npz")["X"][:3]
    np.testing.assert_allclose(plane["origin"] + plane["marks"] @ plane["axes"], test, atol=1e-6)
    # The picture is one, and not of one color.
    assert ElementTree.parse("geometry/figure.svg").getroot().tag.endswith("svg")
    assert len(np.unique(imread("geometry/figure.png")[::25, ::25].reshape(-1, 4), axis=0)) > 20


def test_the_plane_that_was_written_gives_the_same_numbers(shell: Shell) -> None:
    through = json.loads(shell.good(*MEASURE, "--through", "5,6,7", "--out", "one", "--json"))
    again = ("--plane", "one/plane.npz", "--color", "depth", "--out", "two", "--json")
    plane = json.loads(shell.good(*MEASURE, *again))
    assert plane["cells"] == through["cells"]
    assert plane["lipschitz_constant"] == pytest.approx(through["lipschitz_constant"], rel=1e-12)
    assert shell.good(*MEASURE, "--plane", "one/plane.npz", "--color", "slope", "--quiet") == ""
    assert Path("out/linear-regions/figure.svg").is_file()


def test_a_line_between_two_rows(shell: Shell) -> None:
    found = json.loads(shell.good(*MEASURE, "--line", "0,1", "--out", "line", "--json"))
    assert 1 <= found["output_pieces"] <= found["pieces"] <= 9
    ends = torch.as_tensor(np.load("test.npz")["X"][:2]).double()
    assert found["length"] == pytest.approx(float((ends[0] - ends[1]).norm()))
    with torch.no_grad():
        classes = network()(ends).argmax(1).tolist()
    changes = found["class_changes"]
    assert bool(changes) == (classes[0] != classes[1]) or len(changes) > 1
    assert Path("line/pieces.zarr").is_dir()


def test_checkpoints_give_counts_and_a_film_strip(shell: Shell) -> None:
    files = ("start.safetensors", "end.safetensors")
    words = ("--through", "0,1,2", "--checkpoints", *files, "--out", "film", "--json")
    found = json.loads(shell.good(*MEASURE, *words))
    start, end = found["checkpoints"]
    assert (start["name"], end["name"]) == ("start", "end")
    assert end["cells"] == found["cells"]
    assert end["lipschitz_constant"] == found["lipschitz_constant"]
    assert start["lipschitz_constant"] < end["lipschitz_constant"]
    assert ElementTree.parse("film/film.svg").getroot().tag.endswith("svg")
    page = Path("film/report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    for one in (start, end):
        row = re.search(rf'<th scope="row">{one["name"]}</th>\s*<td class="n">([\d,]+)</td>', page)
        assert row is not None
        assert int(row[1].replace(",", "")) == one["cells"]
    alone = (OWN[0], "--weights", "start.safetensors", *OWN[3:], "--plane", "film/plane.npz")
    again = json.loads(shell.good("measure", "linear-regions", *alone, "--json"))
    assert again["cells"] == start["cells"]


def test_checkpoints_of_a_folder_stand_in_the_order_of_their_numbers(shell: Shell) -> None:
    Path("run").mkdir()
    for name, source in (("step-10", "end"), ("step-9", "start")):
        Path(f"run/{name}.safetensors").write_bytes(Path(f"{source}.safetensors").read_bytes())
    Path("run/log.txt").write_text("none of weights", encoding="utf-8")
    words = ("--through", "0,1,2", "--checkpoints", "run", "--out", "film", "--json")
    found = json.loads(shell.good(*MEASURE, *words))
    assert [one["name"] for one in found["checkpoints"]] == ["step-9", "step-10"]
    assert found["checkpoints"][1]["cells"] == found["cells"]
    Path("empty").mkdir()
    assert shell(*MEASURE, "--through", "0,1,2", "--checkpoints", "empty") == 2
    assert "the folder 'empty' without weights" in shell.err


def test_a_bound_leaves_a_lower_bound_and_says_so(shell: Shell) -> None:
    words = ("--through", "0,1,2", "--max-cells", "3", "--out", "part")
    assert shell(*MEASURE, *words) == 3
    assert "lower bound" in shell.out
    summary = json.loads(Path("part/summary.json").read_text(encoding="utf-8"))
    assert not summary["complete"]
    assert "integrals" not in summary
    assert Path("part/figure.svg").is_file()
    assert "at least 4" in re.sub("</?b>", "", Path("part/report.html").read_text("utf-8"))


def test_a_square_of_a_network_of_two_inputs(shell: Shell) -> None:
    code = (
        "from torch import nn\ndef flat():\n    return nn.Sequential(nn.Linear(2, 5), nn.ReLU(), "
    )
    Path("flat.py").write_text(code + "nn.Linear(5, 2))\n", encoding="utf-8")
    random = np.random.default_rng(0)
    np.savez("flat.npz", X=random.standard_normal((9, 2)).astype("f4"), y=np.arange(9) % 2)
    words = ("flat.py:flat", "--test", "flat.npz", "--box=-2,2", "--json")
    found = json.loads(shell.good("measure", "linear-regions", *words))
    assert found["area"] == pytest.approx(16)
    assert found["cells"] <= 1 + 5 + 10


def test_all_cells_in_a_box_of_four_inputs(shell: Shell) -> None:
    printed = shell.good(*MEASURE, "--box=-2,2", "--out", "box")
    assert sorted(path.name for path in Path("box").iterdir()) == [
        "cells.zarr", "figure.png", "figure.svg", "summary.json",
    ]  # fmt: skip
    assert "figure: box/figure.svg" in printed
    summary = json.loads(Path("box/summary.json").read_text(encoding="utf-8"))
    assert (summary["complete"], summary["kind"], summary["inputs"]) == (True, "box", 4)
    assert 9 < summary["cells"] <= 1 + 8 + 28 + 56 + 70
    assert summary["volume"] == pytest.approx(4**4)
    # The cells as arrays are the network: at points of the box, by half-spaces and maps.
    held = zarr.open_group("box/cells.zarr", mode="r")
    offsets, normals, limits, maps, volumes = (
        np.asarray(held[name]) for name in ("offsets", "normals", "limits", "maps", "volumes")
    )
    assert volumes.sum() == pytest.approx(4**4)
    points = np.random.default_rng(0).uniform(-2, 2, (300, 4))
    beyond = np.maximum.reduceat(points @ normals.T - limits, offsets[:-1], axis=1)
    assert beyond.min(1).max() <= 1e-12
    assert ((beyond < -1e-9).sum(1) <= 1).all()
    place = beyond.argmin(1)
    rows = np.concatenate([points, np.ones((300, 1))], 1)
    with torch.no_grad():
        exact = network()(torch.as_tensor(points)).numpy()
    np.testing.assert_allclose(np.einsum("ni,nio->no", rows, maps[place]), exact, atol=1e-12)
    # A plane through the box is as steep at most, and a later run takes the folder's place.
    plane = json.loads(shell.good(*MEASURE, "--through", "0,1,2", "--out", "box", "--json"))
    assert plane["kind"] == "plane"
    assert shell(*MEASURE, "--box=-2,2", "--out", "box", "--max-cells", "9") == 3
    assert "lower bound" in shell.out
    part = json.loads(Path("box/summary.json").read_text(encoding="utf-8"))
    assert (part["complete"], "lipschitz_constant" in part) == (False, False)
    assert 9 < part["cells"] < summary["cells"]


def test_the_end_of_the_time_leaves_a_lower_bound(shell: Shell) -> None:
    for place in ("--through=0,1,2", "--box=-2,2"):
        assert shell(*MEASURE, place, "--out", "late", "--seconds", "1e-9") == 3
        assert "lower bound" in shell.out
        assert not json.loads(Path("late/summary.json").read_text(encoding="utf-8"))["complete"]
    assert "cells" in shell.good(*MEASURE, "--through=0,1,2", "--out", "late", "--seconds", "1000")


def test_what_is_curved_is_named(shell: Shell) -> None:
    code = "from torch import nn\ndef f():\n    return nn.Sequential(nn.Linear(4, 3), nn.GELU())\n"
    Path("smooth.py").write_text(code, encoding="utf-8")
    words = ("measure", "linear-regions", "smooth.py:f", "--test", "test.npz")
    assert "`1` is a GELU, which is curved" in shell.good(*words, "--through", "0,1,2")
    assert not Path("out").exists()


def test_it_stands_in_the_list(shell: Shell) -> None:
    assert re.search(r"^linear-regions\s+the exact cells", shell.good("measure", "--list"), re.M)


def test_a_table_beyond_the_memory_is_written_in_pieces(shell: Shell) -> None:
    words = (*MEASURE, "--through", "0,1,2", "--json")
    held = json.loads(shell.good(*words, "--out", "held"))
    # The bound holds a thousand cells, fewer than may be asked for and more than there are.
    found = json.loads(shell.good(*words, "--out", "pieces", "--memory", "800k"))
    assert found.pop("interrupted") is False
    assert found.keys() == held.keys()
    for name in ("cells", "walls", "linear_regions", "wall_length", "lipschitz_constant"):
        assert found[name] == pytest.approx(held[name], rel=1e-9)
    assert sorted(path.name for path in Path("pieces").iterdir()) == sorted(
        path.name for path in Path("held").iterdir()
    )
    # One that holds fewer: a map instead of each cell, and what can be summed up.
    large = json.loads(shell.good(*words, "--out", "large", "--memory", "2k"))
    for name in ("cells", "walls", "wall_length", "lipschitz_constant", "largest"):
        assert large[name] == pytest.approx(held[name], rel=1e-9)
    assert "linear_regions" not in large
    assert "A map of where" in Path("large/report.html").read_text(encoding="utf-8")
    one, two = (zarr.open_group(f"{name}/cells.zarr", mode="r") for name in ("held", "large"))
    assert np.asarray(one["maps"]).shape == np.asarray(two["maps"]).shape
    assert shell(*words, "--out", "part", "--memory", "2k", "--max-cells", "4") == 3
    assert json.loads(Path("part/summary.json").read_text(encoding="utf-8"))["complete"] is False
