"""From parsed arguments and a configuration to one request."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from whynet.core.errors import InputError, StoreError

if TYPE_CHECKING:
    from whynet.examination.manifest import Request


def request_from(arguments: argparse.Namespace) -> Request:
    """Merge the command line over a configuration; code comes from the command line alone.

    Raises:
        InputError: the configuration names code or a target that the command line does not, or a
            value is out of range.

    """
    from whynet.examination.manifest import Request, check_values, read_toml

    fields = {entry.name for entry in dataclasses.fields(Request)}
    given = {name: value for name, value in vars(arguments).items() if name in fields}
    for name in ("only", "skip"):
        if name in given:
            given[name] = tuple(given[name])
    if isinstance(given.get("rounds"), int):
        given["rounds"] = {arguments.instrument: given["rounds"]}
    config: dict[str, Any] = read_toml(arguments.config) if arguments.config else {}
    _check_sources(config, given)
    if "budget" in given:
        # An explicit budget asks for other rounds than the recorded ones.
        config.pop("rounds", None)
    if given.keys() & {"budget", "seeds"}:
        config.pop("reached", None)
    merged = {**config, **given}
    if merged.get("rounds") and "rounds" in config:
        merged.pop("budget", None)
    if hashes := config.get("sha256"):
        # What the command line names anew is not what was recorded.
        merged["sha256"] = {
            role: digest
            for role, digest in hashes.items()
            if role not in given or given[role] == config.get(role)
        }
    request = Request(**merged)
    with named_as_options():
        check_values(request)
    return request


def _check_sources(config: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse a configuration that would decide which code runs, or which network is meant."""
    from whynet.examination.manifest import option
    from whynet.models.load.reference import is_code

    for name in ("target", "train", "test", "loss", "train_with"):
        recorded, on_line = config.get(name), given.get(name)
        if recorded is None or recorded == on_line:
            continue
        if name == "target":
            raise InputError("TARGET", repr(on_line), f"{recorded!r}, as --config has it")
        if is_code(recorded):
            found = "nothing" if on_line is None else repr(on_line)
            raise InputError(
                option(name),
                f"{found} beside {recorded!r} in --config",
                "the same on the command line: code never runs because a file names it",
            )


@contextmanager
def named_as_options() -> Iterator[None]:
    """Call the arguments of refusals in the body as the command line does (`--batch-size`)."""
    from whynet.examination.manifest import Request, option

    try:
        yield
    except StoreError:
        raise
    except InputError as error:
        if error.argument not in {entry.name for entry in dataclasses.fields(Request)}:
            raise
        raise InputError(option(error.argument), error.found, error.wanted) from error
