"""With which arguments a function builds a network of given, smaller shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from itertools import islice, product
from typing import Any, Final

from torch import Tensor, nn

from whynet.models.preservation import preserved

_MOST_TRIES: Final = 64
"""Networks that are built at most."""

Sizes = Mapping[int, tuple[int, ...]]


def changed_arguments(
    build: Callable[..., nn.Module], large: Mapping[str, Tensor], small: Mapping[str, Tensor]
) -> dict[str, Any] | None:
    """Look for arguments of a factory with which it builds the smaller network.

    Whole numbers among the defaults, also inside tuples and lists, are widths that may have
    changed; what they may have become is read off the shapes. A choice counts only where the
    network built with it has exactly the shapes of the small one. Runs the factory.

    Args:
        build: returns the large network when called without arguments.
        large: state dict of the large network.
        small: state dict of the small one.

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
        if given and _shapes(build, given) == wanted:
            return given
    return None


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
