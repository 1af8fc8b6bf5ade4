"""A tiny subject of one's own: code, data and weights in a folder, as a user would have them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from whynet.cli.main import main

CODE = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


class Entries(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = build()

    def forward(self, x):
        logits = self.body(x)
        return {"logits": logits, "hidden": 2 * logits}


def entries():
    return Entries()


def make_data():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(40, 4, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=7, shuffle=True)


def smooth(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, label_smoothing=0.1)


class Plain:
    pass


def needs(width, depth=1):
    return nn.Linear(width, depth)


def raises():
    raise RuntimeError("no luck \\x1b[31mtoday")


def leaves():
    sys.exit(0)


def nothing():
    return None


def a_class():
    return nn.Linear


def stops():
    raise KeyboardInterrupt
"""


def write_subject(folder: Path) -> None:
    """Write model.py, train.npz, test.npz, trained and initial weights into a folder."""
    (folder / "model.py").write_text(CODE, encoding="utf-8")
    random = np.random.default_rng(0)
    rule = random.standard_normal((4, 3))
    arrays = {}
    for split, rows in (("train", 72), ("test", 60)):
        x = random.standard_normal((rows, 4)).astype(np.float32)
        y = (x @ rule + 0.7 * random.standard_normal((rows, 3))).argmax(1)
        np.savez(folder / f"{split}.npz", X=x, y=y)
        arrays[split] = (torch.from_numpy(x), torch.from_numpy(y))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    save_file(network.state_dict(), folder / "start.safetensors")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(arrays["train"][0]), arrays["train"][1]).backward()
        optimizer.step()
    save_file(network.state_dict(), folder / "end.safetensors")


OWN = (
    "model.py:build", "--weights", "end.safetensors", "--train", "train.npz", "--test", "test.npz"
)  # fmt: skip
"""The subject as the command line names it, from inside its folder."""

EXAMINE = ("examine", *OWN, "--only", "fit", "--out", "out")


class Shell:
    """Runs commands in process, in the folder of a subject."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.capsys = capsys
        self.folder = folder
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        """Run `whynet` with these words; output is kept in `out` and `err`."""
        self.capsys.readouterr()
        code = main(words)
        self.out, self.err = self.capsys.readouterr()
        return code

    def good(self, *words: str) -> str:
        """Run a command that must end with 0; returns its output."""
        code = self(*words)
        assert code == 0, f"exit {code}: {self.out}{self.err}"
        return self.out

    def listing(self) -> dict[str, bytes | None]:
        """Return every file of the folder with its content; None for folders."""
        return {
            str(path.relative_to(self.folder)): None if path.is_dir() else path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_dir() or path.is_file()
        }


def copy_subject(made: Path, folder: Path) -> None:
    """Copy the files of a subject that was written once."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
