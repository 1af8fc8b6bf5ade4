"""What an object must be to count as a network here; wrappers come off."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.models.load.wording import quoted

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def sound_network(value: object, name: str, argument: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network in `value`, out of its wrappers, after checking its parameters.

    Args:
        value: what the user's code gave.
        name: how sentences call it.
        argument: name of the argument it came from.

    Returns:
        The network, and a note for each wrapper that came off.

    Raises:
        InputError: it is no network, or one that holds what cannot be examined.

    """
    if isinstance(value, type):
        raise InputError(
            argument, f"{name}, a class ({value.__name__})", "an instance: Net(...), not Net"
        )
    if value is None:
        raise InputError(
            argument, f"None from {name}", "a torch.nn.Module (is a return statement missing?)"
        )
    if not isinstance(value, nn.Module):
        raise InputError(
            argument, f"an object of type {type(value).__name__} from {name}", "a torch.nn.Module"
        )
    module, notes = _unwrapped(value)
    for path, child in module.named_modules():
        _check_module(child, f"{quoted(path)} in it" if path else "it", name, argument)
    for path, parameter in module.named_parameters():
        _check_parameter(parameter, quoted(path), argument)
    for path, buffer in module.named_buffers():
        if nn.parameter.is_lazy(buffer) or buffer.is_meta:
            state = "not initialized" if nn.parameter.is_lazy(buffer) else "on the meta device"
            raise InputError(argument, f"the buffer {quoted(path)}, {state}", "buffers with values")
    return module, notes


def _unwrapped(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    notes = []
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            notes.append(f"The network was taken out of its {type(module).__name__} wrapper.")
            module = module.module
        elif _is_compiled(module):
            notes.append("The network was taken out of torch.compile and runs eagerly.")
            module = module.get_submodule("_orig_mod")
        else:
            return module, tuple(notes)


def _is_compiled(module: nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in dict(
        module.named_children()
    )


def _check_module(child: nn.Module, where: str, name: str, argument: str) -> None:
    kind = ""
    if isinstance(child, torch.jit.ScriptModule):
        kind = "TorchScript"
    elif _is_compiled(child):
        kind = "torch.compile"
    elif isinstance(child, nn.DataParallel | nn.parallel.DistributedDataParallel):
        kind = type(child).__name__
    elif ".quantized" in type(child).__module__ and type(child).__module__.startswith("torch."):
        kind = "quantization"
    elif "FullyShardedDataParallel" in type(child).__name__:
        kind = "FSDP"
    if kind:
        raise InputError(
            argument,
            f"{name}, a network with {kind} ({where}: {type(child).__name__})",
            "the plain eager network it was made from",
        )


def _check_parameter(parameter: Tensor, name: str, argument: str) -> None:
    def refuse(what: str, wanted: str) -> InputError:
        return InputError(argument, f"the parameter {name}, {what}", wanted)

    if nn.parameter.is_lazy(parameter):
        raise refuse(
            "a lazy one without a shape", "a network that has seen one batch before it is returned"
        )
    if parameter.is_meta:
        raise refuse("on the meta device, without values", "parameters with values")
    if parameter.is_complex():
        raise refuse(f"of the complex dtype {parameter.dtype}", "real parameters")
    if parameter.is_quantized or parameter.dtype not in _FLOATS:
        raise refuse(
            f"of dtype {parameter.dtype} (quantized or integer)",
            "floating-point parameters of 16, 32 or 64 bits",
        )
    if parameter.layout != torch.strided:
        raise refuse(f"of layout {parameter.layout}", "dense parameters")
    if type(parameter).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise refuse(f"of type {type(parameter).__name__}", "plain parameters")
