"""From a module to its traced operations: a plain copy, its graph, and words for its nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from whynet.models.piecewise_linear_table import IN_PLACE, REASONS, UNKNOWN, function_name


class RefusedError(Exception):
    """Unwinds the reading of a network; its text says what stands in the way."""


def float64_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy in float64 with plain weights and nothing written in place."""
    twin = copy.deepcopy(module).double()
    for part in list(twin.modules()):
        if getattr(part, "inplace", False) is True:
            vars(part)["inplace"] = False
        if parametrize.is_parametrized(part):
            _make_plain(part)
    return twin.requires_grad_(False)


def _make_plain(part: Any) -> None:
    """Give a parametrized copy plain weights; torch's own way changes the class of the original."""
    weights = {name: getattr(part, name).detach().clone() for name in part.parametrizations}
    part.__class__ = type(part).__mro__[1]
    del part._modules["parametrizations"]
    for name, weight in weights.items():
        part.register_parameter(name, nn.Parameter(weight))


def trace(module: nn.Module) -> fx.Graph:
    """Return the traced forward.

    Raises:
        RefusedError: it cannot be traced.

    """
    try:
        return fx.Tracer().trace(module)
    except Exception as error:
        # A module of torch is read as one operation inside another, and is to be named as such.
        if type(module).__module__.startswith("torch.nn."):
            reason = REASONS.get(type(module).__name__.lower(), UNKNOWN)
            raise RefusedError(f"it is a {type(module).__name__}, {reason}") from error
        raise RefusedError(
            "its forward cannot be traced, because its course depends on the values of its input "
            f"or it runs code outside torch ({first_line(error)}); write it without branches on "
            "the input"
        ) from error


def first_line(error: Exception) -> str:
    """Return type and first line of an exception's message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def describe(node: fx.Node, module: nn.Module | None = None) -> str:
    """Say which node this is: its module's path, and what it is or calls."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(node.target) if node.op == "call_module" else (list(stack) or [""])[-1]
    owner = f"`{path}`" if path else "its own forward"
    if module is not None:
        return f"{owner} is a {type(module).__name__}"
    name = function_name(node.target) or getattr(node.target, "__name__", str(node.target))
    return f"{owner} calls {name}"


def callable_of(node: fx.Node, module: nn.Module | None) -> Callable[..., Any]:
    """Return what a node calls, made safe against writing into its arguments."""
    if module is not None:
        return module
    if node.op == "call_method":
        method = str(node.target)
        return _on_copies(lambda self, *args, **kw: getattr(self, method)(*args, **kw), node)
    assert callable(node.target)
    return _on_copies(node.target, node)


def _on_copies(function: Callable[..., Any], node: fx.Node) -> Callable[..., Any]:
    """Keep a function that writes into its arguments from changing the values of other nodes."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    settings = (*node.args, node.kwargs.get("inplace"))
    if not (name.endswith("_") or name in IN_PLACE or any(flag is True for flag in settings)):
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*(a.clone() if isinstance(a, Tensor) else a for a in args), **kwargs)

    return call


def attribute_of(module: nn.Module, path: str) -> Any:
    """Return the parameter, buffer or other attribute at a dotted path."""
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value
