"""Running a user's code: the only place that does, always announced."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from whynet.core.errors import InputError
from whynet.models.load.environment import user_environment
from whynet.models.load.paths import existing_file
from whynet.models.load.reference import parse_reference
from whynet.models.load.wording import printable, quoted, suggestion

Announce = Callable[[str], None]
_serial = itertools.count()


@dataclass(frozen=True)
class Fetched:
    """What a reference to code named.

    Attributes:
        value: the object; where it was made by a call, what the call returned.
        name: how sentences call it (`build() in model.py`).
        path: the file whose code ran.
        sha256: SHA-256 of that file.

    """

    value: Any
    name: str
    path: Path
    sha256: str


def fetch(
    reference: str,
    argument: str,
    announce: Announce,
    called: Callable[[Any], bool] | None = None,
) -> Fetched:
    """Run the code a reference names and return what it names there.

    Args:
        reference: `path/to/file.py:name` or `package.module:name`.
        argument: name of the argument the reference came from.
        announce: called with `running code from <path>` before any of it runs.
        called: whether an object is to be called without arguments; None: never.

    Raises:
        InputError: the file or name is missing, or the code raises.

    """
    wanted = parse_reference(reference, argument)
    if wanted.file is not None:
        path = existing_file(wanted.file, argument, "a Python file that is there")
        folder = path.parent
    else:
        path, folder = _module_file(wanted.module, argument), Path.cwd()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(
            argument, f"{quoted(path)}: {error.strerror}", "a readable file"
        ) from error
    announce(f"running code from {printable(str(path), 500)}")
    with user_environment(folder):
        if wanted.file is not None:
            module = _run_file(path, source, argument)
        else:
            module = _import_module(wanted.module, path, argument)
        value = _named(module, wanted.name, path, argument)
        name = f"{wanted.name} in {quoted(path.name)}"
        if called is not None and called(value):
            name = f"{wanted.name}() in {quoted(path.name)}"
            value = _call(value, name, path, argument)
    return Fetched(value, name, path, hashlib.sha256(source).hexdigest())


def run_module(file: str, argument: str, announce: Announce) -> tuple[ModuleType, str]:
    """Run a user's file and return it as a module, with its SHA-256.

    Args:
        file: path of the Python file.
        argument: name of the argument it came from.
        announce: called with `running code from <path>` before any of it runs.

    Raises:
        InputError: the file is missing, or its code raises.

    """
    path = existing_file(file, argument, "a Python file that is there")
    source = path.read_bytes()
    announce(f"running code from {printable(str(path), 500)}")
    with user_environment(path.parent):
        return _run_file(path, source, argument), hashlib.sha256(source).hexdigest()


def _run_file(path: Path, source: bytes, argument: str) -> ModuleType:
    """Run exactly the bytes that were hashed, under a module name of our own."""
    name = f"_whynet_user_{next(_serial)}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None:  # pragma: no cover - a path that ends in .py always has a loader
        raise InputError(argument, quoted(path), "a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        code = compile(source, str(path.absolute()), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[name]
        raise explain(error, f"{quoted(path.name)}", path, argument) from error
    return module


def _module_file(name: str, argument: str) -> Path:
    """Find the file of an importable module without importing its parents."""
    wanted = "the dotted name of a module that can be imported here"
    with user_environment(Path.cwd()):
        top, *rest = name.split(".")
        try:
            spec = importlib.util.find_spec(top)
            full = top
            for part in rest:
                places = spec.submodule_search_locations if spec else None
                full += f".{part}"
                spec = importlib.machinery.PathFinder.find_spec(full, places) if places else None
        except (ImportError, ValueError, AttributeError) as error:
            raise InputError(
                argument, f"{quoted(name)}: {printable(str(error))}", wanted
            ) from error
    if spec is None:
        raise InputError(argument, f"no module {quoted(name)}", wanted)
    if not spec.has_location or spec.origin is None or not spec.origin.endswith(".py"):
        raise InputError(argument, f"{quoted(name)}, a module without a Python file", wanted)
    return Path(spec.origin)


def _import_module(name: str, path: Path, argument: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise explain(error, f"module {quoted(name)}", path, argument) from error


def _named(module: ModuleType, name: str, path: Path, argument: str) -> Any:
    if not hasattr(module, name):
        names = [other for other in vars(module) if not other.startswith("_")]
        raise InputError(
            argument,
            f"no name {quoted(name)} in {quoted(path.name)}{suggestion(name, names)}",
            "a name the file defines",
        )
    return getattr(module, name)


def _call(value: Callable[[], Any], name: str, path: Path, argument: str) -> Any:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if required:
        raise InputError(
            argument,
            f"{name}, which needs the arguments {', '.join(required)}",
            "a function without required arguments",
        )
    try:
        made = value()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise explain(error, name, path, argument) from error
    if inspect.iscoroutine(made):
        made.close()
    return made


def explain(error: BaseException, what: str, path: Path, argument: str) -> InputError:
    """Say in one sentence what went wrong in a user's code, and in which of its lines.

    Args:
        error: what their code raised.
        what: what was running, as a subject of the sentence.
        path: their file.
        argument: name of the argument it came from.

    """
    where = _line(error, path)
    if isinstance(error, SyntaxError):
        line = f"line {error.lineno} of " if error.lineno else ""
        name = quoted(Path(error.filename or path).name)
        return InputError(
            argument, f"a syntax error in {line}{name}: {printable(error.msg)}", "valid Python"
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return InputError(
            argument,
            f"{what} importing {quoted(error.name)}, which is not installed here{where}",
            f"a file whose imports are in {quoted(sys.prefix)}",
        )
    if isinstance(error, SystemExit):
        return InputError(
            argument, f"{what} calling sys.exit{where}", "code that leaves the program running"
        )
    message = f": {printable(str(error))}" if str(error) else ""
    return InputError(
        argument,
        f"{what} raising {type(error).__name__}{message}{where}",
        "code that runs without an error",
    )


def _line(error: BaseException, path: Path) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) == path.absolute()]
    return f" (line {own[-1].lineno} of {quoted(path.name)})" if own else ""
