"""The good paths of every command, in process, on a tiny subject."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cli.own import EXAMINE, OWN, Shell

from whynet.cli import examine
from whynet.cli.parser import Parser
from whynet.cli.request import request_from
from whynet.concepts.registry import instruments
from whynet.examination.folder import read_manifest
from whynet.examination.manifest import Request, examine_command


def summary(folder: str = "out") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text(encoding="utf-8"))
    return content


def numbers(folder: str = "out") -> Any:
    return summary(folder)["numbers"]


def test_examine_writes_a_whole_folder(shell: Shell) -> None:
    out = shell.good(*EXAMINE, "--init-weights", "start.safetensors")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "figures", "initial_weights.safetensors", "manifest.toml", "report.html", "results.zarr",
        "summary.json", "weights.safetensors",
    ]  # fmt: skip
    assert "report: out/report.html" in out
    assert "running code from model.py" in shell.err
    assert numbers()["test_accuracy"]["value"] > 0.5
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


def test_json_is_all_there_is_on_stdout_and_the_summary(shell: Shell) -> None:
    printed = json.loads(shell.good(*EXAMINE, "--json"))
    assert printed == summary()
    assert "running code from" in shell.err


def test_quiet_prints_nothing_but_whose_code_runs(shell: Shell) -> None:
    assert shell.good(*EXAMINE, "--quiet") == ""
    assert shell.err == "running code from model.py\n"
    assert shell.good("measure", "fit", *OWN, "--quiet") == ""
    assert shell.good("examine", "breast-cancer-mlp", "--only", "fit", "--quiet") == ""
    assert shell.err == ""
    assert Path("out/examination/report.html").is_file()


def test_a_manifest_given_back_gives_the_same_numbers(shell: Shell) -> None:
    words = ("--batch-size", "7", "--seed", "5", "--dtype", "float64")
    shell.good(*EXAMINE, "--only", "calibration", "--quiet", *words)
    assert summary()["questions"].keys() == {"generalization", "calibration"}
    manifest = read_manifest(Path("out"))
    assert (manifest.batch_size, manifest.seed, manifest.dtype) == (7, 5, "float64")
    first = summary()
    again = (OWN[0], "--config", "out/manifest.toml")
    shell.good("examine", *again, "--out", "again", "--quiet")
    second = summary("again")
    for one in (first, second):
        one.pop("seconds")
    assert first == second


def test_what_a_budget_bought_is_repeated_exactly(shell: Shell) -> None:
    words = ("--only", "segment-pieces")
    shell.good("examine", *OWN, *words, "--budget", "0.6s", "--out", "out", "--quiet")
    rounds = read_manifest(Path("out")).rounds["segment-pieces"]
    assert 1 <= rounds <= instruments()["segment-pieces"].metadata.rounds
    shell.good("examine", OWN[0], "--config", "out/manifest.toml", "--out", "again", "--quiet")
    assert read_manifest(Path("again")).rounds["segment-pieces"] == rounds
    assert numbers() == numbers("again")
    printed = json.loads(
        shell.good("measure", "segment-pieces", *OWN, "--rounds", str(rounds), "--json")
    )
    assert {f"segment-pieces.{key}": value for key, value in printed.items()} == {
        key: value for key, value in numbers().items() if "." in key
    }


def test_the_command_line_overrides_a_configuration(shell: Shell) -> None:
    Path("c.toml").write_text(
        'seed = 3\nbatch_size = 9\ntrain = "train.npz"\nweights = "end.safetensors"\n'
        'only = ["fit"]\n[sha256]\ntrain = "0000"\n',
        encoding="utf-8",
    )
    words = ("examine", OWN[0], "--config", "c.toml", "--out", "out", "--quiet")
    assert shell(*words) == 2  # the training data are not those of the hash
    assert "--train: found content of SHA-256" in shell.err
    shell.good(*words, "--seed", "4", "--train", "test.npz", "--only", "margins", "--only", "fit")
    manifest = read_manifest(Path("out"))
    assert (manifest.seed, manifest.batch_size, manifest.train) == (4, 9, "test.npz")
    assert manifest.only == ("margins", "fit")


def test_the_command_of_an_examination_asks_the_same(shell: Shell) -> None:
    asked = Request(target="m.py:f", only=("fit", "margins"), weights="-w.pt", seed=2, budget="9s")
    words = examine_command(asked, "out dir").split(" ", 1)[1]
    parser = Parser(prog="whynet")
    examine.add_arguments(parser)
    assert request_from(parser.parse_args(shlex.split(words)[1:])) == asked


def test_memory_bounds_the_batch(shell: Shell) -> None:
    shell.good(*EXAMINE, "--memory", "5k", "--quiet")
    assert read_manifest(Path("out")).batch_size < 60
    assert numbers()["test_accuracy"]["value"] > 0.5


def test_skip_leaves_questions_out(shell: Shell) -> None:
    out = shell.good("examine", *OWN, "--only", "fit", "margins", "--skip", "margins", "--json")
    assert json.loads(out)["instruments"].keys() == {"fit"}


@pytest.mark.parametrize("form", ["csv", "npy", "python", "parquet"])
def test_data_come_in_many_forms(shell: Shell, form: str) -> None:
    with np.load("test.npz") as data:
        x, y = data["X"], data["y"]
    words: tuple[str, ...] = {
        "csv": ("--test", "t.csv", "--target", "label"),
        "npy": ("--test", "x.npy,y.npy"),
        "python": ("--test", "model.py:make_data"),
        "parquet": ("--test", "t.parquet", "--target", "label"),
    }[form]
    if form == "csv":
        rows = [",".join([*map(repr, map(float, row)), str(label)]) for row, label in zip(x, y)]  # noqa: B905
        Path("t.csv").write_text("\n".join(["a,b,c,d,label", *rows]) + "\n", encoding="utf-8")
    elif form == "npy":
        np.save("x.npy", x)
        np.save("y.npy", y)
    elif form == "parquet":
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {name: x[:, i] for i, name in enumerate("abcd")} | {"label": y}
        parquet.write_table(arrow.table(columns), "t.parquet")
    found = json.loads(shell.good("measure", "fit", *OWN[:3], *words, "--json"))
    assert 0 < found["accuracy.test"]["value"] < 1
    if form != "python":
        reference = json.loads(
            shell.good("measure", "fit", *OWN[:3], "--test", "test.npz", "--json")
        )
        assert found == reference


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about its own exported programs
def test_an_exported_network_a_loss_and_an_entry_of_ones_own(shell: Shell) -> None:
    from safetensors.torch import load_file
    from torch import nn

    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    network.load_state_dict(load_file("end.safetensors"))
    batch = torch.export.Dim("batch")
    exported = torch.export.export(network, (torch.zeros(5, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, "model.pt2")
    direct = json.loads(shell.good("measure", "fit", *OWN, "--json"))
    found = json.loads(shell.good("measure", "fit", "model.pt2", *OWN[3:], "--json"))
    assert found["accuracy.test"] == direct["accuracy.test"]
    assert "running code from model.pt2" in shell.err
    loss = json.loads(shell.good("measure", "fit", *OWN, "--loss", "model.py:smooth", "--json"))
    assert loss["loss.test"]["value"] != direct["loss.test"]["value"]
    words = ("measure", "fit", "model.py:entries", "--test", "test.npz", "--json")
    first = json.loads(shell.good(*words, "--output", "logits"))
    second = json.loads(shell.good(*words, "--output", "hidden"))
    assert first["accuracy.test"] == second["accuracy.test"]
    assert first["loss.test"] != second["loss.test"]


def test_measure_prints_a_table_json_and_the_list(shell: Shell) -> None:
    table = shell.good("measure", "fit", *OWN)
    assert "accuracy" in table and "split test" in table
    printed = json.loads(shell.good("measure", "fit", *OWN, "--json"))
    assert set(printed["accuracy.test"]) == {
        "value", "low", "high", "kind", "level", "unit", "how", "over",
    }  # fmt: skip
    listed = shell.good("measure", "--list")
    assert all(name in listed for name in instruments())


def test_measure_says_what_does_not_apply(shell: Shell) -> None:
    words = ("measure", "calibration", "diabetes-mlp")
    assert "not apply" in shell.good(*words) or "needs" in shell.out
    assert json.loads(shell.good(*words, "--json")).keys() == {"not applicable"}


def test_cite_prints_bibtex(finished: Shell) -> None:
    everything = finished.good("cite")
    one = finished.good("cite", "fit")
    folder = finished.good("cite", "out")
    assert everything.count("\n@") + 1 > folder.count("@") >= one.count("@") > 0
    assert "clopper1934" in one and "zhang2017" in folder


def test_help_and_version(shell: Shell) -> None:
    assert "exit codes" in shell.good()
    assert "examine" in shell.good("--help")
    assert shell.good("--version").startswith("whynet ")
    for command in ("examine", "measure", "verify", "cite"):
        assert f"whynet {command}" in shell.good(command, "--help")


def test_conditions_decide_the_exit_code(shell: Shell) -> None:
    shell.good(*EXAMINE, "--fail-on", "test_accuracy < 0.01", "--quiet")
    assert shell(*EXAMINE, "--fail-on", "test_accuracy < 0.999", "--quiet") == 1
    assert "test_accuracy < 0.999 cannot be excluded" in shell.err
    shell.good(*EXAMINE, "--fail-on", "fit.loss.test > 1e6", "--quiet")
    assert shell(*EXAMINE, "--fail-on", "fit.acuracy.test < 0.5", "--quiet") == 2
    assert "nearest are fit.accuracy.test" in shell.err
    assert Path("out/report.html").is_file()
