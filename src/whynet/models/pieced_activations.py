"""Activations that Hugging Face writes in several functions of torch, as one activation each.

GPT-2's GELU is a sum of powers, a tanh and a product. What watches functions of torch would see
these; here they run unseen, and the whole activation is told instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

_GELUS: Final = frozenset({"NewGELU", "FastGELU", "AccurateGELU", "GELUTanh", "PytorchGELUTanh"})
"""Ways to compute GELU, as Hugging Face calls them."""

_PLAIN: Final = frozenset({"Linear", "GELU", "SiLU", "Mish"})
"""Nothing, or one function of torch."""

Seen = Callable[[str, nn.Module, Tensor, Tensor], None]
"""Told the name of the activation, its module, what it read and what it returned."""


def pieced_activation(module: nn.Module) -> str | None:
    """Name an activation that is written in pieces, or return None.

    Only classes of `transformers.activations` count, which are known to work on every element by
    itself; those with parameters do not.
    """
    kind = type(module)
    if kind.__module__ != "transformers.activations" or any(True for _ in module.parameters()):
        return None
    name = kind.__name__.removesuffix("Activation")
    if name in _PLAIN:
        return None
    return "gelu" if name in _GELUS else name.lower()


@contextmanager
def whole_activations(module: nn.Module, seen: Seen) -> Iterator[None]:
    """Hide the pieces of such activations from modes of torch functions inside this context.

    Args:
        module: the network; hooks are removed on the way out, also after a failure.
        seen: called after each of them, also inside a mode.

    """
    guards: list[Any] = []

    def enter(_: nn.Module, __: Any) -> None:
        guards.append(torch._C.DisableTorchFunction())
        guards[-1].__enter__()

    def leave(name: str, child: nn.Module, args: tuple[Any, ...], output: object) -> None:
        guards.pop().__exit__(None, None, None)
        source = args[0] if args else None
        if isinstance(source, Tensor) and isinstance(output, Tensor):
            seen(name, child, source, output)

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda child, args, output: leave(name, child, args, output)

    handles = []
    try:
        for child in module.modules():
            name = pieced_activation(child)
            if name is not None:
                handles.append(child.register_forward_pre_hook(enter))
                handles.append(child.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        while guards:
            guards.pop().__exit__(None, None, None)
