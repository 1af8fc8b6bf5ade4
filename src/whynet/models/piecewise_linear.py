"""A network as a graph of piecewise-linear steps, or the sentence that says why it is none.

The network is traced with `torch.fx`; every operation is looked up in one table, constants are
folded, and the finished graph is run against the network itself. What the table does not know is
refused. The graph is what exact geometry walks on: knots along segments
(`whynet.models.piecewise_linear_segments`) and polygons in planes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear_operations import (
    BATCH_SIZE,
    BatchSize,
    Call,
    Competitors,
    Composite,
    Operation,
    Part,
    Slot,
    Thresholds,
    Value,
)
from whynet.models.piecewise_linear_table import PIECEWISE, Table, function_name, read_operation
from whynet.models.piecewise_linear_tracing import (
    RefusedError,
    attribute_of,
    callable_of,
    describe,
    first_line,
    float64_copy,
    trace,
)
from whynet.models.step_graph import Step, StepGraph

_BATCHES = (3, 5)
"""Sizes of the two batches of probes; what differs between them depends on the batch size."""

_AGREEMENT = 1e-9
"""Relative difference between graph and network, in float64, above which the graph is refused."""

_CANCELLATION = 1e-12
"""Share of an operation's inputs that its outputs may be off by, where the inputs cancel."""

_ABOUT_BATCH = frozenset(
    {
        "size",
        "shape",
        "dim",
        "ndim",
        "ndimension",
        "numel",
        "len",
        "device",
        "dtype",
        "is_contiguous",
        "is_cuda",
    }
)

_TAKES_SIZE = frozenset({"view", "reshape", "expand", "unflatten", "getitem"})


class PiecewiseLinearGraph(StepGraph):
    """A piecewise-linear network: every step is affine or bends along walls."""


@dataclass(frozen=True)
class _Live:
    """What is known of a node that depends on the input."""

    index: int
    probes: tuple[Value, ...]


@dataclass(frozen=True)
class _ValuesAndPlaces:
    """What a maximum along an axis returns; only the values are piecewise linear."""

    values: _Live


def piecewise_linear_graph(
    module: nn.Module, example_input: Tensor
) -> PiecewiseLinearGraph | NotApplicable:
    """Read a network as a graph of piecewise-linear steps.

    Args:
        module: the network, in evaluation mode, on the CPU; it is copied to float64 and not
            changed. Called with a batch [N, *input_shape] it returns one tensor [N, ...].
        example_input: one input, [*input_shape], floating point; the graph holds for this shape.

    Returns:
        The graph, or the sentence that says what is not piecewise linear, where, and what to do.

    Raises:
        InputError: the example is no finite floating-point tensor.

    Assumes a forward whose course does not depend on the input and that treats the examples of a
    batch one by one; both are checked on random batches around the example.

    Cost: a copy of the network and about 15 forward passes of single inputs.

    """
    if not example_input.is_floating_point() or not bool(example_input.isfinite().all()):
        raise InputError("example_input", f"a tensor of {example_input.dtype}", "finite floats")
    found = read_steps(module, example_input, PIECEWISE)
    if isinstance(found, str):
        return NotApplicable(f"The network cannot be read as piecewise linear: {found}.")
    return PiecewiseLinearGraph(**vars(found))


def read_steps(module: nn.Module, example_input: Tensor, table: Table) -> StepGraph | str:
    """Read a network by the operations of a table, as `piecewise_linear_graph` does by its own.

    Returns:
        The steps, or what stands in the way, without its full stop.

    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            return _read(float64_copy(module), example_input.detach().double(), table)
        except RefusedError as refusal:
            return str(refusal)


def is_piecewise_linear(module: nn.Module, example_input: Tensor) -> bool | NotApplicable:
    """Return True, or the sentence that says why not; arguments as `piecewise_linear_graph`."""
    graph = piecewise_linear_graph(module, example_input)
    return graph if isinstance(graph, NotApplicable) else True


def _read(module: nn.Module, example: Tensor, table: Table) -> StepGraph:
    generator = torch.Generator().manual_seed(0)
    scale = 1 + example.abs().mean()
    probes = tuple(
        example + scale * torch.randn((size, *example.shape), generator=generator).double()
        for size in _BATCHES
    )
    traced = trace(module)
    reader = _Reader(module, probes, table)
    for node in traced.nodes:
        # A user's operation, and below a user's forward, can raise anything.
        try:
            reader.read(node)
        except RefusedError:
            raise
        except Exception as error:
            raise RefusedError(f"{describe(node)} fails: {first_line(error)}") from error
    graph = _assemble(reader, tuple(example.shape))
    _check(graph, reader, module, probes[0])
    return graph


class _Reader:
    """Reads the nodes of a traced network one by one."""

    def __init__(self, module: nn.Module, probes: tuple[Tensor, ...], table: Table) -> None:
        self.module, self.table = module, table
        self.first = probes
        self.known: dict[fx.Node, Any] = {}
        self.live: list[_Live] = []
        self.steps: list[tuple[str, tuple[int, ...], int, Operation]] = []
        self.output = 0

    def read(self, node: fx.Node) -> None:
        """Make a constant, a value or a step of a node."""
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "get_attr":
            value = attribute_of(self.module, str(node.target))
            floating = isinstance(value, Tensor) and value.is_floating_point()
            self.known[node] = value.double() if floating else value
        elif node.op == "output":
            returned = self.known.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
            if not isinstance(returned, _Live) or not isinstance(returned.probes[0], Tensor):
                raise RefusedError("it does not return one tensor that depends on its input")
            self.output = returned.index
        else:
            self._call(node)

    def _placeholder(self, node: fx.Node) -> None:
        if not self.live:
            self.known[node] = _Live(0, self.first)
            self.live.append(self.known[node])
        elif node.args:
            self.known[node] = node.args[0]
        else:
            raise RefusedError(
                f"it takes a second input, {node.target}; wrap it in a module of one"
            )

    def _call(self, node: fx.Node) -> None:
        if self._takes_apart(node):
            return
        inputs: list[_Live] = []
        module = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

        def resolve(argument: fx.Node) -> Any:
            value = self.known[argument]
            if isinstance(value, _ValuesAndPlaces):
                raise RefusedError(f"{describe(node)} on maxima with their places; take `.values`")
            if not isinstance(value, _Live):
                return value
            inputs.append(value)
            return Slot(len(inputs) - 1)

        args = fx.node.map_arg(node.args, resolve)
        kwargs = fx.node.map_arg(node.kwargs, resolve)
        function = callable_of(node, module)
        name = str(node.args[1]) if node.target is getattr else function_name(node.target)
        if not inputs:
            self.known[node] = self._constant(node, function, args, kwargs)
            return
        probes = [tuple(value.probes[batch] for value in inputs) for batch in range(len(_BATCHES))]
        call = Call(tuple(args), dict(kwargs), probes[0], function, module)
        if module is None and (name in _ABOUT_BATCH or node.target is len):
            self.known[node] = _join([call.run(values) for values in probes])
            return
        if name not in _TAKES_SIZE and _mentions_size((args, kwargs)):
            raise RefusedError(f"{describe(node)} on the number of examples in a batch")
        operation = read_operation(node.target, call, self.table)
        if isinstance(operation, str):
            raise RefusedError(f"{describe(node, module)}, {operation}")
        parts = operation.parts if isinstance(operation, Composite) else (Part(None, operation),)
        said = describe(node, module)
        values = list(inputs)
        for part in parts:
            taken = inputs if part.inputs is None else [values[place] for place in part.inputs]
            values.append(self._step(said, part.operation, taken))
        pair = name in ("max", "min") and not isinstance(call.run(probes[0]), Tensor)
        self.known[node] = _ValuesAndPlaces(values[-1]) if pair else values[-1]

    def _step(self, said: str, operation: Operation, inputs: Sequence[_Live]) -> _Live:
        """Run an operation on the probes, and add it."""
        made = tuple(
            operation.apply([value.probes[batch] for value in inputs])
            for batch in range(len(_BATCHES))
        )
        if any(
            tensor.dim() == 0 or tensor.shape[0] != size
            for value, size in zip(made, _BATCHES, strict=True)
            for tensor in _tensors(value)
        ):
            raise RefusedError(f"{said}, which moves or merges the batch axis")
        value = _Live(len(self.live), made)
        self.live.append(value)
        self.steps.append((said, tuple(v.index for v in inputs), value.index, operation))
        return value

    def _takes_apart(self, node: fx.Node) -> bool:
        """Read `.values` or `[0]` of a maximum along an axis."""
        first = node.args[0] if node.args else None
        held = self.known.get(first) if isinstance(first, fx.Node) else None
        taken = node.op == "call_function" and node.target in (operator.getitem, getattr)
        if not taken or not isinstance(held, _ValuesAndPlaces):
            return False
        if node.args[1] not in (0, "values"):
            raise RefusedError(f"{describe(node)} for the places of maxima, which jump")
        self.known[node] = held.values
        return True

    def _constant(self, node: fx.Node, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if node.target is not operator.getitem and _mentions_size((args, kwargs)):
            raise RefusedError(f"{describe(node)} on the number of examples in a batch")
        return function(*args, **kwargs)


def _mentions_size(argument: Any) -> bool:
    if isinstance(argument, tuple | list):
        return any(_mentions_size(item) for item in argument)
    if isinstance(argument, dict):
        return any(_mentions_size(item) for item in argument.values())
    return isinstance(argument, BatchSize)


def _join(answers: Sequence[Any]) -> Any:
    """Join what is said of the two batches of probes: a constant, or the size of the batch."""
    if isinstance(answers[0], tuple):
        return tuple(_join(items) for items in zip(*answers, strict=True))
    if answers[0] == answers[1]:
        return answers[0]
    if tuple(answers) == _BATCHES:
        return BATCH_SIZE
    raise RefusedError("it computes with the number of examples in a batch")


def _tensors(value: Value) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _assemble(reader: _Reader, input_shape: tuple[int, ...]) -> StepGraph:
    needed, kept = {reader.output}, []
    for entry in reversed(reader.steps):
        if entry[2] in needed:
            needed.update(entry[1])
            kept.append(entry)
    steps: list[Step] = []
    seen = {reader.output}
    for name, inputs, output, operation in kept:
        last = tuple(index for index in dict.fromkeys(inputs) if index not in seen)
        seen.update(inputs)
        steps.append(Step(name, inputs, output, operation, last))
    steps.reverse()
    sizes = [math.prod(t.shape[1:]) for value in reader.live for t in _tensors(value.probes[0])]
    units = 0
    for step in steps:
        made = _tensors(reader.live[step.output].probes[0])
        size, bends = sum(math.prod(tensor.shape[1:]) for tensor in made), step.operation.bends
        if isinstance(bends, Thresholds):
            units += size * len(bends.levels)
        elif isinstance(bends, Competitors):
            units += size
            sizes.append(size * bends.count)
    output_shape = tuple(reader.live[reader.output].probes[0].shape[1:])
    return StepGraph(tuple(steps), reader.output, input_shape, output_shape, max(sizes), units)


def _check(graph: StepGraph, reader: _Reader, module: nn.Module, points: Tensor) -> None:
    """Refuse a graph that mixes the examples of a batch or differs from the network."""
    floor = 0.0  # In the end that of the last step, which makes the output.
    for step in graph.steps:
        taken = [reader.live[index].probes[0] for index in step.inputs]
        made = _tensors(reader.live[step.output].probes[0])
        floor = _round_off(taken)
        for row in range(points.shape[0]):
            # From the batch's own values, so that only what this step rounds or mixes is seen.
            alone = _tensors(step.operation.apply([_example(value, row) for value in taken]))
            pairs = zip(alone, made, strict=True)
            if not all(_agree(one[0], batch[row], floor) for one, batch in pairs):
                raise RefusedError(f"{step.name}, which mixes the examples of a batch")
    if not _agree(graph.evaluate(points), module(points), floor):
        raise RefusedError(
            "the traced graph gives other outputs than the network, as happens where values are "
            "changed in place, drawn at random or changed by a hook"
        )


def _example(value: Value, row: int) -> Value:
    """Return one example of a batch, as a batch of one."""
    if isinstance(value, Tensor):
        return value[row : row + 1]
    return type(value)(tensor[row : row + 1] for tensor in value)


def _round_off(taken: Sequence[Value]) -> float:
    """Return what an operation may be off by where its inputs cancel each other."""
    tensors = [tensor for value in taken for tensor in _tensors(value)]
    return _CANCELLATION * max((float(x.abs().max()) for x in tensors if x.numel()), default=0.0)


def _agree(first: Tensor, second: Tensor, floor: float) -> bool:
    if first.shape != second.shape or not bool(second.isfinite().all()):
        return False
    if second.numel() == 0:
        return True
    allowed = max(_AGREEMENT * float(second.abs().max()), floor, 1e-300)
    return float((first - second).abs().max()) <= allowed
