"""Networks and data in code that cannot be examined, one row each."""
# ruff: noqa: E501 - a row is a line

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.cli.mistake import (
    DATA,
    GOOD_X,
    GOOD_Y,
    WEIGHTS,
    Mistake,
    arrays,
    examine,
    weights,
    write,
)

HEAD = "import os\nimport torch\nfrom torch import nn\nfrom torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset\n"


def network(name: str, body: str, pattern: str, argument: str = "TARGET", *words: str) -> Mistake:
    """A network whose code is `body`, which defines `build`."""
    return Mistake(
        name, examine(*(words or DATA), target="own.py:build"), argument, pattern, code(body)
    )


def forward(name: str, line: str, pattern: str, argument: str = "TARGET") -> Mistake:
    """A network that computes scores `y` of the rows `x` and then does `line`."""
    body = "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.body = nn.Linear(4, 3)\n"
    body += f"    def forward(self, x):\n        y = self.body(x)\n        {line}\n"
    return network(name, body + "def build():\n    return Net()\n", pattern, argument)


def rows(name: str, body: str, pattern: str) -> Mistake:
    """Test data made by code."""
    return Mistake(name, examine(*WEIGHTS, "--test", "own.py:data"), "--test", pattern, code(body))


def code(body: str) -> Callable[[], object]:
    return write("own.py", HEAD + body)


def returns(what: str) -> str:
    return f"def build():\n    return {what}\n"


def part(kind: str) -> str:
    return f"def build():\n    net = nn.Linear(4, 3)\n    net.part = nn.Parameter({kind}, requires_grad=False)\n    return net\n"


STREAM = "class Stream(IterableDataset):\n    def __iter__(self):\n        for i in range(60):\n            {}\n            yield torch.ones(4), i % 3\n"
MISTAKES = (
    network("a word for a network", returns("'net'"), "an object of type str"),
    network("NaN without weights", "def build():\n    net = nn.Linear(4, 3)\n    net.weight.data[1, 2] = float('nan')\n    return net\n", "1 values in 'weight' that are NaN"),
    network("an infinite buffer", "def build():\n    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))\n    net[1].running_var[0] = float('inf')\n    return net\n", "1 values in '1.running_var'"),
    network("outputs too large", "def build():\n    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))\n    [p.data.fill_(1e30) for p in net.parameters()]\n    return net\n", "outputs that are NaN or infinite"),
    network("a lazy layer", returns("nn.LazyLinear(3)"), "'weight', a lazy one"),
    network("a lazy buffer", returns("nn.LazyBatchNorm1d(affine=False)"), "buffer 'running_mean', not initialized"),
    network("no values", returns("nn.Linear(4, 3, device='meta')"), "on the meta device"),
    network("a buffer without values", "def build():\n    net = nn.Linear(4, 3)\n    net.register_buffer('mask', torch.ones(3, device='meta'))\n    return net\n", "buffer 'mask', on the meta device"),
    network("whole-number weights", part("torch.zeros(2, dtype=torch.int8)"), "'part', of dtype torch.int8"),
    network("float8 weights", part("torch.zeros(2).to(torch.float8_e4m3fn)"), "float8"),
    network("complex weights", returns("nn.Linear(4, 3, dtype=torch.complex64)"), "complex dtype"),
    network("TorchScript", "import warnings\ndef build():\n    with warnings.catch_warnings():\n        warnings.simplefilter('ignore')\n        return torch.jit.script(nn.Linear(4, 3))\n", "with TorchScript"),
    network("no copies", "class Net(nn.Linear):\n    def __deepcopy__(self, memo):\n        raise TypeError('mine')\ndef build():\n    return Net(4, 3)\n", "cannot be deep-copied .TypeError: mine"),
    network("an embedding that edits", "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.table = nn.Embedding(9, 3, max_norm=0.1)\n    def forward(self, x):\n        return self.table(x.abs().long().clamp(max=8)[:, 0])\ndef build():\n    return Net()\n", "edits its parameter 'table.weight'"),
    forward("an output of words", "return [str(v) for v in y]", "an output of type list"),
    forward("a scalar output", "return y.mean()", r"an output of shape \(\) for 8 rows"),
    forward("no batch axis", "return y.T", r"an output of shape \(3, 8\) for 8 rows"),
    forward("labels for scores", "return y.argmax(1)", "an output of dtype torch.int64"),
    forward("a forward pass that raises", "raise AttributeError('mine')", "a forward pass that fails.*AttributeError: mine|rows of shape.*AttributeError: mine", "--train"),
    Mistake("other names of weights", examine("--weights", "bad.safetensors", *DATA), "--weights", "unexpected .'head.bias'", weights(lambda s: s.update({"head.bias": s.pop("2.bias")}))),
    Mistake("float64 weights too large", examine("--weights", "bad.safetensors", *DATA), "--weights", "values of torch.float64 too large for torch.float32", weights(lambda s: s.update({"2.bias": s["2.bias"].double() * 1e300}))),
    Mistake("a row whose outputs are too large", examine("--test", "bad.npz", target="own.py:build"), "TARGET", "infinite in float32 on 1 of 20 rows of the test data, first on row 13; wanted finite outputs", lambda: (
        code("def build():\n    net = nn.Linear(4, 3)\n    net.weight.data.fill_(100)\n    return net\n")(), arrays(np.where(np.arange(80).reshape(20, 4) == 53, np.float32(1e37), GOOD_X), GOOD_Y)())),
    rows("an empty loader", "def data():\n    return DataLoader(TensorDataset(torch.ones(0, 4), torch.ones(0)))\n", "0 rows"),
    rows("triples", "def data():\n    return DataLoader(TensorDataset(torch.ones(6, 4), torch.ones(6), torch.ones(6)))\n", "3 parts; wanted batches .inputs, targets."),
    rows("named without labels", "class Rows(Dataset):\n    def __len__(self): return 6\n    def __getitem__(self, i): return {'a': 1.0, 'b': 2.0}\ndef data():\n    return Rows()\n", "with the entries 'a', 'b'"),
    rows("a loader that raises", STREAM.format("if i == 33: raise OSError('no image')") + "def data():\n    return DataLoader(Stream(), batch_size=10)\n", "fails after 3 batches .OSError: no image"),
    rows("a worker that dies", STREAM.format("os._exit(1) if i == 33 else None") + "def data():\n    return DataLoader(Stream(), batch_size=10, num_workers=1)\n", "fails after . batches .(RuntimeError: DataLoader worker|ConnectionResetError|EOFError)"),
    rows("ragged rows", STREAM.format("yield torch.ones(5), 1") + "def data():\n    return DataLoader(Stream(), batch_size=1)\n", r"rows of \[5\] float32.*from row 1 on"),
    rows("another stream each time", STREAM.format("yield torch.randn(4), 1") + "def data():\n    return Stream()\n", "that differ"),
)  # fmt: skip
