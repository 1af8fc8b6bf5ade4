"""A network as steps whose limit of infinite width is known, read from an `nn.Module`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from whynet.concepts.kernels.theory.wide_activations import Activation, of_function, of_module
from whynet.concepts.kernels.theory.wide_reader import (
    WANTED,
    Law,
    Reader,
    Reading,
    Step,
    unknown,
)
from whynet.core.errors import InputError
from whynet.models.piecewise_linear_table import function_name
from whynet.models.piecewise_linear_tracing import (
    RefusedError,
    attribute_of,
    describe,
    float64_copy,
    trace,
)


def wide_steps(
    module: nn.Module, variances: Mapping[str, float] | None = None
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Read a network of one input at its initialization.

    Args:
        module: the network; the variances of its weights are read from it.
        variances: of the entries of parameters by name, where they are not to be read.

    Returns:
        The steps, the last of which is the output, and notes on what was measured.

    Raises:
        InputError: it cannot be traced, or does something whose limit is not known here.

    """
    trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    for name in variances or {}:
        if name not in trained:
            raise InputError("variances", repr(name), "names of parameters of the network")
    copied = float64_copy(copy.deepcopy(module).eval())
    try:
        graph = trace(copied)
    except RefusedError as error:
        raise InputError("model", _attention(copied) or f"a network that is not read, for {error}",
                         WANTED) from error  # fmt: skip
    first = Reader(copied, trained, variances or {})
    found = _read_all(first, graph)
    if not first.notes:
        return found, ()
    # Again, knowing how most parameters were drawn.
    reader = Reader(copied, trained, variances or {}, habits=first.habits)
    return _read_all(reader, graph), tuple(reader.notes)


def _read_all(reader: Reader, graph: fx.Graph) -> tuple[Step, ...]:
    """Return the steps up to the output."""
    for node in graph.nodes:
        if node.op != "output":
            _read(reader, node)
            continue
        last = reader.step_of(node, node.args[0])
        if not reader.gaussian[last] or reader.steps[last].kind == "input":
            raise InputError("model", "an output that is no dense layer's", WANTED)
        return tuple(reader.steps[: last + 1])
    raise InputError("model", "a network without an output", WANTED)


def _attention(module: nn.Module) -> str:
    """Return the sentence that names the first attention in a network that cannot be traced."""
    for path, part in module.named_modules():
        name = type(part).__name__
        if "attention" in name.lower():
            return f"`{path}` is a {name}, {unknown(name)}"
    return ""


def _read(reader: Reader, node: fx.Node) -> None:
    if node.op == "placeholder":
        if reader.steps:
            raise InputError("model", "a network of several inputs", "one input")
        reader.found[node] = reader.add(Step("input", (), "the input"), gaussian=False)
        return
    if node.op == "get_attr":
        value = attribute_of(reader.module, str(node.target))
        if not isinstance(value, nn.Parameter):
            raise reader.refusal(node, "which is no parameter")
        reader.found[node] = Reading(str(node.target), 1.0, value)
        return
    if node.op == "call_module":
        module = reader.module.get_submodule(str(node.target))
        number = _module(reader, node, module)
    else:
        read = _function(reader, node)
        if read is not None:
            reader.found[node] = read
        return
    reader.found[node] = number


def _module(reader: Reader, node: fx.Node, module: nn.Module) -> int:
    held = reader.step_of(node, node.args[0] if node.args else None)
    path = str(node.target)
    activation = of_module(module)
    if activation is not None:
        return activated(reader, node, held, activation)
    if isinstance(module, (nn.Identity, nn.Dropout)):
        return held
    if type(module) is nn.Linear:
        return dense(reader, node, held, *_own(module, path))
    if type(module) in (nn.Conv1d, nn.Conv2d):
        return _convolution(reader, node, held, module, path)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return reader.add(Step("flatten", (held,), path), gaussian=reader.gaussian[held])
    if isinstance(module, (nn.AvgPool1d, nn.AvgPool2d)):
        return _pool(reader, node, held, module, path)
    if isinstance(module, (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)):
        sizes = (
            module.output_size if isinstance(module.output_size, tuple) else (module.output_size,)
        )
        if set(sizes) == {1}:
            return reader.add(Step("pool", (held,), path), gaussian=reader.gaussian[held])
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return _normalization(reader, node, held, module, path)
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return _channels(reader, node, held, module, path)
    raise reader.refusal(node, unknown(type(module).__name__))


def _own(module: nn.Module, path: str) -> tuple[Reading, Reading | None]:
    """Return the parameters of a layer as they are read."""
    weight, bias = module.weight, module.bias
    prefix = f"{path}." if path else ""
    assert isinstance(weight, Tensor)
    held = Reading(f"{prefix}bias", 1.0, bias) if isinstance(bias, Tensor) else None
    return Reading(f"{prefix}weight", 1.0, weight), held


def dense(reader: Reader, node: fx.Node, held: int, weight: Reading, bias: Reading | None) -> int:
    """Add a dense layer."""
    law = reader.law(node, weight, bias, weight.tensor.shape[1])
    return reader.add(Step("affine", (held,), describe(node), law), gaussian=True)


def activated(reader: Reader, node: fx.Node, held: int, activation: Activation) -> int:
    """Add an activation.

    Raises:
        InputError: what enters is not Gaussian in the limit.

    """
    if not reader.gaussian[held]:
        raise reader.refusal(node, "applied to what is not Gaussian at infinite width")
    step = Step("activation", (held,), describe(node), activation=activation)
    return reader.add(step, gaussian=False)


def _many(value: Any, count: int) -> tuple[int, ...]:
    many = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return many * count if len(many) == 1 else many


def _convolution(reader: Reader, node: fx.Node, held: int, module: Any, path: str) -> int:
    sides = module.weight.ndim - 2
    plain = module.groups == 1 and set(_many(module.dilation, sides)) == {1}
    if not plain or isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise reader.refusal(node, "with groups, dilation or padding that is not read")
    weight, bias = _own(module, path)
    law = reader.law(node, weight, bias, math.prod(weight.tensor.shape[1:]))
    window = tuple(
        _many(value, sides) for value in (module.kernel_size, module.stride, module.padding)
    )
    return reader.add(Step("affine", (held,), path, law, window), gaussian=True)


def _pool(reader: Reader, node: fx.Node, held: int, module: Any, path: str) -> int:
    sides = 1 if isinstance(module, nn.AvgPool1d) else 2
    if module.ceil_mode or getattr(module, "divisor_override", None) is not None:
        raise reader.refusal(node, "with a rule at the border that is not read")
    if set(_many(module.padding, sides)) != {0}:
        raise reader.refusal(node, "with padding")
    window = tuple(
        _many(value, sides) for value in (module.kernel_size, module.stride, module.padding)
    )
    step = Step("pool", (held,), path, window=window)
    return reader.add(step, gaussian=reader.gaussian[held])


def _normalization(reader: Reader, node: fx.Node, held: int, module: Any, path: str) -> int:
    if len(module.normalized_shape) != 1:
        raise reader.refusal(node, "over more than the features")
    layer = isinstance(module, nn.LayerNorm)
    if layer and not reader.gaussian[held]:
        raise reader.refusal(node, "applied to what is not Gaussian at infinite width")
    law = _scale_and_shift(reader, node, module, path)
    eps = module.eps if module.eps is not None else float.fromhex("0x1p-52")
    step = Step("layer-norm" if layer else "rms-norm", (held,), path, law, factor=float(eps))
    return reader.add(step, gaussian=reader.gaussian[held])


def _scale_and_shift(reader: Reader, node: fx.Node, module: Any, path: str) -> Law:
    """Read the law of a normalization's own parameters, one number a feature.

    Raises:
        InputError: the scales differ, so that what follows is a mixture of Gaussians.

    """
    if module.weight is None:
        return Law(1.0, 1.0, 0.0, 0.0, False, False)
    if float((module.weight - module.weight.flatten()[0]).abs().max()) > 0:
        why = "whose scales differ from feature to feature; at initialization they are equal"
        raise reader.refusal(node, why)
    weight = Reading(f"{path}.weight".lstrip("."), 1.0, module.weight)
    bias = getattr(module, "bias", None)
    shift = None if bias is None else Reading(f"{path}.bias".lstrip("."), 1.0, bias)
    return reader.law(node, weight, shift, 1)


def _channels(reader: Reader, node: fx.Node, held: int, module: Any, path: str) -> int:
    """Read a batch normalization, in evaluation mode a scale and a shift of every channel.

    Known with the statistics it is made with, 0 and 1, which hang on no weights. Those that were
    estimated from data hang on them, and those of the batch on the other rows.
    """
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        raise reader.refusal(node, "with the statistics of the batch, which ties rows together")
    if bool(mean.any()) or float((variance - variance[0]).abs().max()) > 0:
        why = (
            "whose running statistics were estimated from data and hang on the weights before "
            "it; reset_running_stats() restores those it is made with"
        )
        raise reader.refusal(node, why)
    law = _scale_and_shift(reader, node, module, path)
    factor = 1 / math.sqrt(float(variance[0]) + module.eps)
    step = Step("channels", (held,), path, law, factor=factor)
    return reader.add(step, gaussian=reader.gaussian[held])


def _function(reader: Reader, node: fx.Node) -> int | None:
    name = function_name(node.target) or str(getattr(node.target, "__name__", node.target))
    name = name.strip("_").removesuffix("_")
    operands = [reader.found.get(a) if isinstance(a, fx.Node) else a for a in node.args]
    if name in ("mul", "rmul", "truediv", "div") and len(operands) == 2:
        return _times(reader, node, name, operands)
    if name in ("add", "iadd", "radd") and len(operands) == 2:
        one, other = (reader.step_of(node, a) for a in node.args)
        return _sum(reader, node, one, other)
    if name == "linear":
        given = dict(zip(("input", "weight", "bias"), node.args, strict=False)) | node.kwargs
        weight, bias = (
            reader.found.get(held) if isinstance(held, fx.Node) else None
            for held in (given.get("weight"), given.get("bias"))
        )
        if not isinstance(weight, Reading) or isinstance(bias, int):
            raise reader.refusal(node, "with a weight that is no parameter")
        return dense(reader, node, reader.step_of(node, given.get("input")), weight, bias)
    held = reader.step_of(node, node.args[0] if node.args else node.kwargs.get("input"))
    activation = of_function(name, dict(node.kwargs), tuple(node.args[1:]))
    if activation is not None:
        return activated(reader, node, held, activation)
    if name == "flatten" and (tuple(node.args[1:]), node.kwargs) in (
        ((1,), {}),
        ((), {"start_dim": 1}),
    ):
        return reader.add(Step("flatten", (held,), "flatten"), gaussian=reader.gaussian[held])
    if name == "mean" and _all_places(node):
        return reader.add(Step("pool", (held,), "mean"), gaussian=reader.gaussian[held])
    raise reader.refusal(node, unknown(name))


def _all_places(node: fx.Node) -> bool:
    """Whether a mean is over all axes after rows and channels."""
    over = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return over in ((2, 3), [2, 3], (-2, -1), [-2, -1], (-1, -2), [-1, -2]) and not node.kwargs.get(
        "keepdim", False
    )


def _times(reader: Reader, node: fx.Node, name: str, operands: list[Any]) -> int | None:
    """Read a product with a number, of a parameter or of a state."""
    one, other = operands
    number = (
        other if isinstance(other, (int, float)) and not isinstance(node.args[1], fx.Node) else None
    )
    held, place = one, node.args[0]
    if number is None and name not in ("truediv", "div") and not isinstance(node.args[0], fx.Node):
        number, held, place = one, other, node.args[1]
    if not isinstance(number, (int, float)):
        raise reader.refusal(node, "of two states")
    factor = 1 / number if name in ("truediv", "div") else float(number)
    if isinstance(held, Reading):
        reader.found[node] = Reading(held.name, held.factor * factor, held.tensor)
        return None
    step = Step("scale", (reader.step_of(node, place),), name, factor=factor)
    return reader.add(step, gaussian=reader.gaussian[step.inputs[0]])


def _sum(reader: Reader, node: fx.Node, one: int, other: int) -> int:
    """Read a sum of two branches that are uncorrelated over the draws of the weights.

    They are where one of them comes out of a layer whose weights the other does not have.

    Raises:
        InputError: neither does.

    """
    for fresh, rest in ((one, other), (other, one)):
        layers = _ends(reader, fresh)
        if layers and not layers & (reader.above[rest] | {rest}):
            gaussian = reader.gaussian[one] and reader.gaussian[other]
            return reader.add(Step("add", (one, other), "a sum"), gaussian=gaussian)
    raise reader.refusal(node, "of branches that do not end in a layer of their own")


def _ends(reader: Reader, number: int) -> set[int]:
    """Return the layers whose outputs a state is a sum of; empty where it is something else."""
    step = reader.steps[number]
    if step.kind == "affine":
        return {number}
    if step.kind in ("scale", "channels", "flatten", "pool"):
        return _ends(reader, step.inputs[0])
    if step.kind == "add":
        parts = [_ends(reader, i) for i in step.inputs]
        return set().union(*parts) if all(parts) else set()
    return set()
