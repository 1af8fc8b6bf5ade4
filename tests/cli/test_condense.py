"""`whynet condense` writes a smaller network that `whynet verify` recomputes, or refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from whynet.cli.main import main
from whynet.examination.condensation_page import signed
from whynet.training.builtin import builtin_module


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("condensed")
    out = str(folder / "small.safetensors")
    words = ["condense", "breast-cancer-mlp", "--tolerance", "0.02", "--points", "10"]
    assert main([*words, "--out", out, "--quiet"]) == 0
    return folder


def test_three_files_are_written_and_stand(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(path.name for path in written.iterdir())
    assert names == ["small.certificate.json", "small.html", "small.safetensors"]
    assert main(["verify", str(written / "small.certificate.json"), "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)
    names = ["balls", "directions", "errors", "exact", "scores", "size"]
    assert sorted(part["name"] for part in parts) == names
    page = (written / "small.html").read_text(encoding="utf-8")
    assert "<script" not in page and "://" not in page.replace("http://www.w3.org/", "")
    assert "breast-cancer-mlp" in page and "Proven" in page
    assert "not condensed: " in page and "of random ones" in page
    facts = page.partition('class="facts">')[2].partition("</p>")[0]
    sizes = json.loads((written / "small.certificate.json").read_text())["certificate"]["size"]
    for end in ("before", "after"):
        assert f"{sizes[end]['parameters']:,}" in facts
    table = page.partition('id="numbers"')[2].partition("</table>")[0]
    assert "points" in table and "\u00a0ms" in table
    assert "-" not in "".join(re.findall(r">([^<>]*)</td>", table)), "a hyphen for a minus"


@pytest.mark.parametrize(
    ("value", "places", "said"),
    [(0.004, 1, "0.0"), (-0.004, 1, "0.0"), (0.26, 1, "+0.3"), (-12.0, 0, "−12")],
)
def test_changes_bear_their_sign(value: float, places: int, said: str) -> None:
    assert signed(value, places) == said


def test_a_number_that_was_changed_is_found(written: Path, tmp_path: Path) -> None:
    content = json.loads((written / "small.certificate.json").read_text())
    content["certificate"]["balls"]["proven"] *= 0.9
    (tmp_path / "small.certificate.json").write_text(json.dumps(content))
    weights = (written / "small.safetensors").read_bytes()
    (tmp_path / "small.safetensors").write_bytes(weights)
    assert main(["verify", str(tmp_path / "small.certificate.json"), "--quiet"]) == 1
    (tmp_path / "small.safetensors").write_bytes(weights[:-4] + b"\x00\x00\x80\x3f")
    assert main(["verify", str(tmp_path / "small.certificate.json"), "--quiet"]) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "another"},
        {"schema_version": "2.0"},
        {"kept": {"0": ["a"]}},
        {"kept": {"0": [3, 2]}},
        {"request": {"target": "breast-cancer-mlp", "surprise": 1}},
        {"weights": {"file": "../small.safetensors", "sha256": ""}},
        {"settings": {"norm": "linf"}},
    ],
    ids=str,
)
def test_a_damaged_certificate_is_called_damaged(
    written: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    content = json.loads((written / "small.certificate.json").read_text()) | change
    (tmp_path / "small.certificate.json").write_text(json.dumps(content))
    (tmp_path / "small.safetensors").write_bytes((written / "small.safetensors").read_bytes())
    assert main(["verify", str(tmp_path / "small.certificate.json"), "--quiet"]) == 4


def test_above_the_tolerance_nothing_is_written_and_the_curve_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["condense", "diabetes-mlp", "--out", str(tmp_path / "s.safetensors")]
    assert main([*words, "--tolerance", "1e-5"]) == 1
    shown = capsys.readouterr()
    assert "nothing was written: Within 1e-05 no unit can go" in shown.err
    assert "largest change" in shown.out
    assert main([*words, "--units", "4", "--json"]) == 1
    shown = capsys.readouterr()
    assert "above the tolerance of 0.001" in shown.err
    assert len(json.loads(shown.out)["curve"]) > 5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tolerance", "much"], "--tolerance"),
        (["--tolerance", "2"], "tolerance"),
        (["--tolerance", "nan"], "--tolerance"),
        (["--units", "0"], "units"),
        (["--finetune", "-1"], "--finetune"),
        (["--checkpoints", "nothing.safetensors"], "--checkpoints"),
        (["--norm", "l7"], "norm"),
        (["--radius", "-1"], "radius"),
        (["--points", "0"], "points"),
        (["--out", "small.pt"], "--out"),
        (["--out", "/no/such/folder/small.safetensors"], "--out"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "--out" in words else ["--out", str(tmp_path / "s.safetensors")]
    assert main(["condense", "diabetes-mlp", *words, *out]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_factory_s_arguments_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def build(hidden=40, inputs=3):\n"
        "    torch.manual_seed(0)\n"
        "    module = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 2))\n"
        "    with torch.no_grad():\n"
        "        half = hidden // 2\n"
        "        module[0].weight[half:] = module[0].weight[: hidden - half]\n"
        "        module[0].bias[half:] = module[0].bias[: hidden - half]\n"
        "    return module\n"
    )
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((50, 3)).astype(np.float32)
    np.savez(tmp_path / "train.npz", X=inputs, y=generator.integers(0, 2, 50))
    target, train = f"{tmp_path}/model.py:build", f"{tmp_path}/train.npz"
    out = tmp_path / "small.safetensors"
    words = ["condense", target, "--train", train, "--exact-only", "--out", str(out)]
    assert main(words) == 0
    assert "arguments that build it: hidden=20" in capsys.readouterr().out
    assert "build(hidden=20)" in out.with_suffix(".html").read_text()
    certificate = str(out.with_suffix(".certificate.json"))
    assert main(["verify", certificate, "--quiet"]) == 2  # code runs only where it is named
    assert main(["verify", certificate, target, "--quiet"]) == 0


def test_training_on_is_asked_for_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the largest error was lowered already, training on for the mean square adds nothing.
    monkeypatch.setattr("whynet.concepts.condensation.direction_fit._ROUNDS", 0)
    out = tmp_path / "s.safetensors"
    words = ["condense", "diabetes-mlp", "--out", str(out), "--points", "3", "--tolerance", "0.5"]
    start = tmp_path.parent / "start.safetensors"
    save_file(builtin_module("diabetes-mlp").build().state_dict(), start)
    words += ["--checkpoints", str(start), str(start)]
    assert main([*words, "--units", "3", "--finetune", "200"]) == 0
    said = capsys.readouterr().out
    assert "Trained on for 200 steps towards the large network's outputs" in said
    assert "start: `0` is not condensed" in " ".join(said.split())
    page = out.with_suffix(".html").read_text()
    assert "at checkpoints of the training" in page and "where it points" in page
    assert "trained on for 200 steps." in out.with_suffix(".html").read_text()
    record = json.loads(out.with_suffix(".certificate.json").read_text())
    finetuned = record["finetuned"]
    assert len(finetuned["after"]) == 3 and finetuned["before"] > 0
    assert finetuned["sentence"] in " ".join(said.split())
    taken = finetuned["taken"]
    largest = finetuned["before"] if taken is None else finetuned["after"][taken]
    assert record["certificate"]["errors"]["train"]["largest"] == pytest.approx(largest, rel=1e-3)
    assert main(["verify", str(out.with_suffix(".certificate.json")), "--quiet"]) == 0


def test_a_network_of_gelu_is_certified_and_verified(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    module = nn.Sequential(nn.Linear(3, 24), nn.GELU(), nn.Linear(24, 2))\n"
        "    with torch.no_grad():\n"
        "        noise = 1e-3 * torch.randn(12, 3)\n"
        "        module[0].weight[12:] = module[0].weight[:12] + noise\n"
        "        module[0].bias[12:] = module[0].bias[:12]\n"
        "    return module\n"
    )
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((60, 3)).astype(np.float32)
    np.savez(tmp_path / "train.npz", X=inputs, y=generator.integers(0, 2, 60))
    target, out = f"{tmp_path}/model.py:build", tmp_path / "small.safetensors"
    words = ["condense", target, "--train", f"{tmp_path}/train.npz", "--out", str(out)]
    assert main([*words, "--points", "10", "--quiet"]) == 0
    path = out.with_suffix(".certificate.json")
    balls = json.loads(path.read_text())["certificate"]["balls"]
    assert balls["curved"] == ["gelu"] and not balls["loose"]
    assert balls["attacked"] * (1 - 1e-9) <= balls["proven"] < 2 * balls["attacked"]
    assert balls["labels"]["median_radius"] > balls["radius"]
    assert "Curved operations (gelu)" in out.with_suffix(".html").read_text()
    assert main(["verify", str(path), target, "--quiet"]) == 0
