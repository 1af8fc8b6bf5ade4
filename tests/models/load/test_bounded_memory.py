"""Hostile files in a process of their own: one sentence, bounded memory, no code, no crash."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file
from tests.models.load.test_weights import HOSTILE, Code, network, state

MOST = 200 * 1024
"""KiB a refusal may need beyond what the imports need."""

CHILD = """
import json, resource, sys, warnings
warnings.simplefilter("ignore")
import torch
from pathlib import Path
from torch import nn
from whynet.core.errors import InputError
from whynet.models.data import load_data
from whynet.models.load.weights import load_weights
from whynet.models.subject import Subject
torch.manual_seed(3)
for line in sys.stdin:
    kind, path = json.loads(line)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = ""
    try:
        if kind == "weights":
            net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
            load_weights(path, net, "--weights")
        elif kind == "initial":
            net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
            blank = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
            load_weights(path, blank, "--init-weights")
            Subject(net, initial=blank)
        else:
            load_data(path, argument="--test", target=kind or None, announce=print)
    except InputError as error:
        said = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    print(json.dumps([said, grown]), flush=True)
"""


class Loader:
    """A process that loads one file after another and says what came of it."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, kind: str, path: str) -> tuple[str, int]:
        """Load a file; returns the refusal and by how many KiB the process grew."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([kind, path]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"ended with {self.process.wait()}: {self.process.stderr.read()}"  # type: ignore[union-attr]
        said, grown = json.loads(line)
        return said, grown


def markup(path: Path) -> None:
    names = ['"><script>alert(1)</script>', "\x1b[31m\u202e", "{{7*7}}", "../../x", "a\nb"]
    save_file({**state(), **{name: torch.zeros(1) for name in names}}, path)


def deep(path: Path) -> None:
    """A pickle of lists in lists, in the archive of a state dict."""
    torch.save(state(), path)
    out = io.BytesIO()
    content = b"\x80\x02" + b"]" * 2_000_000 + b"a" * 1_999_999 + b"."
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for member in source.infolist():
            pickled = member.filename.endswith("data.pkl")
            target.writestr(member.filename, content if pickled else source.read(member))
    path.write_bytes(out.getvalue())


def many_names(path: Path) -> None:
    """Safetensors whose header names a million empty tensors."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{i}": entry for i in range(150_000)}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def shared_storage(path: Path) -> None:
    """A thousand views of one storage, which together are far larger than the file."""
    base = torch.zeros(2**20)
    torch.save({f"t{i}": base for i in range(1000)} | state(), path)


WEIGHTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    **{
        name: ("w.safetensors" if "safetensors" in name else "w.pt", write)
        for name, (write, _) in HOSTILE.items()
    },
    "names with markup": ("w.safetensors", markup),
    "deep pickle": ("w.pt", deep),
    "many names": ("w.safetensors", many_names),
    "shared storage": ("w.pt", shared_storage),
    "pickle in a list": ("w.pt", lambda p: torch.save({**state(), "x": [Code()]}, p)),
    "pickle as a key": ("w.pt", lambda p: torch.save({"x": {("a", Code()): 1}}, p)),
    "pickle in a checkpoint": ("w.pt", lambda p: torch.save({"model": state(), "o": Code()}, p)),
    "protocol 5": ("w.pt", lambda p: torch.save({"x": Code()}, p, pickle_protocol=5)),
    "sparse rows": (
        "w.pt",
        lambda p: torch.save({**state(), "0.weight": torch.eye(4, 3).to_sparse_csr()}, p),
    ),
}  # fmt: skip


def npz(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def npy(array: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(array), allow_pickle=True)
    return out.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    words = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    words = words.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words


GOOD = npy(np.arange(6) % 2)
BOMB = header("(134217728,)") + b"\0" * 2**30


def wide(path: Path) -> None:
    """A small Parquet file of one constant column whose rows would fill the memory."""
    rows = 2**27
    column = pyarrow.array(np.zeros(2**20)).dictionary_encode()
    table = pyarrow.table({"a": column, "b": column})
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(rows // 2**20):
            writer.write_table(table)


def pair(path: Path, inputs: bytes) -> None:
    """Write `X.npy` and, beside it, sound targets."""
    path.write_bytes(inputs)
    path.with_name("y.npy").write_bytes(GOOD)


CALL = "__import__('os').system('touch whynet_marker_was_here')"
MEMBERS: dict[str, bytes] = {
    "objects": npy([Code()] * 6),
    "bare pickle": pickle.dumps(Code()),
    "claims much": header("(1099511627776,)"),
    "structured": header("(6,)", "[('a', 'O')]") + b"\0" * 48,
    "header of code": header(CALL),
    "header of depth": header("(" * 40),
    "header without an end": header("'" * 41),
    "header of bytes": b"\x93NUMPY\x01\x00\x10\x00" + bytes(range(200, 216)),
    "newer format": b"\x93NUMPY\x09\x00" + b"\0" * 90,
}
DATA: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    **{
        f"{name} in npz": ("", "d.npz", lambda p, m=m: npz(p, X=m, y=GOOD))
        for name, m in MEMBERS.items()
    },
    **{
        f"{name} in npy": ("", "X.npy,y.npy", lambda p, m=m: pair(p, m))
        for name, m in MEMBERS.items()
    },
    "targets": ("", "d.npz", lambda p: npz(p, X=npy(np.ones((6, 2))), y=npy([Code()] * 6))),
    "damaged parquet": ("a", "t.parquet", lambda p: p.write_bytes(b"PAR1\xff" * 99 + b"PAR1")),
    "long cell": ("a", "t.csv", lambda p: p.write_text("a,b\n1," + "9" * 2**22)),
}


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    """The process, in a folder of its own."""
    made = Loader(tmp_path_factory.mktemp("loader"))
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["weights", "initial"])
@pytest.mark.parametrize("case", WEIGHTS)
def test_hostile_weights(tmp_path: Path, loader: Loader, case: str, kind: str) -> None:
    name, write = WEIGHTS[case]
    write(tmp_path / name)
    said, grown = loader(kind, str(tmp_path / name))
    option = {"weights": "--weights", "initial": "--init-weights"}[kind]
    assert said.startswith(f"{option}: found ") and "; wanted " in said, said
    assert said.isprintable() and len(said) < 1000
    assert grown < MOST


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", DATA)
def test_hostile_data(tmp_path: Path, loader: Loader, case: str) -> None:
    target, names, write = DATA[case]
    write(tmp_path / names.split(",")[0])
    path = ",".join(str(tmp_path / name) for name in names.split(","))
    said, grown = loader(target, path)
    assert said.startswith("--test: found ") and "; wanted " in said, said
    assert said.isprintable() and len(said) < 1000
    assert grown < MOST


def test_an_array_that_inflates_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    from whynet.core.errors import InputError
    from whynet.models.data.npz import read_npz
    from whynet.models.data.parquet import read_parquet

    npz(tmp_path / "d.npz", X=BOMB, y=GOOD)
    with pytest.raises(InputError, match=r"declares 1\.0 GiB; wanted at most 0\.5 GiB"):
        read_npz(tmp_path / "d.npz", "--test", limit=2**29)
    assert (tmp_path / "d.npz").stat().st_size < 2**21
    wide(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"declares 2\.0 GiB; wanted at most 0\.5 GiB"):
        read_parquet(tmp_path / "t.parquet", "--test", "b", limit=2**29)


def test_nothing_of_all_that_ran(loader: Loader, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pt")
    assert loader("weights", str(tmp_path / "w.pt"))[0] == ""
    folder = Path(f"/proc/{loader.process.pid}/cwd").resolve()
    assert list(folder.iterdir()) == []
