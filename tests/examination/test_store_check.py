"""Arrays from anyone: what is no measurement is refused before a byte of it is read."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs import Zstd
from tests.examination.small import small_subject

from whynet.core.errors import StoreError
from whynet.core.store_check import check_store
from whynet.examination.examine import examine
from whynet.examination.folder import read_results, reference_path
from whynet.examination.verification import verify

ARRAY = "results.zarr/trained/fit/loss"
LABELS = "results.zarr/trained/fit/split"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An examination's folder, written once."""
    folder = tmp_path_factory.mktemp("store") / "a"
    examine(small_subject(), only=("fit",), seeds=0).save(str(folder))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path / "a")
    return tmp_path / "a"


def described(change: Callable[[dict], object], place: str = ARRAY) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def done(folder: Path) -> None:
        file = folder / place / "zarr.json"
        about = json.loads(file.read_bytes())
        change(about)
        file.write_text(json.dumps(about), encoding="utf-8")

    return done


def chunk(content: Callable[[bytes], bytes], place: str = ARRAY) -> Callable[[Path], None]:
    def done(folder: Path) -> None:
        part = next(path for path in (folder / place / "c").rglob("*") if path.is_file())
        part.write_bytes(content(part.read_bytes()))

    return done


BOMB = Zstd(level=3).encode(b"\0" * 2**30)
SKIPPED = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"abcd"


def pickles(about: dict) -> None:  # type: ignore[type-arg]
    about["codecs"] = [{"name": "numcodecs.pickle", "configuration": {}}]


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle codec": (described(pickles), r"codecs \['numcodecs.pickle'\]"),
    "unknown codec": (
        described(lambda a: a["codecs"].append({"name": "blosc", "configuration": {}})),
        r"codecs \['bytes', 'zstd', 'blosc'\]",
    ),
    "sharding": (
        described(lambda a: a.update(codecs=[{"name": "sharding_indexed", "configuration": {}}])),
        r"sharding_indexed",
    ),
    "objects": (described(lambda a: a.update(data_type="object")), r"dtype 'object'"),
    "structured dtype": (
        described(lambda a: a.update(data_type={"name": "structured", "configuration": {}})),
        r"dtype \{'name'",
    ),
    "raw dtype": (described(lambda a: a.update(data_type="r1073741824")), r"dtype 'r107"),
    "fixed-length text": (
        described(lambda a: a.update(data_type={"name": "fixed_length_utf32"})),
        r"dtype \{'name'",
    ),
    "huge shape": (described(lambda a: a.update(shape=[2**50])), r"numbers, of at most"),
    "huge chunk": (
        described(lambda a: a["chunk_grid"]["configuration"].update(chunk_shape=[2**40])),
        r"numbers, of at most",
    ),
    "negative shape": (described(lambda a: a.update(shape=[-3])), r"an axis of -3"),
    "shape of a float": (described(lambda a: a.update(shape=[1e300])), r"an axis of 1e\+300"),
    "other grid": (
        described(lambda a: a["chunk_grid"].update(name="rectilinear")),
        r"another way",
    ),
    "transformers": (
        described(lambda a: a.update(storage_transformers=[{"name": "x"}])),
        r"another way",
    ),
    "other node": (described(lambda a: a.update(node_type="thing")), r"type 'thing'"),
    "inflating chunk": (chunk(lambda _: BOMB), r"a chunk of 1,073,741,824 bytes"),
    "inflating second frame": (chunk(lambda old: old + BOMB), r"one whole Zstandard frame"),
    "inflating after a skipped frame": (chunk(lambda _: SKIPPED + BOMB), r"no Zstandard frame"),
    "inflating labels": (chunk(lambda _: BOMB, LABELS), r"a chunk of 1,073,741,824 bytes"),
    "labels that claim many": (
        chunk(lambda _: Zstd().encode(struct.pack("<II", 2**32 - 1, 3) + b"abc"), LABELS),
        r".",
    ),
    "cut chunk": (chunk(lambda old: old[:-4]), r"one whole Zstandard frame"),
    "no frame": (chunk(lambda _: b"hello, world"), r"no Zstandard frame"),
    "large chunk file": (
        lambda f: os.truncate(next((f / ARRAY / "c").rglob("0")), 2**33),
        r"a chunk of 8,589,934,592 bytes on disk",
    ),
    "long description": (
        described(lambda a: a["attributes"].update(words="x" * 2**21)),
        r"a description of",
    ),
    "deep description": (
        lambda f: (f / ARRAY / "zarr.json").write_text("[" * 10**5),
        r"RecursionError|JSONDecodeError",
    ),
    "no description": (lambda f: (f / ARRAY / "zarr.json").write_text("{}"), r"KeyError"),
    "list for a description": (lambda f: (f / ARRAY / "zarr.json").write_text("[]"), r"TypeError"),
    "a link": (lambda f: (f / ARRAY / "link").symlink_to("/etc/passwd"), r"a link or no plain"),
    "a pipe": (lambda f: os.mkfifo(f / ARRAY / "pipe"), r"a link or no plain file"),
    "many files": (lambda f: _many(f / ARRAY), r"files, of at most"),
}  # fmt: skip


def _many(place: Path) -> None:
    inside = place / "many"
    inside.mkdir()
    for number in range(100_001):
        os.close(os.open(inside / str(number), os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_store_is_one_sentence_in_bounded_memory(folder: Path, case: str) -> None:
    change, sentence = HOSTILE[case]
    change(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StoreError, match=sentence) as caught:
        read_results(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 * 1024
    assert str(caught.value).startswith("PATH: found results.zarr that cannot be read (")


def test_a_whole_store_is_read(folder: Path) -> None:
    check_store(folder / "results.zarr")
    assert np.isfinite(read_results(folder)["fit"].values("loss")).all()


@pytest.mark.parametrize("size", [0, 1, 50, 255, 256, 257, 65_791, 65_792, 100_000])
def test_sizes_of_sound_chunks_are_read_right(tmp_path: Path, size: int) -> None:
    for compressor in (None, "auto"):
        place = tmp_path / str(compressor)
        array = zarr.create_array(
            place, shape=(max(1, size),), dtype="uint8", compressors=compressor
        )
        array[:] = np.random.default_rng(0).integers(0, 256, max(1, size))
        check_store(place)


CHILD = """
import resource, sys
from pathlib import Path
from whynet.core.errors import StoreError
from whynet.examination.folder import read_results, reference_path
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_results(Path(sys.argv[1]))
except StoreError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


def test_the_bound_holds_in_a_process_of_its_own(folder: Path) -> None:
    chunk(lambda old: old + BOMB)(folder)
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 100 * 1024


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "", "a/b", "..", "A", "x" * 200])
def test_names_that_lead_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(StoreError, match=r"^PATH: found the reference .*; wanted a name such as"):
        reference_path(folder, name)
    manifest = folder / "manifest.toml"
    text = manifest.read_text(encoding="utf-8") + f"{json.dumps('reference ' + name)} = 'x'\n"
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"^PATH: found the reference "):
        verify(folder, target="digits-mlp", train="x", test="x")
