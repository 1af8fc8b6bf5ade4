import io
import struct
import sys
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from whynet.core.errors import InputError
from whynet.models.data import load_data
from whynet.models.data.csv import read_csv
from whynet.models.data.npz import read_npz
from whynet.models.data.parquet import read_parquet

RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(6, 2)), np.array([0, 1, 2, 0, 1, 2])
TABLE = "a,b,kind\n1,2.5,3\n-1e3,0,1\n"


def load(reference, **kwargs):
    said = []
    options = {"argument": "--test", "announce": said.append} | kwargs
    return load_data(str(reference), **options), said


def test_npz(tmp_path):
    for save in (np.savez, np.savez_compressed):
        for names in (("X", "y"), ("x", "Y")):
            save(tmp_path / "d.npz", **dict(zip(names, (X, Y), strict=True)), other=np.ones(1))
            examples, said = load(tmp_path / "d.npz")
            assert torch.equal(examples.take(range(6))[0], torch.from_numpy(X))
            assert examples.target_dtype == torch.int64
            assert said == []


def test_npz_of_arrays_that_the_network_is_called_with_by_name(tmp_path):
    mask = np.ones((6, 3), dtype=bool)
    np.savez(tmp_path / "d.npz", input_ids=np.arange(18).reshape(6, 3), mask=mask, labels=Y)
    examples, _ = load(tmp_path / "d.npz")
    inputs, targets = examples.take(range(6))
    assert set(inputs) == {"input_ids", "mask"} and inputs["input_ids"].shape == (6, 3)
    assert torch.equal(targets, torch.from_numpy(Y))


def test_npy_pairs_are_mapped(tmp_path):
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    examples, _ = load(f"{tmp_path / 'X.npy'},{tmp_path / 'y.npy'}")
    assert isinstance(examples._rows.inputs, np.memmap)
    assert torch.equal(examples.take(range(6))[1], torch.from_numpy(Y))


def test_csv_of_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeffa,b,kind\r\n1,2.5,3\r\n\r\n"-1e3", 0,1\r\n', encoding="utf-8")
    examples, _ = load(path, target="kind")
    x, y = examples.take([0, 1])
    assert x.tolist() == [[1, 2.5], [-1000, 0]]
    assert y.tolist() == [3, 1]
    assert y.dtype == torch.int64
    examples, _ = load(path, target="b")
    x, y = examples.take([0, 1])
    assert x.tolist() == [[1, 3], [-1000, 1]]
    assert y.tolist() == [2.5, 0]
    assert "'a', 'kind'" in examples.notes[0]


def test_csv_with_classes_as_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,kind\n1,"zebra, big"\n2,ant\n3,"zebra, big"\n')
    examples, _ = load(path, target="kind")
    assert examples.take(range(3))[1].tolist() == [1, 0, 1]
    assert "'ant' = 0, 'zebra, big' = 1" in examples.notes[0]


def test_csv_with_identifiers_is_noted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"id,kind\n{2**53 + 1},1\n")
    assert any("2^53" in note for note in load(path, target="kind")[0].notes)


def test_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    columns = {"a": [1, 2], "b": [0.5, 1.5], "flag": [True, False], "kind": ["u", "t"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    examples, _ = load(path, target="kind")
    x, y = examples.take([0, 1])
    assert x.tolist() == [[1, 0.5, 1], [2, 1.5, 0]]
    assert y.tolist() == [1, 0]
    with pytest.raises(
        InputError, match=r"column 'kind' of type .*string; wanted columns of numbers"
    ):
        load(path, target="a")


CODE = """
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
x, y = np.ones((4, 2)), np.zeros(4, dtype=int)
dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
def pair():
    return x, y
def loader():
    return DataLoader(dataset, batch_size=2, shuffle=True)
def nothing():
    pass
def word():
    return "x"
def fails():
    return open("/no/such/file")
"""


def test_python_sources(tmp_path):
    path = tmp_path / "data.py"
    path.write_text(CODE)
    hashes = set()
    for name in ("pair", "dataset", "loader"):
        examples, said = load(f"{path}:{name}")
        assert said == [f"running code from {path}"]
        hashes.add(examples.sha256)
    assert len(hashes) == 1
    with pytest.raises(InputError, match=r"^--test: found None from nothing\(\)"):
        load(f"{path}:nothing")
    with pytest.raises(InputError, match=r"^--test: found an object of type str"):
        load(f"{path}:word")
    with pytest.raises(InputError, match=r"FileNotFoundError: .*\(line 16 of 'data.py'\)"):
        load(f"{path}:fails")
    with pytest.raises(InputError, match=r"it defines pair\(\), loader\(\)"):
        load(path)


def save_npz(path, **entries):
    np.savez(path, **entries)


def lying_npz(path, shape, declared=None):
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        array, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    array.write(b"\0" * 16)
    targets = io.BytesIO()
    np.save(targets, Y)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", array.getvalue())
        archive.writestr("y.npy", targets.getvalue())


def truncated_npz(path):
    np.savez(path, X=X, y=Y)
    path.write_bytes(path.read_bytes()[:-40])


def corrupt_npz(path):
    np.savez_compressed(path, X=RNG.normal(size=(100, 5)), y=np.zeros(100))
    content = bytearray(path.read_bytes())
    content[200:260] = b"\xff" * 60
    path.write_bytes(content)


def npy(folder, x, y=Y):
    for name, content in (("X", x), ("y", y)):
        if isinstance(content, bytes):
            (folder / f"{name}.npy").write_bytes(content)
        else:
            np.save(folder / f"{name}.npy", content, allow_pickle=True)


def table(text):
    return lambda p: p.write_text(text)


OBJECTS = np.array([{}] * 6)
PAIR = "X.npy,y.npy"
BAD = {
    "missing": ("no.npz", None, None, r"no file "),
    "unknown": (
        "d.xyz",
        lambda p: p.write_text("x"),
        None,
        r"unknown kind '.xyz'; wanted one of data",
    ),
    "no suffix": ("d", lambda p: p.write_text("x"), None, r"unknown kind ''"),
    "folder": ("d.npz", lambda p: p.mkdir(), None, r"the folder"),
    "npz names": (
        "d.npz",
        lambda p: save_npz(p, x_train=X, y_train=Y),
        None,
        r"arrays 'x_train', 'y_t",
    ),
    "npz objects": (
        "d.npz",
        lambda p: save_npz(p, X=OBJECTS, y=Y),
        None,
        r"'X' in .*Python objects",
    ),
    "npz text": (
        "d.npz",
        lambda p: save_npz(p, X=X, y=np.array(["a"] * 6)),
        None,
        r"that are text",
    ),
    "npz no zip": ("d.npz", lambda p: p.write_text("hello"), None, r"damaged \(File is not a zip"),
    "npz cut": ("d.npz", truncated_npz, None, r"damaged"),
    "npz corrupt": ("d.npz", corrupt_npz, None, r"damaged"),
    "npz lies": (
        "d.npz",
        lambda p: lying_npz(p, (2**40, 8)),
        None,
        r"shape \[1099511627776, 8\] in",
    ),
    "npz negative": ("d.npz", lambda p: lying_npz(p, (-1, -2)), None, r"shape \[-1, -2\]|damaged"),
    "npz target": ("d.npz", lambda p: save_npz(p, X=X, y=Y), "y", r"^--target: found 'y' for"),
    "npy alone": ("X.npy", lambda p: npy(p.parent, X), None, r"one .npy file; wanted two files"),
    "npy missing": (f"{PAIR}", lambda p: np.save(p.parent / "X.npy", X), None, r"no file .*y.npy"),
    "npy objects": (PAIR, lambda p: npy(p.parent, OBJECTS), None, r"Python objects"),
    "npy pickle": (PAIR, lambda p: npy(p.parent, b"\x80\x04K\x01."), None, r"is no .npy file"),
    "npy cut": (PAIR, lambda p: npy(p.parent, b"\x93NUMPY\x01\x00v\x00{'descr'"), None, r"damaged"),
    "npy short": (
        PAIR,
        lambda p: npy(
            p.parent,
            np.lib.format.magic(1, 0)
            + struct.pack("<H", 60)
            + b"{'descr':'<f8','fortran_order':False,'shape':(1000000,3),}".ljust(59)
            + b"\n",
        ),
        None,
        r"damaged",
    ),
    "npy empty": (PAIR, lambda p: npy(p.parent, X[:0], Y[:0]), None, r"0 rows"),
    "npy NaN": (PAIR, lambda p: npy(p.parent, X * np.nan), None, r"12 values that are NaN"),
    "csv no target": (
        "t.csv",
        table(TABLE),
        None,
        r"^--target: found no target; .*'a', 'b', 'kind'",
    ),
    "csv other target": ("t.csv", table(TABLE), "knid", r"^--target: .*did you mean 'kind'"),
    "csv empty": ("t.csv", table(""), "a", r"an empty file"),
    "csv header": ("t.csv", table("a,b\n"), "a", r"0 rows"),
    "csv no header": ("t.csv", table("1,2\n3,4\n"), "a", r"numbers in the first row"),
    "csv twice": ("t.csv", table("a,b,a\n1,2,3\n"), "b", r"the column 'a' more than once"),
    "csv alone": ("t.csv", table("a\n1\n"), "a", r"no column beside the target"),
    "csv text": ("t.csv", table("a,b\n1,2\nx1,3\n"), "b", r"the text 'x1' in row 2 of column 'a'"),
    "csv missing": (
        "t.csv",
        table("a,b\n1,2\n,3\n"),
        "b",
        r"a missing cell \(''\) in row 2 of column 'a'",
    ),
    "csv NA": ("t.csv", table("a,b\n1,2\nNA,3\n"), "b", r"missing cell \('NA'\)"),
    "csv nan": ("t.csv", table("a,b\n1,2\nnan,3\n"), "b", r"NaN|missing"),
    "csv missing target": (
        "t.csv",
        table("a,b\n1,u\n2,\n"),
        "b",
        r"missing cell .* row 2 of column 'b'",
    ),
    "csv mixed target": (
        "t.csv",
        table("a,b\n1,5\n2,u\n"),
        "b",
        r"the text 'u' in row 2 of column 'b'",
    ),
    "csv semicolons": (
        "t.csv",
        table("a;b\n1,5;2\n"),
        "b",
        r"semicolons between columns; wanted commas",
    ),
    "csv tabs": ("t.csv", table("a\tb\n1\t2\n"), "b", r"tabs between columns"),
    "csv comma": ("t.csv", table('a,b\n"1,5",2\n'), "b", r"decimal comma of '1,5' in row 1"),
    "csv ragged": ("t.csv", table("a,b\n1,2\n1,2,3\n"), "b", r"3 cells in row 2 under 2 columns"),
    "csv binary": (
        "t.csv",
        lambda p: p.write_bytes(b"a,b\n\xff\xfe,1\n"),
        "b",
        r"wanted a table of text",
    ),
    "csv long cell": ("t.csv", table("a,b\n1," + "x" * 200_000), "b", r"field larger than"),
    "parquet damaged": ("t.parquet", table("PAR1 no"), "a", r"which is damaged"),
    "parquet target": (
        "t.parquet",
        lambda p: pyarrow.parquet.write_table(pyarrow.table({"a": [1], "b": [2]}), p),
        "c",
        r"^--target: found no column 'c'",
    ),
    "parquet missing": (
        "t.parquet",
        lambda p: pyarrow.parquet.write_table(pyarrow.table({"a": [1, None], "b": [2, 3]}), p),
        "b",
        r"1 missing cells in column 'a'",
    ),
    "parquet empty": (
        "t.parquet",
        lambda p: pyarrow.parquet.write_table(pyarrow.table({"a": [1], "b": [2]}).slice(0, 0), p),
        "b",
        r"0 rows",
    ),
    "parquet lists": (
        "t.parquet",
        lambda p: pyarrow.parquet.write_table(pyarrow.table({"a": [[1]], "b": [2]}), p),
        "b",
        r"the column 'a' of type list",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_sentence(tmp_path, monkeypatch, case):
    name, write, target, sentence = BAD[case]
    monkeypatch.chdir(tmp_path)
    if write is not None:
        write(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=sentence) as caught:
        load(name, target=target)
    text = str(caught.value)
    assert caught.value.argument in ("--test", "--target")
    assert text.startswith(f"{caught.value.argument}: found ")
    assert "; wanted " in text
    assert text.isprintable()
    assert sorted(tmp_path.rglob("*")) == before


def test_declared_sizes_are_limited_before_reading(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", X=np.zeros((1000, 1000)), y=np.zeros(1000))
    with pytest.raises(InputError, match=r"^--train: .*which declares 0\.0 GiB; wanted at most"):
        read_npz(tmp_path / "d.npz", "--train", limit=10**6)
    (tmp_path / "t.csv").write_text(TABLE)
    with pytest.raises(InputError, match="declares"):
        read_csv(tmp_path / "t.csv", "--train", "a", limit=10)
    pyarrow.parquet.write_table(
        pyarrow.table({"a": [1] * 100, "b": [2] * 100}), tmp_path / "t.parquet"
    )
    with pytest.raises(InputError, match="declares"):
        read_parquet(tmp_path / "t.parquet", "--train", "a", limit=10)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"pip install 'whynet\[parquet\]'"):
        load(tmp_path / "t.parquet", target="a")
