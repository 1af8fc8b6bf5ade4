"""Reading what `torch.save` wrote: looked through before torch sees it, never unpickled freely.

`torch.load(weights_only=True)` refuses most code, yet lets through deflated archives, calls such
as `bytearray(2**40)`, sparse and quantized tensors. The archive's listing and the names in its
pickle are therefore read first, without executing any of it.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from whynet.core.errors import InputError
from whynet.models.load.wording import listing, printable, quoted

WANTED = "a state dict: torch.save(model.state_dict(), path), or safetensors"
_PICKLE_LIMIT = 8 * 2**20
_ENTRIES_LIMIT = 100_000
_HARMLESS = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "builtins.set",
        "__builtin__.set",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        *(f"torch.{name}Storage" for name in ("Double", "Float", "Half", "BFloat16", "Bool")),
        *(f"torch.{name}Storage" for name in ("Long", "Int", "Short", "Char", "Byte")),
        *(f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "bool")),
        *(f"torch.{name}" for name in ("int64", "int32", "int16", "int8", "uint8")),
    }
)
_WORDS = {
    "sparse": "a sparse tensor",
    "qtensor": "a quantized tensor",
    "QInt": "a quantized tensor",
    "QUInt": "a quantized tensor",
    "Complex": "a complex tensor",
    "nested": "a nested tensor",
    "meta_tensor": "a tensor without values",
    "from_type": "a tensor of a special class",
    "wrapper_subclass": "a tensor of a special class",
    "_rebuild_": "a tensor of a special kind",
}
_BY_STACK = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"})


def read_torch_archive(path: Path, argument: str) -> Any:
    """Return what a zip written by `torch.save` holds: plain containers and mapped tensors.

    Raises:
        InputError: it is no such archive, is damaged, or holds more than tensors and plain data.

    """
    _check_archive(path, argument)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(str(path), weights_only=True, mmap=True, map_location="cpu")
    except Exception as error:  # a foreign file can make the loader raise anything
        raise InputError(
            argument,
            f"{quoted(path)}, which torch.load refuses ({printable(str(error), 120)})",
            WANTED,
        ) from error


def _check_archive(path: Path, argument: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members, argument)
            pickle = next(m for m in members if m.filename.endswith("/data.pkl"))
            content = archive.read(pickle)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            argument,
            f"{quoted(path)}, a damaged or truncated archive ({printable(str(error), 80)})",
            WANTED,
        ) from error
    _check_pickle(path, content, argument)


def _check_members(path: Path, members: list[zipfile.ZipInfo], argument: str) -> None:
    names = [member.filename for member in members]
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    found = ""
    if not members or len(members) > _ENTRIES_LIMIT or len(set(names)) < len(names):
        found = f"an archive of {len(members)} entries (none, repeated ones or too many)"
    elif any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        found = "a TorchScript archive"
    elif any(member.compress_type != zipfile.ZIP_STORED for member in members):
        found = "a compressed archive, which torch.save never writes"
    elif sum(member.file_size for member in members) > path.stat().st_size:
        found = "an archive that declares more bytes than the file has"
    elif min(member.header_offset for member in members) != 0:
        found = "an archive behind other bytes, which torch.save never writes"
    elif len(pickles) != 1:
        found = f"an archive with {len(pickles)} entries data.pkl, so not one of torch.save"
    elif pickles[0].file_size > _PICKLE_LIMIT:
        found = f"a structure of {pickles[0].file_size} bytes beside the tensors"
    if found:
        raise InputError(argument, f"{quoted(path)}, {found}", WANTED)


def _check_pickle(path: Path, content: bytes, argument: str) -> None:
    """Look through the instructions of a pickle for anything but tensors and plain data."""
    names = set()
    try:
        for operation, value, _ in pickletools.genops(content):
            if operation.name in _BY_STACK:
                names.add(f"{operation.name} instruction")
            elif operation.name == "GLOBAL":
                names.add(str(value).replace(" ", "."))
    except Exception as error:  # the reader raises many types for a damaged stream
        raise InputError(argument, f"{quoted(path)}, a damaged pickle", WANTED) from error
    strange = sorted(names - _HARMLESS)
    if not strange:
        return
    for mark, words in _WORDS.items():
        if any(name.startswith("torch.") and mark in name for name in strange):
            raise InputError(argument, f"{quoted(path)}, which holds {words}", "dense real tensors")
    if any(name.startswith("torch.nn.") for name in strange):
        found = "a whole pickled network, which is code; nothing of it was run"
        raise InputError(argument, f"{quoted(path)}, {found}", WANTED)
    raise InputError(
        argument,
        f"{quoted(path)}, a pickle that names code ({listing(strange, 3)}); nothing of it was run",
        WANTED,
    )
