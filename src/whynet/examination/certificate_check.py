"""Certificates of smaller networks, read and recomputed from the two networks alone."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from whynet.concepts.condensation.certificate import Balls, Content, certify
from whynet.concepts.condensation.workplace import example_of
from whynet.core.errors import InputError, StoreError
from whynet.core.recomputed import Recomputed
from whynet.examination.condensing import KIND, SUFFIX
from whynet.examination.folder import file_hash
from whynet.examination.manifest import Request, check_values, check_version, option
from whynet.examination.source import Announce, Loaded, load_subject
from whynet.models.free_widths import load_resized
from whynet.models.load.reference import is_code
from whynet.models.load.safetensors_file import read_safetensors

MOST_BYTES: Final = 2**26
"""Of a certificate: it may come from anyone."""

_SLACK: Final = 1e-4
"""Relative difference of a recomputed number that counts as round-off."""


def is_certificate(path: Path) -> bool:
    """Whether a path names a certificate."""
    return path.name.endswith(SUFFIX) and path.is_file()


def read_certificate(path: Path) -> Content:
    """Read a certificate, which may come from anyone.

    Raises:
        StoreError: it is no certificate, is damaged, or of a newer version.

    """
    wanted = "a certificate as `whynet condense` writes it"
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
        content = json.loads(raw.decode("utf-8")) if len(raw) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise StoreError("PATH", f"{path.name!r}, which is no certificate", wanted)
    check_version(content.get("schema_version"), path.name, "PATH")
    parts = {"request": dict, "weights": dict, "settings": dict, "kept": dict, "certificate": dict}
    for name, kind in parts.items():
        if not isinstance(content.get(name), kind):
            raise StoreError("PATH", f"{path.name!r} without {name}", wanted)
    return content


def verify_certificate(
    path: Path,
    given: Mapping[str, str | None],
    announce: Announce,
) -> tuple[Recomputed, ...]:
    """Recompute every number of a certificate from the two networks alone.

    Args:
        path: the certificate; the weights of the smaller network stand beside it.
        given: target, data and loss where they are code or lie elsewhere now.
        announce: told before code of the user runs.

    Returns:
        One entry for each part; the times are the machine's and are not compared.

    Raises:
        InputError: code that must be named was not.
        StoreError: the certificate or the weights are damaged.

    """
    content = read_certificate(path)
    request = _request_of(content["request"], given)
    name, digest = content["weights"].get("file"), content["weights"].get("sha256")
    weights = path.parent / str(name)
    if not isinstance(name, str) or weights.parent != path.parent or not weights.is_file():
        raise StoreError("PATH", f"no weights {str(name)[:80]!r} beside it", "its weights")
    if file_hash(weights) != digest:
        raise StoreError("PATH", f"weights {name!r} that were changed", "the weights as written")
    _check_program(path, content.get("program"))
    loaded = load_subject(request, announce=announce)
    with loaded.computing():
        again = _again(loaded, weights, content)
    recorded = content["certificate"]
    parts = [part for part in dict.fromkeys((*again, *recorded)) if part != "time"]
    return tuple(_compared(part, again.get(part), recorded.get(part)) for part in parts)


def _check_program(path: Path, recorded: Any) -> None:
    """Refuse an exported program beside it that is not the one written; it is never loaded."""
    if recorded is None:
        return
    name = recorded.get("file") if isinstance(recorded, dict) else None
    program = path.parent / str(name)
    if not isinstance(name, str) or program.parent != path.parent or not program.is_file():
        raise StoreError("PATH", f"no program {str(name)[:80]!r} beside it", "its program")
    if file_hash(program) != recorded.get("sha256"):
        raise StoreError("PATH", f"a program {name!r} that was changed", "the program as written")


def _again(loaded: Loaded, weights: Path, content: Content) -> Content:
    settings, kept = content["settings"], content["kept"]
    if not all(isinstance(k, list) and all(type(u) is int for u in k) for k in kept.values()):
        raise StoreError("PATH", "places that are no whole numbers", "the certificate as written")
    try:
        balls = Balls(**{key: settings[key] for key in ("norm", "radius", "points")})
        seed = int(settings["seed"])
        checked = replace(balls, radius=None if balls.radius is None else float(balls.radius))
        subject = loaded.subject
        state = read_safetensors(weights, "PATH")
        module = load_resized(subject.module, state, example_of(subject))
        return certify(subject, module, kept, balls=checked.checked(), seed=seed)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise StoreError("PATH", error.found, error.wanted) from error
        raise StoreError("PATH", "settings that are none", "the certificate as written") from error


def _request_of(recorded: Mapping[str, Any], given: Mapping[str, str | None]) -> Request:
    """Rebuild the request of a certificate; code comes from the caller alone."""
    fields = {entry.name: entry for entry in dataclasses.fields(Request)}
    values: dict[str, Any] = {}
    for name, value in recorded.items():
        plain = value is None or isinstance(value, str) or type(value) is int
        if name == "sha256" and isinstance(value, dict):
            plain = all(isinstance(text, str) for text in value.values())
        if name not in fields or not plain:
            raise StoreError("PATH", f"a request with {name[:40]!r}", "the certificate as written")
        values[name] = value
    for role in ("target", "train", "test", "loss", "train_with"):
        old, new = values.get(role), given.get(role)
        if new is not None:
            values[role] = new
        elif isinstance(old, str) and is_code(old):
            raise InputError(
                option(role),
                f"nothing, though the recorded one is code ({old})",
                f"{option(role)} on the command line: code never runs because a file names it",
            )
    request = Request(**values)
    check_values(request)
    return request


def _compared(name: str, again: Any, recorded: Any) -> Recomputed:
    moved, largest, count = [], 0.0, 0
    for path, new, old in _pairs(name, again, recorded):
        count += 1
        gap = _gap(new, old)
        if gap > _SLACK:
            moved.append(path)
        largest = max(largest, gap if math.isfinite(gap) else 0.0)
    return Recomputed(name, count, tuple(moved), largest)


def _pairs(path: str, new: Any, old: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(new, dict) and isinstance(old, dict):
        for key in dict.fromkeys((*new, *old)):
            yield from _pairs(f"{path}.{key}", new.get(key), old.get(key))
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        for place, (one, two) in enumerate(zip(new, old, strict=True)):
            yield from _pairs(f"{path}[{place}]", one, two)
    else:
        yield path, new, old


def _gap(new: Any, old: Any) -> float:
    """Return the relative difference of two numbers; below round-off all are the same."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (new, old))
    if not numbers:
        return 0.0 if type(new) is type(old) and new == old else math.inf
    if not (math.isfinite(new) and math.isfinite(old)):
        return math.inf
    return float(abs(new - old) / max(abs(new), abs(old), 1e-4))
