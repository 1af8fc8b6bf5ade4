"""Whether a network, its data and its loss go together: tried on a few rows of every split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.plain_text import printable
from whynet.models.data.structure import described, leaves

if TYPE_CHECKING:
    from whynet.models.data.examples import Examples
    from whynet.models.subject import Subject

_ROWS = 8
_KEPT = 2**24
"""Outputs that are kept after they were looked at, rather than computed again when asked for."""


@dataclass(frozen=True)
class Together:
    """What trying network, data and loss together showed.

    Attributes:
        shape: of the outputs for a few rows; empty where there are no data.
        deterministic: whether two calls on the same rows gave the same.
        notes: full sentences for the report.

    """

    shape: tuple[int, ...]
    deterministic: bool
    notes: tuple[str, ...]


def check_together(subject: Subject) -> Together:
    """Call the network twice on a few rows of every split and check what comes back.

    Targets are checked on all rows.

    Raises:
        InputError: the call fails, or its output has no batch axis, is not floating point, is
            not finite, or changes the parameters; or targets do not go with outputs and loss.
            What is wrong with rows or targets names the split.

    """
    splits = {"train": subject.train, "test": subject.test}
    given = {name: data for name, data in splits.items() if data is not None}
    if not given:
        return Together((), True, ())
    shapes: dict[str, tuple[int, ...]] = {}
    notes: list[str] = []
    deterministic = True
    for name, data in given.items():
        size = min(_ROWS, data.count)
        inputs, targets = next(data.batches(size, device=subject.device, dtype=subject.dtype))
        outputs, same = _tried(subject, inputs, name)
        deterministic &= same
        shapes[name] = tuple(outputs.shape)
        notes += subject.loss.check(outputs, targets, argument="loss", data=name)
    _check_same_form(given)
    if len({(len(shape), shape[-1]) for shape in shapes.values()}) > 1:
        found = f"outputs of shape {shapes['test']} beside {shapes['train']} on the training data"
        raise InputError("test", found, "rows of one form in both")
    for name, data in given.items():
        for _, some in data.batches(8192, device=torch.device("cpu"), dtype=subject.dtype):
            subject.loss.check_targets(some, shapes[name], argument="loss", data=name)
    if not deterministic:
        notes.append(
            "Two calls on the same input differ, even in evaluation mode: exact instruments and "
            "curvature do not apply."
        )
    return Together(next(iter(shapes.values())), deterministic, tuple(dict.fromkeys(notes)))


def check_outputs(subject: Subject, split: Literal["train", "test"]) -> None:
    """Check that the network's outputs are finite on every row of a split; looked at once.

    Cost: one forward pass over the split, whose outputs are kept where they are few.

    Raises:
        InputError: some row's are not; the sentence counts them and names the first.

    """
    if split in subject.finite_splits:
        return
    data = subject.examples(split)
    bad: list[int] = []
    if data.count * math.prod(subject.output_shape[1:]) <= _KEPT:
        outputs, _ = subject.outputs(split)
        bad = _bad_rows(outputs, 0)
    else:
        start = 0
        for outputs, targets in subject.answers(split):
            bad += _bad_rows(outputs, start)
            start += len(targets)
    if bad:
        words = {"train": "training", "test": "test"}[split]
        raise InputError(
            "model",
            f"outputs that are NaN or infinite in {str(subject.dtype)[6:]} on {len(bad)} of "
            f"{data.count} rows of the {words} data, first on row {bad[0]}",
            "finite outputs on the data",
        )
    subject.finite_splits.add(split)


def _bad_rows(outputs: Tensor, start: int) -> list[int]:
    bad = ~torch.isfinite(outputs.reshape(len(outputs), -1)).all(1)
    return [start + int(row) for row in torch.nonzero(bad).reshape(-1)]


def _check_same_form(given: dict[str, Examples]) -> None:
    """Refuse test rows of another form than the training rows."""
    forms = {}
    for name, data in given.items():
        inputs, _ = data.take([0])
        forms[name] = [(leaf.label, leaf.shape) for leaf in described(inputs)]
    if len(given) == 2 and [f[0] for f in forms["train"]] != [f[0] for f in forms["test"]]:
        names = [[label for label, _ in form] for form in forms.values()]
        found = f"inputs named {names[1]} beside {names[0]} in the training data"
        raise InputError("test", found, "the same inputs in both")


def _tried(subject: Subject, inputs: Any, split: str) -> tuple[Tensor, bool]:
    """Call the network twice on some rows; returns the outputs and whether both agree."""
    rows = len(leaves(inputs)[0][1])
    before = {name: tensor.clone() for name, tensor in subject.parameters.items()}
    with torch.no_grad():
        first = _called(subject, inputs, split)
        second = _called(subject, inputs, split)
    for name, tensor in subject.parameters.items():
        if not torch.equal(tensor, before[name]):
            tensor.copy_(before[name])
            raise InputError(
                "model",
                f"a forward pass that edits its parameter {name!r} (Embedding with max_norm does)",
                "a network whose forward pass leaves its weights alone",
            )
    if first.ndim == 0 or first.shape[0] != rows:
        raise InputError(
            "model",
            f"an output of shape {tuple(first.shape)} for {rows} rows",
            "one output a row, along the first axis",
        )
    if not first.is_floating_point():
        raise InputError(
            "model",
            f"an output of dtype {first.dtype}",
            "real scores before any argmax, so that they can be differentiated",
        )
    if not bool(torch.isfinite(first).all()):
        raise InputError("model", "outputs that are NaN or infinite", "finite outputs on the data")
    return first, torch.equal(first, second)


def _called(subject: Subject, inputs: Any, split: str) -> Tensor:
    try:
        return subject.forward(subject.parameters, inputs)
    except InputError:
        raise
    except Exception as error:
        shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        lines = str(error).strip().splitlines()
        words = f"{type(error).__name__}: {printable(lines[0] if lines else '', 300)}"
        if isinstance(inputs, Tensor) and (hint := _wanted_rows(subject, inputs)):
            raise InputError(split, f"rows of shape {list(shape[1:])} ({words})", hint) from error
        raise InputError(
            "model",
            f"a forward pass that fails on a batch of shape {shape} ({words})",
            "a network that accepts the rows of the data",
        ) from error


_SIZES = {"in_features": "features", "in_channels": "channels", "input_size": "features",
          "num_features": "features", "num_embeddings": "tokens"}  # fmt: skip


def _wanted_rows(subject: Subject, inputs: Tensor) -> str:
    """Say what the first layer of a size takes, where it is the one that fails on the rows."""
    entered: list[nn.Module] = []
    hooks = [
        child.register_forward_pre_hook(lambda layer, _: entered.append(layer))
        for child in subject.module.modules()
        if any(hasattr(child, size) for size in _SIZES)
    ]
    try:
        with torch.no_grad():
            subject.forward(subject.parameters, inputs)
    except Exception:  # noqa: BLE001 - it failed before, this time to see where
        pass
    finally:
        for hook in hooks:
            hook.remove()
    if not entered:
        return ""
    layer = entered[-1]
    name = next(name for name, child in subject.module.named_modules() if child is layer)
    size, what = next((size, what) for size, what in _SIZES.items() if hasattr(layer, size))
    first = "first layer" if len(entered) == 1 else f"layer {name!r}"
    return (
        f"rows that a network accepts whose {first} ({type(layer).__name__}) takes "
        f"{getattr(layer, size)} {what}"
    )
