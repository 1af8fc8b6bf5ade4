"""The manifest: everything a run was asked, as strict TOML that can be given back."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whynet.concepts.registry import field_tests
from whynet.core.budget import parse_bytes, parse_seconds
from whynet.core.errors import InputError, StoreError

SCHEMA_VERSION = "1.0"
"""Of the manifest and of `summary.json`: a newer major number is refused, an older minor read."""

BATCH_SIZE = 512
"""Rows in memory at a time where nothing is asked for and they fit."""

MOST_BYTES = 2**20
"""Of a configuration: it may come from anyone."""


@dataclass(frozen=True)
class Request:
    """What a run was asked, by the names of the command line's options.

    Attributes:
        target: the network: a built-in name, `file.py:name`, `package.module:name`, `model.pt2`.
        weights: file of trained weights.
        init_weights: file of weights before training.
        train: training data.
        test: test data.
        target_column: column of labels in tables.
        loss: name of the loss or `file.py:name`.
        output: which entry of a structured output to examine.
        train_with: function that trains the network, `file.py:name`.
        trajectory: record of its training.
        device: where to compute.
        dtype: `float32` or `float64`; that of the network by default.
        batch_size: rows in memory at a time.
        memory: bound on the memory of a batch, as the user wrote it.
        threads: processor threads; None chooses from network and batch size.
        seed: what all draws derive from.
        budget: time for everything, as the user wrote it.
        only: questions or instruments to restrict to.
        skip: questions or instruments to leave out.
        seeds: other seeds to train for reference; None for the usual number.
        rounds: instrument to the rounds that were run.
        reached: network (`trained`, `initial`, `seed-1`, …) to the instruments begun on it.
        sha256: name of a file's role (`target`, `weights`, `train`…) to its hash.

    """

    target: str = ""
    weights: str | None = None
    init_weights: str | None = None
    train: str | None = None
    test: str | None = None
    target_column: str | None = None
    loss: str | None = None
    output: str | None = None
    train_with: str | None = None
    trajectory: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    batch_size: int = BATCH_SIZE
    memory: str | None = None
    threads: int | None = None
    seed: int = 0
    budget: str | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    seeds: int | None = None
    rounds: Mapping[str, int] = field(default_factory=dict)
    reached: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


def check_values(request: Request) -> None:
    """Refuse values that no run can have, before anything is loaded.

    Raises:
        InputError: a number is out of range, a budget or an amount of memory is none, or a name
            holds bytes that are no text; the argument is the field's name.

    """
    if not 1 <= request.batch_size <= 2**31:
        raise InputError("batch_size", repr(request.batch_size), "a whole number from 1 to 2^31")
    if request.threads is not None and not 1 <= request.threads <= 4096:
        raise InputError("threads", repr(request.threads), "a whole number from 1 to 4096")
    if request.seeds is not None and not 0 <= request.seeds <= 100:
        raise InputError("seeds", repr(request.seeds), "a whole number from 0 to 100")
    if not 0 <= request.seed < 2**63:
        raise InputError("seed", repr(request.seed), "a whole number from 0 to 2^63 - 1")
    if request.budget is not None:
        parse_seconds(request.budget, "budget")
    if request.memory is not None:
        parse_bytes(request.memory, "memory")
    for entry in dataclasses.fields(request):
        value = getattr(request, entry.name)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any("\ud800" <= c <= "\udfff" for c in text):
                # The manifest and the report are UTF-8.
                raise InputError(entry.name, f"{text!r}, with bytes that are no text", "UTF-8")


_SOURCES = (
    "weights",
    "init_weights",
    "train",
    "test",
    "target_column",
    "loss",
    "output",
    "train_with",
    "trajectory",
)
_SETTINGS = ("device", "dtype", "batch_size", "memory", "threads", "seed")


def option(name: str) -> str:
    """Return the option of the command line that sets a field of `Request`."""
    short = {"target": "TARGET", "target_column": "--target"}
    return short.get(name, "--" + name.replace("_", "-"))


def measure_command(request: Request, instrument: str, rounds: int, weights: str | None) -> str:
    """Write the command that recomputes the numbers of one instrument.

    Args:
        request: the run.
        instrument: id of the instrument.
        rounds: rounds that were run.
        weights: file of the examined weights; those of the request where None.

    """
    if instrument in field_tests():
        return field_command(request, instrument, rounds, weights)
    words = ["whynet", "measure", instrument, request.target]
    if weights is not None:
        request = dataclasses.replace(request, weights=weights)
    words += _options(request, (*_SOURCES, *_SETTINGS))
    if rounds != 1:
        words += ["--rounds", str(rounds)]
    return shlex.join(words)


def field_command(request: Request, claim: str, seeds: int, weights: str | None = None) -> str:
    """Write the command that tries a claim on the network again.

    Args:
        request: the run.
        claim: id of the claim, or `file.py:CLAIM`.
        seeds: other seeds that were trained.
        weights: file of the examined weights; those of the request where None.

    """
    if weights is not None:
        request = dataclasses.replace(request, weights=weights)
    words = ["whynet", "atlas", "run", claim, "--on", request.target]
    return shlex.join([*words, *_options(request, (*_SOURCES, *_SETTINGS)), "--seeds", str(seeds)])


def examine_command(request: Request, out: str) -> str:
    """Write the command that runs the whole examination again."""
    words = ["whynet", "examine", request.target]
    words += _options(request, (*_SOURCES, *_SETTINGS, "budget", "seeds", "only", "skip"))
    return shlex.join([*words, "--out", out])


def _options(request: Request, names: Iterable[str]) -> list[str]:
    words: list[str] = []
    defaults = Request()
    for name in names:
        value = getattr(request, name)
        if value is None or value == getattr(defaults, name):
            continue
        for one in value if isinstance(value, tuple) else (value,):
            # A value that begins with a hyphen would be read as an option.
            text = str(one)
            words += [f"{option(name)}={text}"] if text[:1] == "-" else [option(name), text]
    return words


def to_toml(request: Request) -> str:
    """Write a request as TOML; `read_toml` reads it back unchanged."""
    lines = [f'schema_version = "{SCHEMA_VERSION}"']
    tables = []
    for entry in dataclasses.fields(request):
        value = getattr(request, entry.name)
        if isinstance(value, Mapping):
            if value:
                tables += ["", f"[{entry.name}]"]
                tables += [f"{_key(key)} = {_value(value[key])}" for key in sorted(value)]
        elif value is not None:
            lines.append(f"{entry.name} = {_value(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # JSON's escapes of strings are TOML's as well, but for the delete character.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(path: str | Path, argument: str = "--config") -> dict[str, Any]:
    """Read the options of a configuration or a manifest.

    Returns:
        Field of `Request` to value; only those that the file sets.

    Raises:
        InputError: no such file, no TOML, an unknown key, or a value of another type.
        StoreError: the file is of a newer major version of the schema.

    """
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise InputError(argument, f"{str(path)!r} of more than 1 MiB", "a TOML file")
        content = tomllib.loads(raw.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(argument, f"no file {str(path)!r}", "a TOML file of options") from None
    except OSError as error:
        found = f"{str(path)!r}, unreadable ({error.strerror})"
        raise InputError(argument, found, "a TOML file") from error
    except UnicodeDecodeError as error:
        raise InputError(argument, f"{str(path)!r}, no UTF-8 text", "a TOML file") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # a number too long, a value nested too deep
        reason = str(error).rstrip(".")
        raise InputError(argument, f"{str(path)!r}, no TOML ({reason})", "a TOML file") from error
    version = content.pop("schema_version", SCHEMA_VERSION)
    check_version(version, str(path), argument)
    types = {entry.name: entry for entry in dataclasses.fields(Request)}
    return {name: _checked(name, value, types, argument) for name, value in content.items()}


def check_version(version: Any, where: str, argument: str) -> None:
    """Refuse what a newer whynet wrote.

    Raises:
        StoreError: the version is no version, or its major number is above ours.

    """
    ours = int(SCHEMA_VERSION.split(".")[0])
    if not isinstance(version, str) or not re.fullmatch(r"\d{1,6}\.\d{1,6}", version):
        raise StoreError(
            argument, f"{_said('schema_version', version)} in {where!r}", "a version like 1.0"
        )
    if int(version.split(".")[0]) > ours:
        raise StoreError(
            argument, f"schema_version {version} in {where!r}", f"at most {ours}.x: update whynet"
        )


def _checked(name: str, value: Any, fields: Mapping[str, Any], argument: str) -> Any:
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(argument, f"the unknown key {name!r}", f"one of {', '.join(fields)}{hint}")
    default = getattr(Request(), name)
    if name == "reached":
        lists = list(value.values()) if isinstance(value, dict) else [None]
        if any(not isinstance(v, list) or any(type(n) is not str for n in v) for v in lists):
            raise InputError(argument, _said(name, value), "a table of lists of names")
        return {view: tuple(names) for view, names in value.items()}
    if name in ("rounds", "sha256"):
        inner = int if name == "rounds" else str
        if not isinstance(value, dict) or any(not _is(inner, v) for v in value.values()):
            raise InputError(argument, _said(name, value), f"a table of {inner.__name__} values")
        return value
    if isinstance(default, tuple):
        if not isinstance(value, list) or any(not isinstance(v, str) for v in value):
            raise InputError(argument, _said(name, value), "a list of names")
        return tuple(value)
    wanted = int if isinstance(default, int) or name in ("threads", "seeds") else str
    if not _is(wanted, value):
        raise InputError(argument, _said(name, value), f"a value of type {wanted.__name__}")
    return value


def _is(wanted: type, value: Any) -> bool:
    """Whether a value has exactly this type; a number of thousands of digits is no option."""
    return type(value) is wanted and (not isinstance(value, int) or abs(value) < 2**64)


def _said(name: str, value: Any) -> str:
    """Write a setting for a sentence; of what may be endlessly long or deep only the kind."""
    if isinstance(value, str | bool | float) or _is(int, value):
        return f"{name} = {value!r}"
    return f"{name} with a {type(value).__name__}"
