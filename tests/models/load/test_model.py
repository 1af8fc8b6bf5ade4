import copy
import random
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.architecture import describe_architecture
from whynet.models.load.model import load_model
from whynet.models.load.reference import is_code
from whynet.models.subject import Subject

HEAD = "import torch\nfrom torch import nn\n"


def write(folder: Path, text: str, name: str = "model.py") -> Path:
    path = folder / name
    path.write_text(HEAD + textwrap.dedent(text))
    return path


def load(reference: object, argument: str = "TARGET"):
    said: list[str] = []
    return load_model(str(reference), argument, announce=said.append), said


def test_a_function_is_called_and_announced(tmp_path):
    path = write(tmp_path, "def build():\n    return nn.Linear(2, 3)\n")
    loaded, said = load(f"{path}:build")
    assert isinstance(loaded.module, nn.Linear)
    assert said == [f"running code from {path}"]
    assert loaded.source == str(path)
    assert len(loaded.sha256) == 64
    assert loaded.notes == ()


def test_an_instance_and_a_class_without_arguments(tmp_path):
    path = write(
        tmp_path,
        """
        class Net(nn.Module):
            def __init__(self, width=3):
                super().__init__()
                self.fc = nn.Linear(2, width)
        net = Net()
        """,
    )
    assert load(f"{path}:net")[0].module.fc.out_features == 3
    assert load(f"{path}:Net")[0].module.fc.out_features == 3


def test_the_same_reference_builds_the_same_network_and_leaves_generators_alone(tmp_path):
    path = write(
        tmp_path,
        """
        import random, numpy, os
        def build():
            random.random(); numpy.random.rand(); os.chdir("/")
            torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)
            return nn.Linear(2, 3)
        """,
    )
    here = Path.cwd(), list(sys.path), sys.dont_write_bytecode
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = load(f"{path}:build")[0].module
    torch.rand(3)
    second = load(f"{path}:build")[0].module
    assert torch.equal(first.weight, second.weight)
    assert (Path.cwd(), list(sys.path), sys.dont_write_bytecode) == here
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    torch.set_rng_state(states[0])
    load(f"{path}:build")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


def test_siblings_are_found_and_never_hide_installed_packages(tmp_path, monkeypatch):
    for name in ("torch.py", "numpy.py", "xml.py", "colorsys.py"):
        (tmp_path / name).write_text("raise SystemExit('hostile')")
    (tmp_path / "blocks.py").write_text("WIDTH = 7")
    path = write(
        tmp_path,
        """
        import colorsys, xml, numpy
        from blocks import WIDTH
        def build():
            return nn.Linear(2, WIDTH)
        """,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert load("model.py:build")[0].module.out_features == 7
    assert load(f"{path}:build")[0].module.out_features == 7
    assert not (tmp_path / "__pycache__").exists()


def test_the_working_folder_is_not_on_the_path(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "only_here.py").write_text("")
    path = write(tmp_path, "import only_here\n")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with pytest.raises(InputError, match=r"^TARGET: found .*importing 'only_here'.*line 3"):
        load(f"{path}:build")


def test_two_folders_with_equally_named_siblings(tmp_path):
    widths = []
    for width in (3, 5):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "blocks.py").write_text(f"WIDTH = {width}")
        path = write(folder, "import blocks\ndef build():\n    return nn.Linear(2, blocks.WIDTH)\n")
        widths.append(load(f"{path}:build")[0].module.out_features)
    assert widths == [3, 5]


def test_a_module_of_a_package(tmp_path, monkeypatch):
    package = tmp_path / "somebodys_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    file = write(package, "def build():\n    return nn.Linear(2, 3)\n", "nets.py")
    monkeypatch.chdir(tmp_path)
    loaded, said = load("somebodys_package.nets:build")
    assert said == [f"running code from {file}"]
    assert loaded.source == str(file)
    with pytest.raises(InputError, match=r"no module 'somebodys_package\.nots'"):
        load("somebodys_package.nots:build")
    with pytest.raises(InputError, match="no module 'no_such_package_at_all'"):
        load("no_such_package_at_all:build")


@pytest.mark.filterwarnings("ignore")
def test_an_exported_program(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (inputs,), dynamic_shapes=({0: batch},))
    path = tmp_path / "model.pt2"
    torch.export.save(program, path)
    loaded, said = load(path)
    assert said == [f"running code from {path}"]
    module = loaded.module.eval()
    assert torch.allclose(module(inputs[:2]), net(inputs[:2]))
    assert len(loaded.sha256) == 64
    # As layers under their own names, so that it can be read, traced and copied.
    assert module.state_dict().keys() == net.state_dict().keys()
    assert describe_architecture(copy.deepcopy(module)) == "3–4–2 linear network"
    trained = Subject(module, train=(inputs, inputs[:, :2]), loss="mse")
    assert not isinstance(trained.graph, NotApplicable)
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match=r"^TARGET: found .*torch.export cannot load.*; wanted "):
        load(path)


class Kinds(nn.Module):
    """Operations that a program holds in another form than they were written in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.wide = nn.Linear(16, 12)
        self.layer_norm = nn.LayerNorm(4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.unused = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.gelu(self.norm(self.conv(x))).flatten(1)
        q, k, v = self.wide(hidden).view(-1, 3, 4)[:, :, :].chunk(3, 1)
        mixed = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        twice = self.tied(functional.silu(self.tied(self.layer_norm(mixed[:, 0]))))
        return self.head(twice[..., 0:4] + 1.0)


@pytest.mark.filterwarnings("ignore")
def test_an_exported_program_is_written_as_layers(tmp_path):
    net = Kinds().eval()
    inputs = torch.randn(5, 2, 4, 4)
    program = torch.export.export(net, (inputs,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "model.pt2")
    module = load(tmp_path / "model.pt2")[0].module
    assert torch.equal(module(inputs[:3]), net(inputs[:3]))
    assert module.state_dict().keys() == net.state_dict().keys()
    kinds = {name: type(child) for name, child in module.named_modules()}
    assert (kinds["conv"], kinds["wide"], kinds["head"]) == (nn.Conv2d, nn.Linear, nn.Linear)
    assert kinds["tied"] is not nn.Linear, "called twice on one weight: left as it is"


@pytest.mark.filterwarnings("ignore")
def test_a_program_of_several_results_stays_as_it_is(tmp_path):
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": x + 1, "other": x}

    inputs = torch.randn(5, 2)
    torch.export.save(torch.export.export(Two(), (inputs,)), tmp_path / "model.pt2")
    module = load(tmp_path / "model.pt2")[0].module
    assert type(module).__name__ == "ExportedNetwork"
    assert torch.equal(module(inputs)["logits"], inputs + 1)


WRAPPED = """
net = nn.Linear(2, 3)
parallel = nn.DataParallel(net)
compiled = torch.compile(net)
"""


@pytest.mark.filterwarnings("ignore")  # importing dynamo warns of its own
def test_wrappers_come_off_with_a_note(tmp_path):
    path = write(tmp_path, WRAPPED)
    loaded, _ = load(f"{path}:parallel")
    assert type(loaded.module) is nn.Linear
    assert "DataParallel" in loaded.notes[0]
    loaded, _ = load(f"{path}:compiled")
    assert type(loaded.module) is nn.Linear
    assert "torch.compile" in loaded.notes[0]


BAD_CODE = {
    "raises": ("def build():\n    x = 1\n    raise KeyError('no\\nsuch')\n", r"KeyError: 'no"),
    "line": ("def build():\n    return 1 / 0\n", r"ZeroDivisionError: .*\(line 4 of 'model.py'\)"),
    "at import": ("raise RuntimeError('early')\n", r"RuntimeError: early \(line 3"),
    "import": (
        "import no_such_module_x\n",
        r"importing 'no_such_module_x', which is not installed",
    ),
    "syntax": ("def build(:\n", r"a syntax error in line 3 of 'model.py'"),
    "null": ("x = '\0'\n", r"syntax error|null bytes"),
    "arguments": ("def build(width, *, depth):\n    pass\n", r"needs the arguments width, depth"),
    "class": ("def build():\n    return nn.ReLU\n", r"a class \(ReLU\); wanted an instance"),
    "none": ("def build():\n    nn.ReLU()\n", r"None from build\(\).*return statement missing"),
    "text": ("def build():\n    return 'x'\n", r"an object of type str from build\(\)"),
    "tuple": ("def build():\n    return nn.ReLU(), 1\n", r"an object of type tuple"),
    "coroutine": ("async def build():\n    return nn.ReLU()\n", r"an object of type coroutine"),
    "value": ("build = 3\n", r"an object of type int"),
    "exit": ("import sys\ndef build():\n    sys.exit(3)\n", r"calling sys.exit \(line 5"),
    "exit at import": ("raise SystemExit\n", r"calling sys.exit \(line 3"),
    "needy class": ("class build(nn.Module):\n    def __init__(self, w): ...\n", r"arguments w"),
    "lazy": ("def build():\n    return nn.LazyLinear(3)\n", r"'weight', a lazy one"),
    "lazy buffer": ("def build():\n    return nn.LazyBatchNorm1d(affine=False)\n", r"running_mean"),
    "meta": ("def build():\n    return nn.Linear(2, 3, device='meta')\n", r"on the meta device"),
    "complex": ("def build():\n    return nn.Linear(2, 3, dtype=torch.complex64)\n", r"complex64"),
    "integer": (
        "def build():\n    m = nn.Module()\n"
        "    m.w = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)\n"
        "    return m\n",
        r"'w', of dtype torch.int8 \(quantized or integer\)",
    ),
    "float8": (
        "def build():\n    m = nn.Module()\n"
        "    m.w = nn.Parameter(torch.zeros(2).to(torch.float8_e4m3fn), requires_grad=False)\n"
        "    return m\n",
        r"float8",
    ),
    "nested parallel": (
        "def build():\n    return nn.Sequential(nn.DataParallel(nn.ReLU()))\n",
        r"with DataParallel \('0' in it",
    ),
    "script": (
        "import warnings\ndef build():\n    with warnings.catch_warnings():\n"
        "        warnings.simplefilter('ignore')\n        return torch.jit.script(nn.ReLU())\n",
        r"with TorchScript",
    ),
    "quantized": (
        "class QLinear(nn.Module): pass\nQLinear.__module__ = 'torch.ao.nn.quantized'\n"
        "def build():\n    return nn.Sequential(QLinear())\n",
        r"with quantization",
    ),
}


@pytest.mark.parametrize("case", BAD_CODE)
def test_bad_code_is_one_sentence(tmp_path, case):
    code, sentence = BAD_CODE[case]
    path = write(tmp_path, code)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=sentence) as caught:
        load(f"{path}:build", argument="TARGET")
    text = str(caught.value)
    assert text.startswith("TARGET: found ")
    assert "; wanted " in text
    assert "\n" not in text
    assert caught.value.argument == "TARGET"
    assert sorted(tmp_path.rglob("*")) == before


def test_references_that_name_nothing(tmp_path):
    path = write(
        tmp_path,
        "raise RuntimeError\ndef build(): ...\ndef other(a): ...\nclass Net: ...\nn = 1\n",
    )
    with pytest.raises(InputError, match=r"\(it defines build\(\), other\(\), Net, n\)"):
        load(path)
    path = write(tmp_path, "def build_model():\n    pass\n")
    with pytest.raises(InputError, match=r"no name 'build_modle' .*did you mean 'build_model'"):
        load(f"{path}:build_modle")
    with pytest.raises(InputError, match=r"no file .*did you mean 'model.py'"):
        load(f"{tmp_path / 'modle.py'}:build")
    with pytest.raises(InputError, match=r"the folder"):
        (tmp_path / "folder.py").mkdir()
        load(f"{tmp_path / 'folder.py'}:build")
    with pytest.raises(InputError, match=r"'a b' after the colon"):
        load(f"{path}:a b")
    for name in ("w.pt", "w.safetensors", "w.ckpt", "w.pt:build"):
        with pytest.raises(InputError, match=r"model.py:build --weights w\."):
            load(name)
    for name in ("model.onnx", "", "x" * 400, "a\0b.pt2", "\x1b[31m"):
        with pytest.raises(InputError, match=r"^TARGET: found .*; wanted ") as caught:
            load(name)
        assert str(caught.value).isprintable()


def test_what_is_code():
    code = ["model.py:build", "model.py", "a.b:c", "model.pt2", "/x/y z.py:f"]
    data = ["mse", "data.npz", "X.npy,y.npy", "t.csv", "w.pt", "data.npz:X", "", "a/b", "a:b:c"]
    assert all(is_code(reference) for reference in code)
    assert not any(is_code(reference) for reference in data)
