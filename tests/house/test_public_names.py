"""The public face: names of the right type that no subpackage hides."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import FunctionType, ModuleType

import whynet

KINDS: dict[str, type] = {
    "Subject": type,
    "Trainer": type,
    "Recorder": type,
    "Trajectory": type,
    "examine": FunctionType,
    "compare": FunctionType,
    "measure": FunctionType,
    "condense": FunctionType,
    "load_resized": FunctionType,
    "claim": FunctionType,
    "verify": FunctionType,
    "Estimate": type,
    "Measurement": type,
    "NotApplicable": type,
    "Failed": type,
    "InputError": type,
    "StoreError": type,
    "kernels": ModuleType,
    "regions": ModuleType,
    "curvature": ModuleType,
    "__version__": str,
}


def test_public_names_keep_their_type_after_everything_was_imported() -> None:
    for module in pkgutil.walk_packages(whynet.__path__, "whynet."):
        importlib.import_module(module.name)
    assert set(whynet.__all__) == set(KINDS)
    assert len(whynet.__all__) <= 25
    for name, kind in KINDS.items():
        assert isinstance(getattr(whynet, name), kind), name
    for name in ("InputError", "StoreError"):
        assert issubclass(getattr(whynet, name), Exception)


def test_no_public_name_equals_a_direct_subpackage() -> None:
    packages = {module.name for module in pkgutil.iter_modules(whynet.__path__)}
    assert not packages & set(whynet.__all__)


def test_public_names_are_documented() -> None:
    for name in set(whynet.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(whynet, name)), name


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(whynet, "no_such_name")
