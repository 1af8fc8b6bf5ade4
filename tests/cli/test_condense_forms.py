"""`whynet condense` on networks of a user's file: fixed widths, gates, skips, depthwise kernels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from whynet.cli.main import main

MODEL = '''
import torch
from torch import nn
from torch.nn import functional


def doubled(layer, rows=None):
    """Give the second half of a layer's outputs the weights of the first."""
    half = (layer.weight.shape[0] if rows is None else rows) // 2
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias):
            for start in range(0, len(tensor), 2 * half):
                tensor[start + half : start + 2 * half] = tensor[start : start + half]


class Written(nn.Module):
    """Its forward has the width written in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 6, 3)
        self.inner, self.head = nn.Linear(6 * 16, 12), nn.Linear(12, 2)
        doubled(self.stem), doubled(self.inner)

    def forward(self, images):
        images = images.view(-1, 1, 6, 6)
        flat = torch.relu(self.stem(images)).view(-1, 6 * 4 * 4)
        return self.head(torch.relu(self.inner(flat)).view(-1, 12))


class Sized(nn.Module):
    """The same, written with what its constructor was given."""

    def __init__(self, hidden, classes=2):
        super().__init__()
        torch.manual_seed(0)
        self.hidden = hidden
        self.inner, self.head = nn.Linear(36, hidden), nn.Linear(hidden, classes)
        doubled(self.inner)

    def forward(self, images):
        return self.head(torch.relu(self.inner(images)).view(-1, self.hidden))


def sized():
    return Sized(12)


class Mixed(nn.Module):
    """A stem, a depthwise kernel, a concatenated skip, and a gate and value of one layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.deep = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.side = nn.Conv2d(6, 4, 1)
        self.both, self.head = nn.Linear(10, 16), nn.Linear(8, 2)
        doubled(self.stem), doubled(self.deep), doubled(self.side), doubled(self.both, 8)

    def forward(self, images):
        one = torch.relu(self.deep(torch.relu(self.stem(images.unflatten(1, (1, 6, 6))))))
        pooled = torch.cat([one, torch.relu(self.side(one))], 1).mean((2, 3))
        gate, value = self.both(pooled).chunk(2, -1)
        return self.head(functional.silu(gate) * value)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("forms")
    (place / "model.py").write_text(MODEL)
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((40, 36)).astype(np.float32)
    np.savez(place / "train.npz", X=inputs, y=generator.integers(0, 2, 40))
    return place


def condensed(folder: Path, name: str, *words: str) -> Path:
    out = folder / f"{name}.safetensors"
    given = [f"{folder}/model.py:{name}", "--train", f"{folder}/train.npz", "--out", str(out)]
    assert main(["condense", *given, *(words or ("--exact-only",))]) == 0
    return out


def shapes(out: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in load_file(out).items() if "weight" in name}


def test_widths_that_the_code_fixes_go_in_a_program(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = condensed(folder, "Written")
    said = capsys.readouterr().out
    assert "its own code fixes widths" in said and f"wrote {out.with_suffix('.pt2')}" in said
    assert shapes(out) == {
        "stem.weight": (3, 1, 3, 3),
        "inner.weight": (6, 48),
        "head.weight": (2, 6),
    }
    assert "Written.pt2" in out.with_suffix(".html").read_text()
    program = torch.export.load(out.with_suffix(".pt2")).module()
    inputs = torch.as_tensor(np.load(folder / "train.npz")["X"])
    state = load_file(out)
    inner = torch.relu(
        torch.conv2d(inputs.view(-1, 1, 6, 6), state["stem.weight"], state["stem.bias"])
    )
    inner = torch.relu(inner.flatten(1) @ state["inner.weight"].T + state["inner.bias"])
    wanted = inner @ state["head.weight"].T + state["head.bias"]
    assert torch.allclose(program(inputs), wanted, atol=1e-5)
    certificate = out.with_suffix(".certificate.json")
    verify = ["verify", str(certificate), f"{folder}/model.py:Written", "--quiet"]
    assert main(verify) == 0
    # The program is never loaded, only compared with what was written.
    whole = out.with_suffix(".pt2").read_bytes()
    out.with_suffix(".pt2").write_bytes(whole[:-1])
    assert main(verify) == 4
    out.with_suffix(".pt2").unlink()
    assert main(verify) == 4


def test_arguments_of_the_constructor_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = condensed(folder, "sized")
    assert "arguments that build it: hidden=6: Sized(hidden=6)" in capsys.readouterr().out
    content = json.loads(out.with_suffix(".certificate.json").read_text())
    assert (content["arguments"], content["builder"]) == ({"hidden": 6}, "Sized(hidden=6)")
    assert "So does <code>Sized(hidden=6)</code>" in out.with_suffix(".html").read_text()


def test_gates_skips_and_depthwise_kernels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = condensed(folder, "Mixed")
    found = shapes(out)
    side = len(load_file(out)["side.bias"])  # one of its units reads what is never negative
    assert side in (1, 2)
    assert found == {
        "stem.weight": (3, 1, 3, 3),
        "deep.weight": (3, 1, 3, 3),
        "side.weight": (side, 3, 1, 1),
        "both.weight": (8, 3 + side),
        "head.weight": (2, 4),
    }
    certificate = str(out.with_suffix(".certificate.json"))
    assert main(["verify", certificate, f"{folder}/model.py:Mixed", "--quiet"]) == 0
    assert json.loads(Path(certificate).read_text())["certificate"]["exact"]["holds"]
    capsys.readouterr()
    out = condensed(folder, "Mixed", "--tolerance", "0.4", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["chosen"]["largest"] <= 0.4
    assert sum(layer["after"] for layer in told["layers"][:-1]) < 3 + side + 4
    assert told["chosen"]["parameters"] == sum(t.numel() for t in load_file(out).values())
