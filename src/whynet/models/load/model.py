"""The network a reference names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from whynet.core.errors import InputError
from whynet.models.load.exported import load_exported
from whynet.models.load.paths import existing_file, file_sha256
from whynet.models.load.reference import FILES_OF_WEIGHTS, is_code
from whynet.models.load.soundness import sound_network
from whynet.models.load.user_code import fetch
from whynet.models.load.wording import quoted, suggestion

KINDS = "model.py:build, package.module:name or model.pt2"


@dataclass(frozen=True)
class LoadedModel:
    """A network out of a user's reference.

    Attributes:
        module: the network, as the user's code made it, out of its wrappers.
        notes: what was done to it on the way, full sentences.
        source: path of the file whose code ran.
        sha256: SHA-256 of that file.

    """

    module: nn.Module
    notes: tuple[str, ...]
    source: str
    sha256: str


def load_model(
    reference: str, argument: str = "TARGET", *, announce: Callable[[str], None]
) -> LoadedModel:
    """Load the network a reference names; this runs the user's code.

    Args:
        reference: `file.py:name` or `package.module:name`, where the name is a network or a
            function without required arguments that returns one; or `model.pt2`.
        argument: name of the argument the reference came from.
        announce: called with `running code from <path>` before any code runs.

    Raises:
        InputError: there is no such network, the code fails, or the network holds what cannot
            be examined; the sentence says which.

    Random generators start from a fixed seed while the code runs and are put back afterwards, so
    that a reference names the same network in every process.

    """
    if reference.endswith(".pt2"):
        path = existing_file(reference, argument, "a .pt2 file that is there")
        sha256 = file_sha256(path)
        exported = load_exported(path, argument, announce)
        module, notes = sound_network(exported, quoted(path.name), argument)
        return LoadedModel(module, notes, str(path), sha256)
    if not is_code(reference):
        raise _no_code(reference, argument)
    found = fetch(reference, argument, announce, called=_is_recipe)
    module, notes = sound_network(found.value, found.name, argument)
    return LoadedModel(module, notes, str(found.path), found.sha256)


def _is_recipe(value: Any) -> bool:
    """Whether calling `value` is how a network is had: a function, or a class of networks."""
    if isinstance(value, type):
        return issubclass(value, nn.Module)
    return callable(value) and not isinstance(value, nn.Module)


def _no_code(reference: str, argument: str) -> InputError:
    place = reference.rpartition(":")[0] or reference
    if place.endswith(FILES_OF_WEIGHTS):
        return InputError(
            argument,
            f"{quoted(reference)}, a file of weights without the network they belong to",
            f"the code of the network, with the weights beside it: "
            f"model.py:build --weights {Path(place).name}",
        )
    suffix = Path(reference).suffix
    hint = suggestion(suffix, (".py", ".pt2")) if suffix else ""
    return InputError(argument, f"{quoted(reference)}{hint}", f"one of {KINDS}")
