"""From a request to a smaller network on disk with its certificate, and back: verification."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch import nn

from whynet.concepts.condensation.certificate import (
    Balls,
    Content,
    certify,
    directions_of,
)
from whynet.concepts.condensation.finetuning import Finetuned, finetune
from whynet.concepts.condensation.reduction import Condensed, condense
from whynet.core.errors import InputError, StoreError
from whynet.core.recomputed import Recomputed
from whynet.examination.condensation_directions import Checkpoint, directions_at
from whynet.examination.folder import file_hash, save_weights
from whynet.examination.manifest import Request, check_values, check_version, option
from whynet.examination.source import Announce, Loaded, TrainingProgress, load_subject
from whynet.models.factory_arguments import changed_arguments
from whynet.models.load.reference import is_code
from whynet.models.load.safetensors_file import read_safetensors
from whynet.models.load.user_code import fetch
from whynet.models.resizing import load_resized

SCHEMA_VERSION: Final = "1.0"
KIND: Final = "whynet condensation certificate"
SUFFIX: Final = ".certificate.json"

MOST_BYTES: Final = 2**26
"""Of a certificate: it may come from anyone."""

_SLACK: Final = 1e-4
"""Relative difference of a recomputed number that counts as round-off."""


@dataclass(frozen=True)
class Files:
    """Where the three files of a smaller network stand."""

    weights: Path

    @property
    def certificate(self) -> Path:
        """The certificate, beside the weights."""
        return self.weights.with_suffix(SUFFIX)

    @property
    def page(self) -> Path:
        """The page, beside the weights."""
        return self.weights.with_suffix(".html")


@dataclass(frozen=True, eq=False)
class Done:
    """A condensation, and the request it came from.

    Attributes:
        condensed: the networks and the curve.
        request: hashes filled in.
        content: the certificate's numbers; empty where nothing is to be handed over.
        settings: what they rest on beside the networks: norm, radius, points, seed.
        directions: of every layer of the large network, whether it is condensed.
        arguments: with which the user's factory builds the smaller network; None where that is
            not known.
        finetuned: what training on added, where it was asked for.
        checkpoints: directions of the large network's layers along its training.

    """

    condensed: Condensed
    request: Request
    content: Content
    settings: Content
    directions: list[Content]
    arguments: dict[str, Any] | None = None
    finetuned: Finetuned | None = None
    checkpoints: tuple[Checkpoint, ...] = ()


def number(text: str, argument: str) -> float:
    """Read a number of the command line.

    Raises:
        InputError: it is none.

    """
    try:
        value = float(text)
    except ValueError:
        raise InputError(argument, repr(text), "a number such as 1e-3") from None
    if not math.isfinite(value):
        raise InputError(argument, repr(text), "a finite number")
    return value


def check_files(out: str) -> Files:
    """Check, before anything is computed, that the files can be written.

    Raises:
        InputError: the name does not end in `.safetensors`, or the place cannot be written.

    """
    path = Path(out)
    if path.suffix != ".safetensors":
        raise InputError("--out", repr(out), "a file name that ends in .safetensors")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError("--out", repr(out), "a file in a folder that is there and can be written")
    return Files(path)


def condense_request(
    request: Request,
    *,
    tolerance: float,
    exact_only: bool = False,
    units: int | None = None,
    finetune_steps: int = 0,
    checkpoints: Sequence[str] = (),
    balls: Balls | None = None,
    announce: Announce,
    trained: TrainingProgress | None = None,
    progress: Callable[[str], None] | None = None,
) -> Done:
    """Load the network of a request, make it smaller and certify it.

    Raises:
        InputError: as `load_subject`, `condense` and `Balls.checked`.

    """
    chosen = (balls or Balls()).checked()
    loaded = load_subject(request, announce=announce, progress=trained)
    if loaded.subject.train is None:
        raise InputError("--train", "no training data", "the data that units are chosen on")
    with loaded.computing():
        course = directions_at(loaded.subject, checkpoints, request.seed)
        found = condense(
            loaded.subject,
            tolerance=tolerance,
            exact_only=exact_only,
            units=units,
            progress=progress,
        )
        finetuned: Finetuned | None = None
        if finetune_steps and found.reduced:
            if progress:
                progress("training on")
            found, finetuned = finetune(found, finetune_steps)
        content: Content = {}
        if found.reduced and found.chosen.largest <= tolerance:
            if progress:
                progress("certificate")
            content = certify(
                loaded.subject, found.module, found.kept, balls=chosen, seed=request.seed
            )
        directions = content.get("directions") or directions_of(loaded.subject, request.seed)
    settings: Content = {**dataclasses.asdict(chosen), "seed": request.seed}
    arguments = _arguments(request, found) if content else None
    return Done(
        found, loaded.request, content, settings, directions, arguments, finetuned, tuple(course)
    )


def _arguments(request: Request, found: Condensed) -> dict[str, Any] | None:
    """Find with which arguments the factory on the command line builds the smaller network."""
    if not is_code(request.target):
        return None
    # That this code runs was said when the network was loaded.
    factory = fetch(request.target, "TARGET", lambda message: None).value
    if not callable(factory) or isinstance(factory, nn.Module):
        return None
    large = found.subject.module.state_dict()
    return changed_arguments(factory, large, found.module.state_dict())


def summary_of(found: Condensed) -> Content:
    """Return what the reduction did, as it goes into JSON."""
    return {
        "reduced": found.reduced,
        "reason": found.reason,
        "tolerance": found.tolerance,
        "moves": [dataclasses.asdict(move) for move in found.moves],
        "layers": [dataclasses.asdict(layer) for layer in found.layers],
        "chosen": dataclasses.asdict(found.chosen),
        "curve": [dataclasses.asdict(point) for point in found.curve],
    }


def finetuned_of(finetuned: Finetuned) -> Content:
    """Return what training on added, as it goes into JSON."""
    sentence = finetuned.sentence()
    return {**dataclasses.asdict(finetuned), "factor": list(finetuned.factor), "sentence": sentence}


def save(done: Done, files: Files) -> None:
    """Write weights, certificate and page; each whole or not at all."""
    from whynet.examination.condensation_page import render_condensation

    fresh = files.weights.with_name(f".{files.weights.name}.tmp")
    save_weights(done.condensed.module, fresh)
    fresh.replace(files.weights)
    record = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "request": _request_as_json(done.request),
        "weights": {"file": files.weights.name, "sha256": file_hash(files.weights)},
        "settings": done.settings,
        "arguments": done.arguments,
        "kept": {path: list(units) for path, units in done.condensed.kept.items()},
        "reduction": summary_of(done.condensed),
        # What was trained cannot be recomputed from the two networks; all else can.
        "checkpoints": [list(checkpoint) for checkpoint in done.checkpoints],
        "finetuned": None if done.finetuned is None else finetuned_of(done.finetuned),
        "certificate": done.content,
    }
    _replace(files.certificate, json.dumps(record, indent=1, allow_nan=False) + "\n")
    _replace(files.page, render_condensation(done, files))


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _request_as_json(request: Request) -> Content:
    plain = dataclasses.asdict(request)
    default = dataclasses.asdict(Request())
    return {name: value for name, value in plain.items() if value != default[name]}


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
    loaded = load_subject(request, announce=announce)
    with loaded.computing():
        again = _again(loaded, weights, content)
    recorded = content["certificate"]
    parts = [part for part in dict.fromkeys((*again, *recorded)) if part != "time"]
    return tuple(_compared(part, again.get(part), recorded.get(part)) for part in parts)


def _again(loaded: Loaded, weights: Path, content: Content) -> Content:
    settings, kept = content["settings"], content["kept"]
    if not all(isinstance(k, list) and all(type(u) is int for u in k) for k in kept.values()):
        raise StoreError("PATH", "places that are no whole numbers", "the certificate as written")
    try:
        balls = Balls(**{key: settings[key] for key in ("norm", "radius", "points")})
        seed = int(settings["seed"])
        checked = replace(balls, radius=None if balls.radius is None else float(balls.radius))
        module = load_resized(loaded.subject.module, read_safetensors(weights, "PATH"))
        return certify(loaded.subject, module, kept, balls=checked.checked(), seed=seed)
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
