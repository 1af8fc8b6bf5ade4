import itertools
import math

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from whynet.core.errors import InputError
from whynet.models.data import Examples

CPU = torch.device("cpu")


def arrays(rows=10, width=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, width)), rng.integers(0, 4, rows)


def collected(examples, batch_size, dtype=torch.float32):
    pairs = list(examples.batches(batch_size, device=CPU, dtype=dtype))
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class Stream(IterableDataset):
    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return iter(self.make())


def every_source():
    inputs, targets = arrays()
    dataset = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))
    rows = [(torch.from_numpy(x), int(y)) for x, y in zip(inputs, targets, strict=True)]
    return {
        "numpy": Examples.from_arrays(inputs, targets),
        "torch": Examples.from_any((torch.from_numpy(inputs), torch.from_numpy(targets))),
        "lists": Examples.from_arrays(inputs.tolist(), targets.tolist()),
        "fortran": Examples.from_arrays(np.asfortranarray(inputs), targets[::-1][::-1]),
        "big-endian": Examples.from_arrays(inputs.astype(">f8"), targets.astype(">i8")),
        "dataset": Examples.from_any(dataset),
        "rows": Examples.from_dataset(Rows(rows)),
        "loader": Examples.from_any(DataLoader(dataset, batch_size=4, drop_last=True)),
        "stream": Examples.from_any(DataLoader(Stream(lambda: rows), batch_size=3)),
        "bare stream": Examples.from_any(Stream(lambda: rows)),
        "subset": Examples.from_arrays(
            np.concatenate([inputs[::-1], inputs]), np.concatenate([targets[::-1], targets])
        ).subset(range(10, 20)),
    }


def test_every_source_gives_the_same_rows_hash_and_range():
    inputs, targets = arrays()
    hashes = set()
    for name, examples in every_source().items():
        assert examples.count == 10, name
        for batch_size in (1, 4, 100):
            x, y = collected(examples, batch_size, torch.float64)
            assert torch.equal(x, torch.from_numpy(inputs)), name
            assert torch.equal(y, torch.from_numpy(targets)), name
        sizes = [len(y) for _, y in examples.batches(4, device="cpu", dtype=torch.float32)]
        assert sizes == [4, 4, 2], name
        x, y = examples.take([7, 0, 7])
        assert torch.equal(x, torch.from_numpy(inputs[[7, 0, 7]])), name
        assert torch.equal(y, torch.from_numpy(targets[[7, 0, 7]])), name
        part = examples.subset([5, 2, 9]).subset(torch.tensor([2, 0]))
        assert torch.equal(part.take([0, 1])[0], torch.from_numpy(inputs[[9, 5]])), name
        assert part.count == 2
        assert part.feature_range() == (inputs[[9, 5]].min(), inputs[[9, 5]].max())
        assert examples.input_shape == (3,)
        assert examples.target_shape == ()
        assert (examples.input_dtype, examples.target_dtype) == (torch.float64, torch.int64)
        assert examples.is_float
        assert examples.feature_range() == (inputs.min(), inputs.max()), name
        hashes.add(examples.sha256)
    assert len(hashes) == 1


def test_the_hash_depends_on_content_dtype_shape_and_order():
    inputs, targets = arrays()
    changed = inputs.copy()
    changed[3, 1] += 1e-12
    variants = [
        (inputs, targets),
        (changed, targets),
        (inputs.astype(np.float32), targets),
        (inputs[::-1], targets),
        (inputs[:, None], targets),
        (inputs, targets[::-1]),
        ((inputs,), targets),
        ({"a": inputs}, targets),
        ({"b": inputs}, targets),
    ]
    assert len({Examples.from_arrays(x, y).sha256 for x, y in variants}) == len(variants)


def test_batches_are_copies_and_examples_frozen():
    inputs, targets = torch.zeros(4, 2), torch.zeros(4)
    examples = Examples.from_arrays(inputs, targets)
    for x, y in examples.batches(2, device=CPU, dtype=torch.float32):
        x.add_(1)
        y.add_(1)
    assert not inputs.any()
    assert not targets.any()
    with pytest.raises(AttributeError):
        examples.count = 3


def test_dtypes_that_reach_the_network():
    labels = np.zeros(4, dtype=np.uint8)
    images = Examples.from_arrays(np.full((4, 2, 2), 255, dtype=np.uint8), labels)
    x, y = collected(images, 4)
    assert x.dtype == torch.float32
    assert x.max() == 255
    assert y.dtype == torch.int64
    assert "not divided by 255" in images.notes[0]
    assert images.is_float
    assert images.feature_range() == (255, 255)
    tokens = Examples.from_arrays(np.ones((4, 5), dtype=np.int32), labels)
    x, _ = collected(tokens, 4)
    assert x.dtype == torch.int64
    assert "tokens" in tokens.notes[0]
    assert not tokens.is_float
    with pytest.raises(ValueError, match="feature range"):
        tokens.feature_range()
    flags = Examples.from_arrays(np.ones((4, 5), dtype=bool), np.ones(4, dtype=bool))
    x, y = collected(flags, 4)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    wide = Examples.from_arrays(np.ones((4, 5), dtype=np.uint16), np.ones(4, dtype=np.float64))
    x, y = collected(wide, 4)
    assert (x.dtype, y.dtype) == (torch.int64, torch.float32)
    half = Examples.from_arrays(torch.ones(4, 5, dtype=torch.bfloat16), labels)
    assert collected(half, 4)[0].dtype == torch.float32
    assert half.take([0])[0].dtype == torch.bfloat16


def test_tokens_with_masks():
    tokens, mask = np.arange(12).reshape(4, 3), np.ones((4, 3), dtype=bool)
    for inputs in ({"input_ids": tokens, "attention_mask": mask}, (tokens, torch.from_numpy(mask))):
        examples = Examples.from_arrays(inputs, tokens)
        x, y = examples.take([1, 2])
        parts = list(x.values()) if isinstance(x, dict) else list(x)
        assert type(x) is type(inputs)
        assert [part.dtype for part in parts] == [torch.int64, torch.bool]
        assert torch.equal(parts[0], y)
        assert examples.input_shape is None
        assert not examples.is_float
    rows = [
        {"input_ids": torch.tensor(t), "mask": torch.tensor(m), "labels": 1}
        for t, m in zip(tokens, mask, strict=True)
    ]
    for examples in (Examples.from_dataset(Rows(rows)), Examples.from_any(Stream(lambda: rows))):
        ((x, y),) = examples.batches(9, device=CPU, dtype=torch.float32)
        assert sorted(x) == ["input_ids", "mask"]
        assert y.tolist() == [1] * 4
        assert examples.subset([3, 1]).take([0])[0]["input_ids"].tolist() == [tokens[3].tolist()]
    single = [{"image": torch.ones(2), "label": 0}] * 3
    assert Examples.from_dataset(Rows(single)).input_shape == (2,)


def test_a_mapped_file_is_not_read_as_a_whole(tmp_path):
    np.save(tmp_path / "x.npy", arrays(1000)[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    examples = Examples.from_arrays(mapped, np.zeros(1000))
    assert examples._rows.inputs is mapped
    assert torch.equal(examples.take([999])[0], torch.from_numpy(mapped[999:].copy()))


def test_loaders_that_shuffle_or_pick():
    inputs, targets = arrays()
    dataset = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))
    shuffled = Examples.from_loader(DataLoader(dataset, batch_size=4, shuffle=True))
    assert torch.equal(collected(shuffled, 10, torch.float64)[0], torch.from_numpy(inputs))
    assert "shuffles" in shuffled.notes[0]
    part = Examples.from_loader(DataLoader(dataset, sampler=SubsetRandomSampler([7, 2])))
    assert torch.equal(collected(part, 10, torch.float64)[0], torch.from_numpy(inputs[[2, 7]]))
    subset = Examples.from_loader(DataLoader(Subset(dataset, [7, 2])))
    assert torch.equal(collected(subset, 10, torch.float64)[0], torch.from_numpy(inputs[[7, 2]]))
    weighted = DataLoader(dataset, sampler=WeightedRandomSampler([1.0] * 10, 5))
    assert Examples.from_loader(weighted).count == 10
    with pytest.raises(InputError, match="picks 3 rows of 10"):
        Examples.from_loader(DataLoader(dataset, sampler=[1, 2, 3]))
    with pytest.raises(InputError, match="list picks 3 rows of 10"):
        Examples.from_loader(DataLoader(dataset, batch_sampler=[[1, 2], [3]]))
    whole = Examples.from_loader(
        DataLoader(Rows([(torch.ones(5, 2), torch.ones(5))] * 2), batch_size=None)
    )
    assert whole.count == 10


def test_a_collate_function_of_the_user():
    def collate(rows):
        return torch.stack([x for x, _ in rows]) * 2, torch.tensor([y for _, y in rows])

    loader = DataLoader(Rows([(torch.ones(2), 1)] * 3), collate_fn=collate)
    assert collected(Examples.from_loader(loader), 2)[0].tolist() == [[2.0, 2.0]] * 3


def test_random_states_of_the_user_stay(capsys):
    before = torch.get_rng_state()
    Examples.from_dataset(TensorDataset(torch.ones(3, 2), torch.ones(3)))
    assert torch.equal(torch.get_rng_state(), before)


class Fails(Rows):
    def __getitem__(self, index):
        if index == 2:
            raise OSError("no such image")
        return super().__getitem__(index)


class Random(Rows):
    def __getitem__(self, index):
        return torch.rand(2), 1


def one_pass_only():
    rows = iter([(torch.ones(2), 1)] * 3)
    return Stream(lambda: rows)


X, Y = arrays()
NAN = X.copy()
NAN[3, 1], NAN[7, 2] = np.nan, -np.inf
OK = (torch.ones(2), 1)
RAGGED = [(torch.ones(2), 1), (torch.ones(3), 1)]

BAD = {
    "no rows": (lambda: (X[:0], Y[:0]), r"0 rows; wanted at least one row"),
    "lengths": (lambda: (X, Y[:9]), r"10 rows of inputs and 9 of targets"),
    "lengths in a dict": (lambda: ({"a": X, "b": X[:3]}, Y), r"3 rows of inputs of 'b' and 10"),
    "NaN": (lambda: (NAN, Y), r"2 values that are NaN or infinite, the first at \(3, 1\)"),
    "NaN in a tensor": (lambda: (torch.from_numpy(NAN), Y), r"2 values that are NaN"),
    "NaN in targets": (lambda: (X, np.full(10, np.nan)), r"10 values of 'targets' that are NaN"),
    "objects": (lambda: (np.array([{}] * 10), Y), r"inputs that are Python objects"),
    "ragged": (lambda: ([[1], [2, 3]], Y), r"inputs that are Python objects"),
    "text": (lambda: (X, np.array(["a"] * 10)), r"targets that are text"),
    "bytes": (lambda: (X, np.array([b"a"] * 10)), r"targets that are bytes"),
    "dates": (lambda: (np.zeros((10, 1), "M8[s]"), Y), r"inputs that are dates"),
    "complex": (lambda: (X + 1j, Y), r"inputs that are complex"),
    "complex tensor": (lambda: (torch.ones(10, dtype=torch.complex64), Y), r"complex64"),
    "sparse": (lambda: (torch.eye(10).to_sparse(), Y), r"tensors of layout torch.sparse_coo"),
    "meta": (lambda: (torch.ones(10, 2, device="meta"), Y), r"on meta"),
    "scalar": (lambda: (np.float64(3), Y), r"inputs without an axis"),
    "empty rows": (lambda: (np.ones((10, 0)), Y), r"rows of shape \[0\]"),
    "masked": (lambda: (np.ma.masked_greater(X, 0), Y), r"masked entries"),
    "huge": (
        lambda: (np.full((10, 1), 2**64 - 1, dtype=np.uint64), Y),
        r"up to 18446744073709551615",
    ),
    "one array": (lambda: X, r"an object of type ndarray; wanted a pair"),
    "triple": (lambda: (X, Y, Y), r"of type tuple of 3 parts"),
    "dict": (lambda: {"X": X}, r"an object of type dict"),
    "empty dataset": (lambda: Rows([]), r"0 rows"),
    "dataset that fails": (
        lambda: Fails([OK] * 3),
        r"fails at row 2 of 3 \(OSError: no such image\)",
    ),
    "dataset of triples": (lambda: Rows([(*OK, 1)] * 3), r"batches of type list of 3 parts"),
    "dataset without targets": (lambda: TensorDataset(torch.ones(3)), r"list of 1 parts"),
    "dataset of text": (lambda: Rows([("a", 1)] * 3), r"inputs or targets of type str"),
    "dataset of dicts": (lambda: Rows([{"a": 1, "b": 2}] * 3), r"with the entries 'a', 'b'"),
    "ragged dataset": (lambda: Rows(RAGGED), r"cannot be collated .*stack"),
    "random rows": (lambda: Random([OK] * 3), r"rows that differ between two reads"),
    "ragged stream": (
        lambda: DataLoader(Stream(lambda: RAGGED), batch_size=1),
        r"rows of \[2\] float32, \[\] int64 and, from row 1 on, of \[3\] float32",
    ),
    "one pass": (one_pass_only, r"0 rows"),
    "shuffled stream": (
        lambda: Stream(lambda: [(torch.ones(2), int(i)) for i in torch.randperm(50)]),
        r"a stream of 50 rows, then of 50, that differ",
    ),
    "failing stream": (
        lambda: Stream(lambda: (OK if i < 300 else 1 / 0 for i in range(400))),
        r"a loader that fails after \d+ batches \(ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_one_sentence(case):
    make, sentence = BAD[case]
    with pytest.raises(InputError, match=sentence) as caught:
        Examples.from_any(make(), argument="--train")
    text = str(caught.value)
    assert text.startswith("--train: found ")
    assert "; wanted " in text
    assert text.isprintable()


def test_endless_streams_are_refused():
    loader = DataLoader(Stream(lambda: itertools.repeat(OK)), batch_size=50)
    with pytest.raises(InputError, match="still going on after 1000 rows"):
        Examples.from_loader(loader, "--train", cap=1000)
    empty = Stream(lambda: itertools.repeat((torch.ones(0, 2), torch.ones(0))))
    with pytest.raises(InputError, match="still going on"):
        Examples.from_loader(DataLoader(empty, batch_size=None), "--train", cap=1000)


def test_numbers_too_large_for_the_precision():
    examples = Examples.from_arrays(np.full((3, 2), -1e300), np.zeros(3), "--test")
    with pytest.raises(InputError, match=r"^--test: found numbers up to 1e\+300"):
        next(examples.batches(2, device=CPU, dtype=torch.float32))
    assert math.isfinite(float(next(examples.batches(2, device=CPU, dtype=torch.float64))[0].sum()))


@pytest.mark.parametrize("indices", [[], [10], [-1], [0.5], [[1]], [True, False]])
def test_rows_that_are_not_there(indices):
    examples = Examples.from_arrays(*arrays())
    with pytest.raises(IndexError):
        examples.take(indices)
