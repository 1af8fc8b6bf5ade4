"""The claims there are, without importing them; and a user's own, from their file."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import cast

from whynet.concepts.registry import FIELD_PARTS, field_tests
from whynet.core.claim import Claim, ClaimModule, Control, Parameter
from whynet.core.errors import InputError
from whynet.core.field_test import FieldTest
from whynet.core.metadata import read_metadata

PARTS = {"Parameter": Parameter, "Control": Control}
"""Classes that the literals of a claim may call."""


@dataclass(frozen=True)
class ClaimEntry:
    """A claim of the catalogue, or one in a user's file.

    Attributes:
        id: the file's name with `-` for `_`.
        concept: the folder it stands in; `own` for a user's.
        reference: what a worker resolves: a module's name, or `file.py:CLAIM`.
        source: SHA-256 of the user's file; None for ours.
        metadata: read from the source.

    """

    id: str
    concept: str
    reference: str
    source: str | None
    metadata: Claim


@cache
def claims() -> dict[str, ClaimEntry]:
    """Return all claims of the catalogue, by id, in the order of concept and name."""
    root = Path(str(files("whynet.concepts")))
    found = {}
    for path in sorted(root.glob("*/claims/*.py")):
        if path.name != "__init__.py":
            name, concept = path.stem.replace("_", "-"), path.parent.parent.name
            found[name] = ClaimEntry(
                name,
                concept,
                f"whynet.concepts.{concept}.claims.{path.stem}",
                None,
                read_metadata(path, "CLAIM", Claim, PARTS),
            )
    return found


def find_claim(reference: str, argument: str = "ID") -> ClaimEntry:
    """Return the claim of a name of the catalogue, or of `file.py:CLAIM`.

    A user's file is read, not run.

    Raises:
        InputError: there is no such claim; the sentence names the nearest.

    """
    if ":" in reference:
        return _own(reference, argument)
    entry = claims().get(reference)
    if entry is None:
        near = difflib.get_close_matches(reference, claims(), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(claims())
        raise InputError(argument, repr(reference), f"my_claim.py:CLAIM, or one of {known}{hint}")
    return entry


def field_test_of(entry: ClaimEntry) -> FieldTest | None:
    """Return how a claim is tried on a user's network, or None where it says nothing of that.

    A claim of the catalogue has a file of its own for it; a user's holds `FIELD_TEST` beside
    `CLAIM`. The file is read, not run.
    """
    if entry.source is None:
        known = field_tests().get(entry.id)
        return None if known is None else known.metadata
    try:
        path = Path(entry.reference.rpartition(":")[0])
        return read_metadata(path, "FIELD_TEST", FieldTest, FIELD_PARTS)
    except (ValueError, TypeError):
        return None


def with_field_tests() -> dict[str, ClaimEntry]:
    """Return the claims of the catalogue that can be tried on a user's network."""
    return {name: entry for name, entry in claims().items() if name in field_tests()}


def _own(reference: str, argument: str) -> ClaimEntry:
    import hashlib

    place, _, name = reference.rpartition(":")
    path = Path(place)
    if not path.is_file() or path.suffix != ".py":
        raise InputError(argument, f"no Python file {place!r}", "my_claim.py:CLAIM")
    source = path.read_bytes()
    try:
        metadata = read_metadata(path, name, Claim, PARTS)
    except (ValueError, TypeError, SyntaxError) as error:
        found = f"{path.name} ({error})"
        raise InputError(argument, found, f"{name} = Claim(...) with literal arguments") from error
    return ClaimEntry(
        path.stem.replace("_", "-"),
        "own",
        reference,
        hashlib.sha256(source).hexdigest(),
        metadata,
    )


def load_claim(
    reference: str, source: str | None = None, announce: Callable[[str], None] | None = None
) -> ClaimModule:
    """Import the file of a claim; a user's is run, after it was announced.

    Args:
        reference: as in `ClaimEntry`.
        source: SHA-256 that a user's file must have.
        announce: told before a user's code runs.

    Raises:
        InputError: the file is not the one that was meant, or fails.

    """
    if source is None:
        return cast(ClaimModule, importlib.import_module(reference))
    from whynet.models.load.user_code import run_module

    module, digest = run_module(reference.rpartition(":")[0], "ID", announce or (lambda text: None))
    if digest != source:
        raise InputError("ID", f"{reference!r}, which has changed", "the file as the run began")
    missing = [n for n in ("predict", "experiment", "judge", "draw") if not hasattr(module, n)]
    if missing:
        raise InputError("ID", f"{reference!r} without {', '.join(missing)}", "a claim's functions")
    return cast(ClaimModule, module)
