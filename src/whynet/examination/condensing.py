"""From a request to a smaller network on disk with its certificate, and back: verification."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

from whynet.concepts.condensation.certificate import (
    Balls,
    Content,
    certify,
    directions_of,
)
from whynet.concepts.condensation.finetuning import Finetuned, finetune
from whynet.concepts.condensation.reduction import Condensed, condense
from whynet.concepts.condensation.workplace import called, example_of
from whynet.core.errors import InputError
from whynet.examination.condensation_directions import Checkpoint, directions_at
from whynet.examination.folder import file_hash, save_weights
from whynet.examination.manifest import Request
from whynet.examination.source import Announce, TrainingProgress, load_subject
from whynet.models.factory_arguments import Builder, builder_of
from whynet.models.free_widths import exported
from whynet.models.load.reference import is_code
from whynet.models.load.user_code import fetch

SCHEMA_VERSION: Final = "1.0"
KIND: Final = "whynet condensation certificate"
SUFFIX: Final = ".certificate.json"


@dataclass(frozen=True)
class Files:
    """Where the files of a smaller network stand."""

    weights: Path

    @property
    def certificate(self) -> Path:
        """The certificate, beside the weights."""
        return self.weights.with_suffix(SUFFIX)

    @property
    def page(self) -> Path:
        """The page, beside the weights."""
        return self.weights.with_suffix(".html")

    @property
    def program(self) -> Path:
        """The network as an exported program, beside the weights."""
        return self.weights.with_suffix(".pt2")


@dataclass(frozen=True, eq=False)
class Done:
    """A condensation, and the request it came from.

    Attributes:
        condensed: the networks and the curve.
        request: hashes filled in.
        content: the certificate's numbers; empty where nothing is to be handed over.
        settings: what they rest on beside the networks: norm, radius, points, seed.
        directions: of every layer of the large network, whether it is condensed.
        builder: the user's call that builds the smaller network; None where none is known.
        finetuned: what training on added, where it was asked for.
        checkpoints: directions of the large network's layers along its training.

    """

    condensed: Condensed
    request: Request
    content: Content
    settings: Content
    directions: list[Content]
    builder: Builder | None = None
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
    builder = _builder(request, found) if content else None
    return Done(
        found, loaded.request, content, settings, directions, builder, finetuned, tuple(course)
    )


def _builder(request: Request, found: Condensed) -> Builder | None:
    """Find the call, of the factory on the command line or its class, that builds the network."""
    if not is_code(request.target):
        return None
    # That this code runs was said when the network was loaded.
    factory = fetch(request.target, "TARGET", lambda message: None).value
    subject = found.subject
    inputs = example_of(subject)
    with torch.no_grad():
        wanted = called(found.module, inputs, subject.output)

    def same(built: nn.Module) -> bool:
        made = called(built.to(subject.device, subject.dtype), inputs, subject.output)
        return bool(torch.allclose(made, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max())))

    usable = callable(factory) and not isinstance(factory, nn.Module)
    with torch.no_grad():
        state = found.module.state_dict()
        return builder_of(factory if usable else None, subject.module, state, same)


def built_by(done: Done) -> list[str]:
    """Say in lines how the smaller network is built."""
    said = []
    if done.builder is not None:
        words = ", ".join(f"{name}={value!r}" for name, value in done.builder.arguments.items())
        said.append(f"arguments that build it: {words}: {done.builder.call()}")
    if done.condensed.traced:
        said.append(
            "its own code fixes widths: whynet.load_resized(the large network, its state dict, a "
            "batch of inputs) returns a trace that runs with others"
        )
    elif done.builder is None:
        said.append("it is built by: whynet.load_resized(the large network, its state dict)")
    return said


def summary_of(found: Condensed) -> Content:
    """Return what the reduction did, as it goes into JSON."""
    return {
        "reduced": found.reduced,
        "reason": found.reason,
        "limited": found.limited,
        "caution": found.caution,
        "tolerance": found.tolerance,
        "moves": [dataclasses.asdict(move) for move in found.moves],
        "traced": found.traced,
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
        "program": _save_program(done.condensed, files) if done.condensed.traced else None,
        "settings": done.settings,
        "arguments": None if done.builder is None else done.builder.arguments,
        "builder": None if done.builder is None else done.builder.call(),
        "kept": {path: list(units) for path, units in done.condensed.kept.items()},
        "reduction": summary_of(done.condensed),
        # What was trained cannot be recomputed from the two networks; all else can.
        "checkpoints": [list(checkpoint) for checkpoint in done.checkpoints],
        "finetuned": None if done.finetuned is None else finetuned_of(done.finetuned),
        "certificate": done.content,
    }
    _replace(files.certificate, json.dumps(record, indent=1, allow_nan=False) + "\n")
    _replace(files.page, render_condensation(done, files))


def _save_program(found: Condensed, files: Files) -> Content | None:
    """Write a trace as a program that loads without the user's code; None where it has no export.

    It is a file of `torch.export`, which holds no class of anyone; loading one unpickles all the
    same, so that whynet does it only where a person names the file.
    """
    try:
        program = exported(found.module, example_of(found.subject))
    except Exception:  # noqa: BLE001 - what an export refuses it refuses in many ways
        return None
    fresh = files.program.with_name(f".{files.program.stem}.tmp.pt2")
    torch.export.save(program, fresh)
    fresh.replace(files.program)
    return {"file": files.program.name, "sha256": file_hash(files.program)}


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _request_as_json(request: Request) -> Content:
    plain = dataclasses.asdict(request)
    default = dataclasses.asdict(Request())
    return {name: value for name, value in plain.items() if value != default[name]}
