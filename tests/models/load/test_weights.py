import io
import json
import os
import pickle
import resource
import struct
import tarfile
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from whynet.core.errors import InputError
from whynet.models.load.weights import load_weights

MARKER = "whynet_marker_was_here"


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return dict(other.state_dict())


def assert_loaded(module: nn.Module, wanted: dict[str, torch.Tensor]) -> None:
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


class TestWhatLoads:
    def test_torch_and_safetensors(self, tmp_path):
        torch.save(state(), tmp_path / "w.pt")
        save_file(state(), tmp_path / "w.safetensors")
        for name in ("w.pt", "w.safetensors"):
            module = network()
            assert load_weights(tmp_path / name, module) == ()
            assert_loaded(module, state())
            assert all(p.requires_grad for p in module.parameters())

    @pytest.mark.parametrize("key", ["state_dict", "model"])
    def test_a_checkpoint_around_it(self, tmp_path, key):
        module = network()
        sgd = torch.optim.Adam(module.parameters()).state_dict()
        torch.save({"epoch": 3, key: OrderedDict(state()), "optimizer": sgd}, tmp_path / "w.pt")
        (note,) = load_weights(tmp_path / "w.pt", module)
        assert repr(key) in note
        assert_loaded(module, state())

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
    def test_prefixes(self, tmp_path, prefix):
        module = network()
        torch.save({prefix + k: v for k, v in state().items()}, tmp_path / "w.pt")
        (note,) = load_weights(tmp_path / "w.pt", module)
        assert prefix in note
        assert_loaded(module, state())

    def test_casts_are_noted(self, tmp_path):
        module = network()
        torch.save(
            {k: v.double() if v.is_floating_point() else v for k, v in state().items()},
            tmp_path / "w.pt",
        )
        assert load_weights(tmp_path / "w.pt", module) == (
            "Weights kept as float64 were cast to float32.",
        )
        assert_loaded(module, state())

    def test_tied_parameters(self, tmp_path):
        def tied():
            module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
            module[1].weight = module[0].weight
            return module

        whole = tied().state_dict()
        torch.save(whole, tmp_path / "w.pt")
        once = {k: v.clone() for k, v in whole.items() if k != "1.weight"}
        save_file(once, tmp_path / "w.safetensors")
        for name in ("w.pt", "w.safetensors"):
            module = tied()
            load_weights(tmp_path / name, module)
            assert module[1].weight is module[0].weight
            assert torch.equal(module[1].weight, whole["0.weight"])
        torch.save({k: v + (k == "1.weight") for k, v in whole.items()}, tmp_path / "w.pt")
        with pytest.raises(InputError, match=r"different values for '0\.weight' and '1\.weight'"):
            load_weights(tmp_path / "w.pt", tied())

    def test_views_into_one_storage(self, tmp_path):
        flat = torch.randn(12)
        torch.save({"weight": flat[:8].view(2, 4), "bias": flat[8:10]}, tmp_path / "w.pt")
        module = nn.Linear(4, 2)
        load_weights(tmp_path / "w.pt", module)
        assert torch.equal(module.bias, flat[8:10])


class Code:
    def __reduce__(self):
        return os.system, (f"touch {MARKER}",)


def save(content, path, **kwargs):
    torch.save(content, path, **kwargs)


def changed(**entries):
    return {**state(), **{k.replace("_", ".", 1): v for k, v in entries.items()}}


def deflated(path):
    torch.save(state(), path)
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith("data/0"):
                content = b"\0" * 2**28
            target.writestr(member.filename, content)
    path.write_bytes(bomb.getvalue())


def repickled(path, content: bytes):
    """Write a torch archive whose pickle is `content`."""
    torch.save(state(), path)
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for member in source.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            target.writestr(member.filename, content if is_pickle else source.read(member))
    path.write_bytes(out.getvalue())


def legacy_tar(path):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("storages"))


def script(path):
    torch.jit.save(torch.jit.script(network()), path)


def lying_safetensors(path):
    header = json.dumps({"0.weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * 4)


def sparse_out_of_range(path):
    indices = torch.tensor([[0, 10**12]])
    tensor = torch.sparse_coo_tensor(indices, torch.ones(2), (10**13,), check_invariants=False)
    torch.save(changed(**{"0_weight": tensor}), path)


def prepended(path):
    torch.save(state(), path)
    path.write_bytes(b"PK\x03\x04" + b"x" * 100 + path.read_bytes())


def truncated(path):
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:-200])


def cut_safetensors(path):
    save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-20])


def large(path):
    with path.open("wb") as stream:
        stream.truncate(2**31)


def reaching_beyond(path, numel):
    """A tensor of 2^40 entries, contiguous, over a storage that has (or claims) fewer."""

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if thing is Stored else None

    class Tensor:
        def __reduce__(self):
            arguments = (Stored, 0, (2**40,), (1,), False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    out = io.BytesIO()
    Pickler(out, protocol=2).dump({"0.weight": Tensor()})
    repickled(path, out.getvalue())


BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
STACKED = pickle.dumps(Code(), protocol=4)

HOSTILE = {
    "code in the archive": (lambda p: save(Code(), p), r"names code \('(posix|nt).system'\)"),
    "code, bare pickle": (
        lambda p: p.write_bytes(pickle.dumps(Code(), protocol=2)),
        r"bare pickle",
    ),
    "code by the stack": (lambda p: repickled(p, STACKED), r"names code \('STACK_GLOBAL"),
    "allocating call": (lambda p: repickled(p, BYTEARRAY), r"names code \('builtins.bytearray'\)"),
    "view beyond its storage": (
        lambda p: reaching_beyond(p, 12),
        r"which torch.load refuses \(Trying to resize",
    ),
    "storage that claims more than the file": (
        lambda p: reaching_beyond(p, 2**40),
        r"which torch.load refuses \(Trying to resize",
    ),
    "damaged pickle": (lambda p: repickled(p, b"\x80\x02X\xff"), r"damaged pickle"),
    "whole module": (lambda p: save(network(), p), r"a whole pickled network"),
    "TorchScript": (script, r"a TorchScript archive"),
    "old format": (
        lambda p: save(state(), p, _use_new_zipfile_serialization=False),
        r"bare pickle",
    ),
    "old tar": (legacy_tar, r"a tar archive"),
    "inflating archive": (deflated, r"a compressed archive"),
    "archive behind bytes": (prepended, r"behind other bytes"),
    "expanded view": (
        lambda p: save(changed(**{"0_weight": torch.zeros(1).expand(2**40)}), p),
        r"'0.weight' of shape \[1099511627776\]",
    ),
    "expanded view, right shape": (
        lambda p: save(changed(**{"0_weight": torch.zeros(1).expand(4, 3)}), p),
        r"'0.weight' as a view of fewer values",
    ),
    "overlapping view": (
        lambda p: save(changed(**{"0_weight": torch.zeros(6).as_strided((4, 3), (1, 1))}), p),
        r"'0.weight' as a view of fewer values",
    ),
    "sparse out of range": (sparse_out_of_range, r"holds a sparse tensor"),
    "quantized": (
        lambda p: save(
            changed(
                **{"0_weight": torch.quantize_per_tensor(torch.zeros(4, 3), 1, 0, torch.qint8)}
            ),
            p,
        ),
        r"holds a quantized tensor",
    ),
    "complex": (
        lambda p: save(changed(**{"0_weight": torch.zeros(4, 3, dtype=torch.complex64)}), p),
        r"holds a complex tensor",
    ),
    "meta": (
        lambda p: save(changed(**{"0_weight": torch.zeros(4, 3, device="meta")}), p),
        r"a tensor without values|on device meta",
    ),
    "integers for floats": (
        lambda p: save(changed(**{"0_weight": torch.zeros(4, 3, dtype=torch.int64)}), p),
        r"'0.weight' of dtype torch.int64; wanted dtype torch.float32",
    ),
    "integer keys": (
        lambda p: save(dict(enumerate(state().values())), p),
        r"key of type int \('0'\)",
    ),
    "no dict": (lambda p: save([torch.zeros(2)], p), r"an object of type list"),
    "dict of numbers": (lambda p: save({"0.weight": 3}, p), r"'0.weight' holding a int"),
    "text": (lambda p: p.write_text("e = 2.718\n"), r"a text file"),
    "empty": (lambda p: p.write_bytes(b""), r"an empty file"),
    "noise": (lambda p: p.write_bytes(bytes(range(256)) * 3), r"a file of unknown format"),
    "truncated": (truncated, r"damaged or truncated"),
    "NaN": (
        lambda p: save(changed(**{"0_bias": torch.tensor([1, float("nan"), float("inf"), 2])}), p),
        r"'0.bias' with 2 of 4 values NaN or infinite",
    ),
    "float64 overflow": (
        lambda p: save(changed(**{"0_bias": torch.full((4,), 1e300, dtype=torch.float64)}), p),
        r"'0.bias' with 4 values of torch.float64 too large for torch.float32",
    ),
    "wrong shape": (
        lambda p: save(changed(**{"0_weight": torch.zeros(3, 4)}), p),
        r"'0.weight' of shape \[3, 4\]; wanted shape \[4, 3\]",
    ),
    "other names": (
        lambda p: save({f"fc{i}.w": v for i, v in enumerate(state().values())}, p),
        r"8 tensors missing \('0.weight', .* and 3 more\) and 9 unexpected \('fc0.w'",
    ),
    "name with escapes": (
        lambda p: save(changed(**{"\x1b[31m\u202e": torch.zeros(1)}), p),
        r"1 unexpected \('\\x1b\[31m",
    ),
    "safetensors with a lying header": (lying_safetensors, r"damaged|header"),
    "safetensors cut": (cut_safetensors, r"damaged|header"),
    "safetensors with a huge header": (
        lambda p: p.write_bytes(struct.pack("<Q", 2**62) + b"{}" * 20),
        r"a header of 4611686018427387904 bytes",
    ),
    "too large a file": (large, r"of 2048 MiB for a network of 0.0 MiB"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.filterwarnings("ignore")
def test_hostile_files_are_refused_in_one_sentence(tmp_path, monkeypatch, case):
    write, sentence = HOSTILE[case]
    path = tmp_path / ("w.safetensors" if "safetensors" in case else "w.pt")
    write(path)
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    monkeypatch.chdir(tmp_path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=sentence) as caught:
        load_weights(path, module, argument="--weights")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 * 1024
    text = str(caught.value)
    assert text.startswith("--weights: found ")
    assert "; wanted " in text
    assert text.isprintable()
    assert not (tmp_path / MARKER).exists()
    assert_loaded(module, before)


def test_missing_files_and_other_arguments(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"^--init-weights: .*did you mean 'weights.pt'"):
        load_weights(tmp_path / "weigths.pt", network(), argument="--init-weights")
    with pytest.raises(InputError, match="the folder"):
        load_weights(tmp_path, network())


def test_a_state_dict_of_copies_is_noticed(tmp_path):
    class Copies(nn.Linear):
        def state_dict(self, *args, **kwargs):
            return {k: v.clone() for k, v in super().state_dict(*args, **kwargs).items()}

    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="gives copies"):
        load_weights(tmp_path / "w.pt", Copies(2, 3))


def test_missing_batch_counters_are_noted(tmp_path):
    torch.save({k: v for k, v in state().items() if "tracked" not in k}, tmp_path / "w.pt")
    (note,) = load_weights(tmp_path / "w.pt", network())
    assert "batch counters" in note
