"""From parsed arguments and a configuration to one request."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from whynet.core.errors import InputError

if TYPE_CHECKING:
    from whynet.examination.manifest import Request


def request_from(arguments: argparse.Namespace) -> Request:
    """Merge the command line over a configuration; code comes from the command line alone.

    Raises:
        InputError: the configuration names code or a target that the command line does not, or a
            value is out of range.

    """
    from whynet.examination.manifest import Request, option, read_toml
    from whynet.models.load.reference import is_code

    fields = {entry.name for entry in dataclasses.fields(Request)}
    given = {name: value for name, value in vars(arguments).items() if name in fields}
    for name in ("only", "skip"):
        if name in given:
            given[name] = tuple(given[name])
    if isinstance(given.get("rounds"), int):
        given["rounds"] = {arguments.instrument: given["rounds"]}
    config: dict[str, Any] = read_toml(arguments.config) if arguments.config else {}
    for name in ("target", "train", "test", "loss"):
        recorded = config.get(name)
        if recorded is None:
            continue
        on_line = given.get(name)
        if name == "target" and recorded != on_line:
            raise InputError("TARGET", repr(on_line), f"{recorded!r}, as --config has it")
        if is_code(recorded) and recorded != on_line:
            raise InputError(
                option(name),
                f"{on_line!r} beside {recorded!r} in --config",
                "the same on the command line: code never runs because a file names it",
            )
    if "budget" in given:
        # An explicit budget asks for other rounds than the recorded ones.
        config.pop("rounds", None)
    merged = {**config, **given}
    if merged.get("rounds") and "rounds" in config:
        merged.pop("budget", None)
    request = Request(**merged)
    _check(request)
    return request


def _check(request: Request) -> None:
    if request.batch_size < 1 or request.batch_size > 2**31:
        raise InputError("--batch-size", repr(request.batch_size), "a whole number of at least 1")
    if request.seed < 0 or request.seed >= 2**63:
        raise InputError("--seed", repr(request.seed), "a whole number from 0 to 2^63 - 1")
