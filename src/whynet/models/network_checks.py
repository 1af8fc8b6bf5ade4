"""What a network must be before anything is measured on it, and what was done to make it so."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from whynet.core.errors import InputError

_HALF = (torch.float16, torch.bfloat16)
_FULL = (torch.float32, torch.float64)


def checked_copy(
    module: nn.Module, device: str | torch.device, dtype: torch.dtype | None
) -> tuple[nn.Module, list[str]]:
    """Copy a network, in evaluation mode, in one precision, after checking what it is made of.

    Returns:
        The copy and the sentences that say what was done on the way.

    Raises:
        InputError: the network cannot be copied, is not initialized, is quantized, complex or on
            the meta device, or holds parameters that are not finite.

    """
    notes: list[str] = []
    for attribute in ("_orig_mod",):
        inner = getattr(module, attribute, None)
        if isinstance(inner, nn.Module):
            module = inner
            notes.append("The compiled network was unwrapped; the original module is examined.")
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        module = module.module
        notes.append("The parallel wrapper was removed; the network inside is examined.")
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError("model", "a TorchScript module", "the eager torch.nn.Module it came from")
    _check_tensors(module)
    copied = _copied(module)
    copied.eval()
    for parameter in copied.parameters():
        parameter.grad = None
    chosen = dtype or _one_precision(copied, notes)
    copied.to(device=device, dtype=chosen)
    _check_finite(copied, notes)
    _note_ties_and_hooks(copied, notes)
    return copied, notes


def _check_tensors(module: nn.Module) -> None:
    named = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in named:
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise InputError(
                "model",
                f"the lazy parameter {name!r}, not yet initialized",
                "a network that has seen one batch",
            )
        if tensor.is_meta:
            raise InputError("model", f"{name!r} on the meta device", "parameters with values")
        if tensor.is_quantized or "float8" in str(tensor.dtype):
            raise InputError("model", f"{name!r} of dtype {tensor.dtype}", "floating-point weights")
    for name, parameter in module.named_parameters():
        if parameter.is_complex() or not parameter.is_floating_point():
            raise InputError("model", f"{name!r} of dtype {parameter.dtype}", "real weights")


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise InputError(
            "model",
            f"a network that cannot be deep-copied ({type(error).__name__}: {error})",
            "a function build() that makes it anew, with its weights in a file",
        ) from error


def _one_precision(module: nn.Module, notes: list[str]) -> torch.dtype:
    found = {parameter.dtype for parameter in module.parameters()}
    if not found:
        return torch.get_default_dtype()
    if found & set(_HALF):
        notes.append("Half-precision weights were cast to float32 to be measured.")
        return torch.float64 if torch.float64 in found else torch.float32
    if len(found) > 1:
        notes.append("Weights of mixed precision were cast to float64 to be measured.")
        return torch.float64
    return found.pop()


def _check_finite(module: nn.Module, notes: list[str]) -> None:
    """Refuse what is not finite, except buffers of 0 and minus infinity, which are masks."""
    buffers = dict(module.named_buffers())
    for name, tensor in [*module.named_parameters(), *buffers.items()]:
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        if name in buffers and bool(((tensor == 0) | (tensor == -torch.inf)).all()):
            notes.append(f"The buffer {name!r} of 0 and minus infinity is taken as a mask.")
            continue
        count = int((~torch.isfinite(tensor)).sum())
        raise InputError(
            "model", f"{count} values in {name!r} that are NaN or infinite", "finite weights"
        )


def _note_ties_and_hooks(module: nn.Module, notes: list[str]) -> None:
    once = dict(module.named_parameters())
    every = dict(module.named_parameters(remove_duplicate=False))
    if len(every) > len(once):
        tied = ", ".join(sorted(set(every) - set(once))[:3])
        notes.append(f"Tied parameters are counted once ({tied}).")
    frozen = [name for name, parameter in once.items() if not parameter.requires_grad]
    if frozen and len(frozen) < len(once):
        notes.append(
            f"{len(frozen)} of {len(once)} parameter tensors are frozen; "
            "curvature is measured on the trainable ones."
        )
    hooked = [n for n, child in module.named_modules() if child._forward_hooks]
    if hooked:
        notes.append(f"Forward hooks were found and kept (at {hooked[0] or 'the root'}).")


def state_of(
    initial: Mapping[str, Tensor] | nn.Module | None, module: nn.Module
) -> dict[str, Tensor] | None:
    """Check initial weights against a network; returns a detached copy of the state.

    Raises:
        InputError: names or shapes differ from the network's.

    """
    if initial is None:
        return None
    state = initial.state_dict() if isinstance(initial, nn.Module) else dict(initial)
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        raise InputError(
            "initial",
            f"missing {missing[:5]} and unexpected {unexpected[:5]} entries",
            "the state dict of the same architecture",
        )
    for name, tensor in wanted.items():
        if isinstance(tensor, Tensor):
            _check_initial(name, state[name], tensor)
    return {name: value.detach().clone().cpu() for name, value in state.items()}


def _check_initial(name: str, value: object, wanted: Tensor) -> None:
    """Refuse an entry of the initial weights that is no plain tensor of values for the network."""
    if not isinstance(value, Tensor):
        raise InputError("initial", f"{name!r} of type {type(value).__name__}", "a tensor")
    if value.is_meta or value.layout != torch.strided or value.is_quantized or value.is_complex():
        found = f"{name!r} of {value.layout} and {value.dtype} on {value.device}"
        raise InputError("initial", found, "dense real tensors with values")
    if tuple(value.shape) != tuple(wanted.shape):
        found = f"{name!r} of shape {tuple(value.shape)}"
        raise InputError("initial", found, f"shape {tuple(wanted.shape)}")
    fits = value.to(wanted.dtype) if wanted.is_floating_point() else value
    finite = torch.isfinite(fits.cpu()) | (fits.cpu() == wanted.cpu())  # a mask stays as it is
    if not bool(finite.all()):
        raise InputError("initial", f"values in {name!r} that are not finite", "finite weights")


def select_output(outputs: Any, output: str | int | None) -> Tensor:
    """Pick the examined tensor from what a network returns.

    Raises:
        InputError: the output has several entries and none was chosen, or it is no tensor.

    """
    if isinstance(outputs, Tensor) and output is None:
        return outputs
    entries = _entries(outputs)
    if output is not None:
        key = int(output) if isinstance(output, str) and output.isdigit() else output
        if key not in entries:
            raise InputError("output", repr(output), f"one of {sorted(map(str, entries))}")
        chosen = entries[key]
        if not isinstance(chosen, Tensor):
            raise InputError("output", f"{output!r} of type {type(chosen).__name__}", "a tensor")
        return chosen
    tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    if not tensors:
        raise InputError("model", f"an output of type {type(outputs).__name__}", "a tensor")
    raise InputError(
        "output",
        f"a network that returns {len(tensors)} tensors ({', '.join(map(str, tensors))})",
        "the name or position of the one to examine, such as --output "
        + str("logits" if "logits" in tensors else next(iter(tensors))),
    )


def chosen_entry(outputs: Any, output: str | int | None) -> tuple[str | int, bool]:
    """Return the key of the examined entry of a structured output, and whether it is an attribute.

    Assumes that `select_output` accepts the same arguments.
    """
    entries = _entries(outputs)
    chosen = select_output(outputs, output)
    key = next(key for key, value in entries.items() if value is chosen)
    return key, not isinstance(outputs, (Mapping, tuple, list)) or hasattr(outputs, "_fields")


def plain_copy(module: nn.Module, inputs: Tensor, output: str | int | None) -> nn.Module:
    """Return a copy in float64 on the CPU that returns the examined entry of what it returns."""
    twin = copy.deepcopy(module).to("cpu", torch.float64)
    with torch.no_grad():
        outputs = twin(inputs)
    if isinstance(outputs, Tensor):
        return twin
    return Selected(twin, *chosen_entry(outputs, output))


def _entries(outputs: Any) -> dict[str | int, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, type):
        return {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return dict(zip(outputs._fields, outputs, strict=True))
    if isinstance(outputs, (tuple, list)):
        return dict(enumerate(outputs))
    return {}


class Selected(nn.Module):
    """A network that returns one entry of its output, in a form that a tracer can follow."""

    def __init__(self, module: nn.Module, key: str | int, by_attribute: bool) -> None:
        super().__init__()
        self.module = module
        self.key = key
        self.by_attribute = by_attribute

    def forward(self, inputs: Tensor) -> Any:
        """Return the entry of the output at these inputs."""
        outputs = self.module(inputs)
        return getattr(outputs, str(self.key)) if self.by_attribute else outputs[self.key]


def built(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network a function makes.

    Raises:
        InputError: it is no function, or makes something else.

    """
    if isinstance(build, type) or not callable(build):
        raise InputError("model", f"{build!r}", "a torch.nn.Module, or a function that returns one")
    module = build()
    if not isinstance(module, nn.Module):
        raise InputError("model", f"a function returning {type(module).__name__}", "a Module")
    return module
