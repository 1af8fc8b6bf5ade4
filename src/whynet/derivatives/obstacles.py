"""What stands in the way of derivatives, in words: operations, classes, first lines of errors."""

from __future__ import annotations

import re
from itertools import islice

from torch import Tensor, nn

_OPERATION = (
    r"derivative for '?(?:aten::)?(\w+)",
    r"forward AD with (?:aten::)?(\w+)",
    r"batching rule (?:not implemented )?for (?:aten::)?(\w+)",
)
_RANDOM = re.compile(r"Dropout|RReLU|Fractional|Noise|Gumbel", re.IGNORECASE)
_NODES = 20_000


def obstacle(error: Exception) -> str:
    """Say in one phrase what an exception of PyTorch complains about.

    The text of the error is foreign; it is cut to one line of at most 160 characters.

    """
    text = " ".join(str(error).split())
    for pattern in _OPERATION:
        if match := re.search(pattern, text):
            return f"the operation {match[1]} does not support it"
    first = re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0][:160].rstrip(" .")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def custom_functions(loss: Tensor) -> tuple[str, ...]:
    """Names of the user's `autograd.Function` classes in the graph of a loss, sorted."""
    found: set[str] = set()
    seen: set[object] = set()
    todo = [loss.grad_fn]
    while todo and len(seen) < _NODES:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(type(node), "_forward_cls"):
            found.add(type(node).__name__.removesuffix("Backward"))
        todo.extend(follower for follower, _ in node.next_functions)
    return tuple(sorted(found))


def random_parts(module: nn.Module) -> tuple[str, ...]:
    """Class names of parts that draw random numbers in training mode, sorted, at most four."""
    names = {type(p).__name__ for p in module.modules() if p.training}
    return tuple(islice(sorted(n for n in names if _RANDOM.search(n)), 4))


def renormalized(module: nn.Module) -> tuple[str, ...]:
    """Paths of embeddings whose `max_norm` edits their weights in the forward pass."""
    kinds = (nn.Embedding, nn.EmbeddingBag)
    parts = module.named_modules()
    return tuple(
        path or type(part).__name__
        for path, part in parts
        if isinstance(part, kinds) and part.max_norm is not None
    )


def rejected(module: nn.Module) -> str | None:
    """Say why a module cannot be called with other parameters at all; None where it can."""
    for part in module.modules():
        name = type(part).__name__
        if isinstance(part, nn.DataParallel | nn.parallel.DistributedDataParallel):
            return f"{name} hides the network: give its `.module`"
        if type(part).__module__.startswith(("torch.jit", "torch._jit")) or name in _JIT:
            return f"{name} is compiled by TorchScript: give the eager module it was made from"
    return None


_JIT = {"ScriptModule", "RecursiveScriptModule", "TopLevelTracedModule", "TracedModule"}
