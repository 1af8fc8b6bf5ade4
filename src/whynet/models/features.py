"""What the last linear layer reads: the features a network has made of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.data.examples import Examples
from whynet.models.neurons import is_layer, spatial_axes
from whynet.models.subject import Split, Subject

See = Callable[[str, nn.Module, Tensor, Tensor], Tensor | None]
"""Gets path, layer, its input and its output; returns another output, or None."""


@dataclass(frozen=True)
class Head:
    """The last linear layer, whose output is that of the network.

    Attributes:
        path: dotted name in the network (foreign text).
        weight: `[outputs, features]`, float64.

    """

    path: str
    weight: np.ndarray


@dataclass(frozen=True)
class Features:
    """What a head reads, example by example.

    Attributes:
        rows: `[examples, features]`, float64.
        outputs: `[examples, ...]`.
        targets: `[examples, ...]`.

    """

    rows: np.ndarray
    outputs: Tensor
    targets: Tensor


@contextmanager
def linear_layers(module: nn.Module, see: See) -> Iterator[None]:
    """Watch, or replace, what linear layers return while the network runs in this context."""

    def hook(path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Tensor | None]:
        def note(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                return see(path, layer, args[0], output)
            return None

        return note

    handles = []
    try:
        for path, child in module.named_modules():
            if is_layer(child) and spatial_axes(child) == 0:
                handles.append(child.register_forward_hook(hook(path)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def outgoing(layer: nn.Module) -> Tensor:
    """Return the weight of a linear layer as `[outputs, inputs]`, also that of GPT-2's `Conv1D`."""
    weight: Tensor = cast(Any, layer).weight.detach()
    return weight if isinstance(layer, nn.Linear) else weight.T


def bounded(examples: Examples, most: int, *key: str | int) -> Examples:
    """Return a seeded subset of at most so many examples, in their order; `key` is of the seed."""
    if examples.count <= most:
        return examples
    generator = np.random.default_rng(seed_from("bounded", *key))
    return examples.subset(np.sort(generator.permutation(examples.count)[:most]))


def find_head(subject: Subject, split: Split, *, made: bool = True) -> Head | NotApplicable:
    """Find the linear layer whose output is the network's.

    Args:
        subject: the network.
        split: the data it is tried on.
        made: whether it must read features that the network has made, and not the inputs.

    Returns:
        The layer, or the sentence that says why there is none: another operation makes the
        outputs, the layer reads the inputs themselves, or it reads several vectors an example.

    """
    examples = subject.examples(split)
    count = min(4, examples.count)
    inputs, _ = examples.take(range(count), device=subject.device, dtype=subject.dtype)
    calls: list[tuple[str, Tensor, Tensor, Tensor]] = []

    def see(path: str, layer: nn.Module, read: Tensor, output: Tensor) -> None:
        calls.append((path, outgoing(layer).clone(), read.clone(), output.clone()))

    with torch.no_grad(), linear_layers(subject.module, see):
        outputs = subject.forward(subject.parameters, inputs)
    last = next((call for call in reversed(calls) if _same(call[3], outputs)), None)
    if last is None:
        return NotApplicable(
            "This does not apply: no linear layer was found whose output is the network's output."
        )
    path, weight, read, _ = last
    if made and isinstance(inputs, Tensor) and _same(read, inputs):
        return NotApplicable(
            "This does not apply: the last linear layer reads the inputs themselves, so that "
            "there are no features that the network has made."
        )
    if read.ndim != 2 or len(read) != count:
        return NotApplicable(
            "This does not apply: the last linear layer reads more than one vector an example."
        )
    return Head(path, weight.double().cpu().numpy())


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(one.reshape(-1), other.reshape(-1))


def features(subject: Subject, head: Head, split: Split, most: int) -> Features:
    """Run at most `most` examples through the network and keep what the head reads."""
    kept: list[Tensor] = []
    outputs, targets = [], []

    def see(path: str, layer: nn.Module, read: Tensor, output: Tensor) -> None:
        if path == head.path:
            latest[:] = [read.detach()]

    latest: list[Tensor] = []
    examples = bounded(subject.examples(split), most, split)
    with torch.no_grad(), linear_layers(subject.module, see):
        for inputs, wanted in examples.batches(
            subject.batch_size, device=subject.device, dtype=subject.dtype
        ):
            outputs.append(subject.forward(subject.parameters, inputs).cpu())
            targets.append(wanted.cpu())
            kept.append(latest[0].double().cpu())
    return Features(torch.cat(kept).numpy(), torch.cat(outputs), torch.cat(targets))
