"""With which arguments a function or a class builds a network of given, smaller shapes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Final

from torch import Tensor, nn

from whynet.models.preservation import preserved

_MOST_TRIES: Final = 64
"""Networks that are built at most."""


@dataclass(frozen=True)
class Builder:
    """A call that builds the smaller network.

    Attributes:
        name: of the function or class (foreign text).
        arguments: the arguments, by name, that differ from those of the large network.
        given: arguments that it needs and that are as before.

    """

    name: str
    arguments: dict[str, Any]
    given: dict[str, Any]

    def call(self) -> str:
        """Write the call as code."""
        words = ", ".join(
            f"{name}={value!r}" for name, value in (self.given | self.arguments).items()
        )
        return f"{self.name}({words})"


def builder_of(
    factory: Callable[..., nn.Module] | None,
    module: nn.Module,
    small: Mapping[str, Tensor],
    same: Callable[[nn.Module], bool],
) -> Builder | None:
    """Look for a call of the user's that builds the smaller network.

    The function on the command line is tried first, then the class of the network: what its
    constructor was given is read off attributes of the same name, and it must build the large
    network with them.

    Args:
        factory: returns the large network when called without arguments; None where there is none.
        module: the large network.
        small: state dict of the small one.
        same: whether a network of its shapes computes what the small one does, given its state.

    Cost: runs the factory or the constructor, 64 times each at most.

    """
    large = module.state_dict()
    if factory is not None:
        arguments = changed_arguments(factory, large, small, same)
        if arguments is not None:
            name = getattr(factory, "__name__", type(factory).__name__)
            return Builder(name, arguments, {})
    kind = type(module)
    if kind.__module__.startswith("torch.") or kind is factory:
        return None
    given = _constructed_with(module)
    if given is None or _shapes(kind, given) != {n: tuple(t.shape) for n, t in large.items()}:
        return None
    arguments = changed_arguments(functools.partial(kind, **given), large, small, same)
    if arguments is None:
        return None
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    needed = {n: v for n, v in given.items() if n not in arguments and defaults[n] is not v}
    needed = {
        n: v for n, v in needed.items() if type(defaults[n]) is not type(v) or defaults[n] != v
    }
    return Builder(kind.__name__, arguments, needed)


def _constructed_with(module: nn.Module) -> dict[str, Any] | None:
    """Return what a network's constructor was given, read off its attributes, or None."""
    try:
        parameters = inspect.signature(type(module)).parameters
    except (TypeError, ValueError):
        return None
    plain = (bool, int, float, str, tuple, list, type(None))
    given = {}
    for name, parameter in parameters.items():
        value = getattr(module, name, parameter.default)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if value is inspect.Parameter.empty or parameter.kind is parameter.POSITIONAL_ONLY:
            return None
        given[name] = value if isinstance(value, plain) else parameter.default
        if given[name] is inspect.Parameter.empty:
            return None
    return given


Sizes = Mapping[int, tuple[int, ...]]


def changed_arguments(
    build: Callable[..., nn.Module],
    large: Mapping[str, Tensor],
    small: Mapping[str, Tensor],
    same: Callable[[nn.Module], bool] = lambda built: True,
) -> dict[str, Any] | None:
    """Look for arguments of a factory with which it builds the smaller network.

    Whole numbers among the defaults, also inside tuples and lists, are widths that may have
    changed; what they may have become is read off the shapes. A choice counts only where the
    network built with it has exactly the shapes of the small one. Runs the factory.

    Args:
        build: returns the large network when called without arguments.
        large: state dict of the large network.
        small: state dict of the small one.
        same: whether a network of these shapes is the small one, given its state.

    Returns:
        The arguments that change, by name; None where none were found.

    """
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):
        return None
    sizes = _changes(large, small)
    choices = {
        name: found
        for name, parameter in parameters.items()
        if len(found := _choices(parameter.default, sizes)) > 1
    }
    wanted = {name: tuple(tensor.shape) for name, tensor in small.items()}
    for values in islice(product(*choices.values()), _MOST_TRIES):
        given = dict(zip(choices, values, strict=True))
        given = {n: v for n, v in given.items() if v != parameters[n].default}
        if given and _shapes(build, given) == wanted and _is_same(build, given, small, same):
            return given
    return None


def _is_same(
    build: Callable[..., nn.Module],
    given: Mapping[str, Any],
    small: Mapping[str, Tensor],
    same: Callable[[nn.Module], bool],
) -> bool:
    with preserved():
        try:
            built = build(**given)
            built.load_state_dict(dict(small))
            return same(built.eval())
        except Exception:  # noqa: BLE001 - code of the user may fail with other widths in any way
            return False


def _changes(large: Mapping[str, Tensor], small: Mapping[str, Tensor]) -> Sizes:
    """Return, for every size of an axis, the sizes it became."""
    found: dict[int, set[int]] = {}
    for name, tensor in large.items():
        if name in small and small[name].ndim == tensor.ndim:
            for old, new in zip(tensor.shape, small[name].shape, strict=True):
                found.setdefault(old, set()).add(new)
    return {
        old: tuple(sorted(new, key=lambda size: (size == old, size))) for old, new in found.items()
    }


def _choices(default: Any, sizes: Sizes) -> list[Any]:
    if isinstance(default, bool):
        return [default]
    if isinstance(default, int):
        return [*sizes.get(default, ()), *(() if default in sizes.get(default, ()) else (default,))]
    if isinstance(default, tuple | list) and default:
        each = [_choices(item, sizes) for item in default]
        return [type(default)(items) for items in islice(product(*each), _MOST_TRIES)]
    return [default]


def _shapes(
    build: Callable[..., nn.Module], given: Mapping[str, Any]
) -> dict[str, tuple[int, ...]] | None:
    with preserved():
        try:
            state = build(**given).state_dict()
        except Exception:  # noqa: BLE001 - a factory may refuse any combination in any way
            return None
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
