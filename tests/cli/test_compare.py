"""`whynet compare` in process, on the tiny subject."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from safetensors.torch import load_file, save_file
from tests.cli.own import OWN, Shell

PAIR = ("compare", *OWN, "--other-weights", "start.safetensors", "--readings", "fit")


def summary(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text(encoding="utf-8"))
    content.pop("seconds")
    return content


def test_compare_writes_a_folder_and_its_receipt_gives_the_same_numbers(shell: Shell) -> None:
    out = shell.good(*PAIR, "--out", "out")
    assert "end.safetensors beside start.safetensors" in out
    assert "B has the worse accuracy." in out
    assert "report: out/report.html" in out
    assert shell.err == "running code from model.py\n"
    first = summary("out")
    again = (
        "compare",
        OWN[0],
        "--config",
        "out/comparison.toml",
        "--weights",
        "out/weights.safetensors",
        "--other-weights",
        "out/other_weights.safetensors",
    )
    shell.good(*again, "--out", "again", "--quiet")
    assert summary("again")["numbers"] == first["numbers"]
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "<span>whynet</span> <span>compare</span>" in page
    from whynet.examination.comparison_folder import compare_command
    from whynet.examination.manifest import Request

    words = shlex.split(
        compare_command(Request(target=OWN[0], train="train.npz", test="test.npz"), ("fit",), "out")
    )
    words[words.index("--out") + 1] = "third"
    shell.good(*words[1:], "--quiet")
    assert summary("third")["numbers"] == first["numbers"]


def test_json_and_conditions(shell: Shell) -> None:
    printed = json.loads(shell.good(*PAIR, "--json"))
    assert printed["numbers"]["comparison.churn"]["value"] > 0.1
    assert shell(*PAIR, "--quiet", "--fail-on", "comparison.churn > 0.01") == 1
    assert "cannot be excluded" in shell.err
    assert shell(*PAIR, "--quiet", "--fail-on", "comparison.weight_distance > 3") == 0


def test_a_built_in_subject_is_compared_with_another_seed(shell: Shell) -> None:
    out = shell.good("compare", "breast-cancer-mlp", "--readings", "fit", "--out", "seeds")
    assert "breast-cancer-mlp beside another seed (1)" in out
    assert summary("seeds")["numbers"]["comparison.weight_distance"]["value"] > 0.5


def test_a_network_without_weights_is_as_its_code_makes_it(shell: Shell) -> None:
    out = shell.good("compare", OWN[0], "--test", "test.npz", "--other-weights",
                     "end.safetensors", "--readings", "fit")  # fmt: skip
    assert "as its code makes it beside end.safetensors" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (OWN, "--other-weights: found nothing; wanted the weights to compare with"),
        ((*OWN, "--other-weights", "gone.safetensors"), "--other-weights: found "),
        ((*OWN, "--other-weights", "wide.safetensors"), "--other-weights: found "),
        ((*OWN, "--other-weights", "nan.safetensors"), "--other-weights: found "),
        ((*PAIR[1:], "--readings", "fti"), "--readings: found 'fti'"),
        ((*PAIR[1:], "--out", "model.py"), "--out: found 'model.py', which is no folder"),
        ((*PAIR[1:], "--out", "."), "--out: found the folder '.' with other content"),
        ((*PAIR[1:], "--fail-on", "churn"), "--fail-on: found 'churn'"),
        ((*PAIR[1:], "--batch-size", "0"), "--batch-size: found 0"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    shell: Shell, words: tuple[str, ...], sentence: str
) -> None:
    state = load_file("end.safetensors")
    save_file(state | {"0.weight": torch.zeros(9, 4)}, "wide.safetensors")
    save_file(state | {"2.bias": torch.full((3,), torch.nan)}, "nan.safetensors")
    before = shell.listing()
    assert shell("compare", *words) == 2
    assert f"whynet: {sentence}" in shell.err
    assert {k: v for k, v in shell.listing().items() if "__pycache__" not in k} == before


def test_a_folder_of_a_comparison_and_one_of_an_examination_replace_no_other(shell: Shell) -> None:
    shell.good(*PAIR, "--quiet", "--out", "out")
    shell.good(*PAIR, "--quiet", "--out", "out")
    assert shell("examine", *OWN, "--only", "fit", "--out", "out") == 2
    shell.good("examine", *OWN, "--only", "fit", "--out", "report", "--quiet")
    assert shell(*PAIR, "--out", "report") == 2
    assert "one that a comparison wrote" in shell.err


def test_verify_reads_both_networks_again(shell: Shell) -> None:
    shell.good(*PAIR, "--quiet", "--out", "out")
    printed = json.loads(shell.good("verify", "out", OWN[0], "--json"))
    assert {row["name"] for row in printed} == {"comparison", "A.fit", "B.fit"}
    assert all(row["stands"] and row["largest"] == 0.0 and row["entries"] for row in printed)
    assert shell("verify", "out") == 2
    assert "TARGET: found nothing, though the recorded one is code" in shell.err
    store = zarr.open_group("out/results.zarr", mode="r+")
    for name in ("churn", "churn_low", "churn_high"):
        array = store[f"trained/comparison/{name}"]
        assert isinstance(array, zarr.Array)
        array[...] = 0.5
    assert shell("verify", "out", OWN[0]) == 1
    assert "moved: churn" in shell.out
