"""Weights from a file into a network, checked before anything is copied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.load.paths import existing_file
from whynet.models.load.safetensors_file import is_safetensors, read_safetensors
from whynet.models.load.torch_archive import WANTED, read_torch_archive
from whynet.models.load.wording import listing, quoted

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
_SLACK = 64 * 2**20


def load_weights(
    path: str | os.PathLike[str], module: nn.Module, argument: str = "--weights"
) -> tuple[str, ...]:
    """Copy the weights of a file into a network; never runs code.

    Args:
        path: safetensors, or a state dict written by `torch.save`, possibly inside a checkpoint.
        module: the network; it is changed only where the whole file fits it.
        argument: name of the argument the path came from.

    Returns:
        Notes on what was done on the way, full sentences.

    Raises:
        InputError: the file is none of these, is damaged or hostile, or belongs to another
            network; names, shapes, dtypes, storages and values are checked first.

    """
    file = existing_file(path, argument, "a file of weights")
    wanted = {
        name: tensor
        for name, tensor in module.state_dict(keep_vars=True).items()
        if isinstance(tensor, Tensor)
    }
    _check_size(file, wanted, argument)
    notes: list[str] = []
    entries = _entries(_read(file, argument), wanted, notes, argument)
    entries = _without_prefix(entries, wanted, notes)
    _check_names(entries, wanted, module, notes, argument)
    parameters = {id(parameter) for parameter in module.parameters()}
    _check_widths(entries, wanted, file, argument)
    for name, tensor in entries.items():
        _check_tensor(name, tensor, wanted[name], id(wanted[name]) in parameters, argument)
    _check_ties(entries, wanted, argument)
    _note_casts(entries, wanted, notes)
    with torch.no_grad():
        for name, tensor in entries.items():
            wanted[name].copy_(tensor)
    _check_arrival(entries, module, argument)
    return tuple(notes)


def _check_size(file: Path, wanted: Mapping[str, Tensor], argument: str) -> None:
    """Refuse files far larger than network, optimizer and averages together."""
    size, network = file.stat().st_size, sum(t.numel() * t.element_size() for t in wanted.values())
    if size > 16 * network + _SLACK:
        raise InputError(
            argument,
            f"{quoted(file)} of {size / 2**20:.0f} MiB for a network of {network / 2**20:.1f} MiB",
            "the weights of this network",
        )


def _read(file: Path, argument: str) -> Any:
    with file.open("rb") as stream:
        start = stream.read(512)
    if is_safetensors(start, file):
        return read_safetensors(file, argument)
    if start.startswith(b"PK\x03\x04"):
        return read_torch_archive(file, argument)
    if start[257:262] == b"ustar":
        kind = "a tar archive (a format torch left in 2017)"
    elif start.startswith(b"\x80"):
        kind = "a bare pickle (older than torch 1.6, or of something else), which may hold code"
    elif not start:
        kind = "an empty file"
    elif start.isascii() and b"\x00" not in start:
        kind = "a text file"
    else:
        kind = "a file of unknown format"
    raise InputError(argument, f"{quoted(file)}, {kind}", WANTED)


def _entries(
    content: Any, wanted: Mapping[str, Tensor], notes: list[str], argument: str
) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise InputError(argument, f"an object of type {type(content).__name__}", WANTED)
    if not any(isinstance(value, Tensor) for value in content.values()) or not (
        content.keys() & wanted.keys()
    ):
        for key in _WRAPPERS:
            inner = content.get(key)
            if isinstance(inner, dict) and any(isinstance(v, Tensor) for v in inner.values()):
                notes.append(f"The weights were taken from the entry {key!r} of the checkpoint.")
                content = inner
                break
    for key, value in content.items():
        if not isinstance(key, str):
            raise InputError(
                argument, f"a key of type {type(key).__name__} ({quoted(key, 20)})", WANTED
            )
        if not isinstance(value, Tensor):
            raise InputError(
                argument, f"{quoted(key)} holding a {type(value).__name__}, not a tensor", WANTED
            )
    return dict(content)


def _without_prefix(
    entries: dict[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Take off what wrappers put before the names, where the names do not fit as they are."""
    taken = []
    while entries and not entries.keys() & wanted.keys():
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in entries)), None)
        if prefix is None:
            break
        taken.append(prefix)
        entries = {name.removeprefix(prefix): tensor for name, tensor in entries.items()}
    if any("_orig_mod." in name and name not in wanted for name in entries):
        renamed = {name.replace("_orig_mod.", ""): tensor for name, tensor in entries.items()}
        if len(renamed) == len(entries):
            taken.append("_orig_mod.")
            entries = renamed
    if taken:
        notes.append(f"The prefix {''.join(taken)!r} was taken off the names of the weights.")
    return entries


def _check_names(
    entries: dict[str, Tensor],
    wanted: Mapping[str, Tensor],
    module: nn.Module,
    notes: list[str],
    argument: str,
) -> None:
    given = {id(wanted[name]) for name in entries if name in wanted}
    missing = [name for name in wanted if name not in entries and id(wanted[name]) not in given]
    counters = [name for name in missing if name.endswith(".num_batches_tracked")]
    missing = [name for name in missing if name not in counters]
    unexpected = [name for name in entries if name not in wanted]
    if missing or unexpected:
        parts = [f"{len(missing)} tensors missing ({listing(missing)})"] if missing else []
        if unexpected:
            parts.append(f"{len(unexpected)} unexpected ({listing(unexpected)})")
        raise InputError(
            argument,
            f"weights with {' and '.join(parts)}",
            f"the state dict of this {type(module).__name__}, with {len(wanted)} tensors",
        )
    if counters:
        notes.append("The file holds no batch counters of batch normalization; they stay as built.")


def _check_widths(
    entries: Mapping[str, Tensor], wanted: Mapping[str, Tensor], file: Path, argument: str
) -> None:
    """Say of weights of a smaller network that condense wrote beside a page how they are used."""
    others = [name for name, tensor in entries.items() if tensor.shape != wanted[name].shape]
    page = file.with_suffix(".html")
    if not others or not file.with_suffix(".certificate.json").is_file():
        return
    program = file.with_suffix(".pt2")
    builds = f"code that builds it (see {quoted(page.name)})"
    raise InputError(
        argument,
        f"{quoted(file.name)}, the weights of a smaller network that whynet condense wrote",
        f"{quoted(program.name)} as TARGET, or {builds}" if program.is_file() else builds,
    )


def _check_tensor(
    name: str, tensor: Tensor, target: Tensor, is_parameter: bool, argument: str
) -> None:
    def refuse(what: str, wanted: str) -> InputError:
        return InputError(argument, f"{quoted(name)} {what}", wanted)

    flaw = _flaw(tensor)
    if flaw:
        raise refuse(flaw, "dense real tensors")
    if tensor.shape != target.shape:
        raise refuse(f"of shape {_shape(tensor)}", f"shape {_shape(target)}, as in the network")
    if _is_spread(tensor):
        raise refuse(
            "as a view of fewer values than its shape has", "tensors that own all their values"
        )
    if tensor.is_floating_point() != target.is_floating_point() or (
        not tensor.is_floating_point() and tensor.dtype != target.dtype
    ):
        raise refuse(f"of dtype {tensor.dtype}", f"dtype {target.dtype}, as in the network")
    if not tensor.is_floating_point():
        return
    _check_values(tensor, target, is_parameter, refuse_as=refuse)


def _check_values(tensor: Tensor, target: Tensor, is_parameter: bool, refuse_as: Any) -> None:
    """Refuse NaN anywhere, infinities in parameters, and values beyond the network's precision."""
    bad = int((~torch.isfinite(tensor) if is_parameter else torch.isnan(tensor)).sum())
    if bad:
        kind = "NaN or infinite" if is_parameter else "NaN"
        raise refuse_as(f"with {bad} of {tensor.numel()} values {kind}", "finite weights")
    if tensor.dtype != target.dtype:
        cast = tensor.to(target.dtype)
        over = int((torch.isinf(cast) & ~torch.isinf(tensor)).sum())
        if over:
            raise refuse_as(
                f"with {over} values of {tensor.dtype} too large for {target.dtype}",
                f"weights that {target.dtype} can hold",
            )


def _flaw(tensor: Tensor) -> str:
    """Say why a tensor is not a plain one; looks at its description alone."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"of type {type(tensor).__name__}"
    if tensor.layout != torch.strided:
        return f"of layout {tensor.layout}"
    if tensor.is_quantized or tensor.is_complex() or "float8" in str(tensor.dtype):
        return f"of dtype {tensor.dtype}"
    if tensor.device.type != "cpu" or tensor.is_nested:
        return f"on device {tensor.device}"
    return ""


def _is_spread(tensor: Tensor) -> bool:
    """Whether a tensor shows values of its storage more than once, or reaches beyond it."""
    if tensor.numel() == 0:
        return False
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    pairs = list(zip(tensor.shape, tensor.stride(), strict=True))
    last = tensor.storage_offset() + sum((size - 1) * step for size, step in pairs)
    repeated = any(step == 0 and size > 1 for size, step in pairs)
    return repeated or last >= held or tensor.numel() > held


def _check_ties(entries: Mapping[str, Tensor], wanted: Mapping[str, Tensor], argument: str) -> None:
    """Tied parameters have one value; a file that gives two is of another network."""
    first: dict[int, str] = {}
    for name, tensor in entries.items():
        other = first.setdefault(id(wanted[name]), name)
        if other != name and not torch.equal(entries[other], tensor):
            raise InputError(
                argument,
                f"different values for {quoted(other)} and {quoted(name)}",
                "equal ones, since the network ties them",
            )


def _note_casts(
    entries: Mapping[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]
) -> None:
    casts = sorted({(str(t.dtype), str(wanted[n].dtype)) for n, t in entries.items()})
    for source, target in casts:
        if source != target:
            notes.append(f"Weights kept as {source[6:]} were cast to {target[6:]}.")


def _check_arrival(entries: Mapping[str, Tensor], module: nn.Module, argument: str) -> None:
    """A network whose state dict is a copy would have swallowed the weights; say so."""
    state = module.state_dict()
    for name, tensor in entries.items():
        if not torch.equal(state[name], tensor.to(state[name].dtype)):
            raise InputError(
                argument,
                f"a network whose state_dict() gives copies, {quoted(name)} among them",
                "a build() that loads these weights itself",
            )


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
