"""Networks whose own code fixes widths, traced so that sizes are read off the parameters.

`view(-1, 256)`, `x[:, :8]` or `split(8, 1)` hold numbers that are widths. The network is traced (a
`torch.fx.GraphModule` of layers of PyTorch, without the user's classes), channels are followed
through the trace, and every such number becomes a multiple of the size of a parameter that holds
the same channels, so that the trace runs with any widths.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from whynet.models.channel_flow import Watching
from whynet.models.channel_held import Held
from whynet.models.channel_nodes import Group
from whynet.models.channel_units import NONE
from whynet.models.fixed_widths import fixed_widths, sharing_copy
from whynet.models.preservation import preserved
from whynet.models.resizing import held_state, resized

_SHAPED: Final = ("view", "reshape", "expand", "unflatten")
_PIECES: Final = ("split", "split_with_sizes", "chunk")


@dataclass(frozen=True, eq=False)
class FreeWidths:
    """A network whose widths may change.

    Attributes:
        module: the network itself, or its trace where that frees widths that its code fixes.
        fixed: paths of the groups of channels whose number stays fixed.
        traced: whether it is the trace.
        reason: why it could not be traced where that would have been of use, a clause, or empty.

    """

    module: nn.Module
    fixed: frozenset[str]
    traced: bool = False
    reason: str = ""


def free_widths(
    module: nn.Module, run: Callable[[nn.Module], Any], example: Any, *, trace: bool = True
) -> FreeWidths:
    """Find which widths a network's code fixes, and free those that a trace can free.

    Args:
        module: in evaluation mode; not changed.
        run: calls a network on the example and returns its output.
        example: a small batch as data hold it: a tensor, a tuple, or a dict by name.
        trace: whether to trace it where that is of use.

    Returns:
        The network or its trace, with the same parameters by the same names.

    Cost: as `fixed_widths`, twice where it is traced.

    """
    fixed = fixed_widths(module, run)
    if not fixed or not trace:
        return FreeWidths(module, fixed)
    try:
        with preserved(), torch.no_grad():
            traced = _traced(module, example)
            _mend(traced, example)
            before, after = _flat(run(module)), _flat(run(traced))
    except Exception as error:  # noqa: BLE001 - tracing runs code of the user, which may do anything
        return FreeWidths(module, fixed, reason=f"its trace fails ({type(error).__name__})")
    if not all(torch.equal(*pair) for pair in zip(before, after, strict=True)):
        return FreeWidths(module, fixed, reason="its trace computes something else")
    left = fixed_widths(traced, run)
    if not left < fixed:
        return FreeWidths(module, fixed, reason="it does not follow from sizes of its parameters")
    return FreeWidths(traced, left, traced=True)


def load_resized(module: nn.Module, state: Mapping[str, Tensor], example: Any = None) -> nn.Module:
    """Return a copy of a network with the tensors of a state dict, whatever their widths.

    Args:
        module: a network of the same architecture; not changed.
        state: as `state_dict` of the smaller network returns it.
        example: a batch of inputs, a tensor, a tuple or a dict by name. Where the network's own
            code fixes widths, as by `view(-1, 256)`, a trace of it is returned with it, which
            runs with other widths; without it the code is as it is.

    Raises:
        InputError: names differ, or a tensor has another number of axes.

    """
    if example is None:
        return resized(module, state)

    def run(network: nn.Module) -> Any:
        if isinstance(example, dict):
            return network(**example)
        return network(*example) if isinstance(example, tuple) else network(example)

    found = free_widths(sharing_copy(module).eval(), run, example)
    if not found.traced:
        return resized(module, state)
    return resized(found.module, state).train(module.training)


def exported(module: nn.Module, example: Any) -> torch.export.ExportedProgram:
    """Return a network as a program for any number of examples, or for that of the example.

    Args:
        module: in evaluation mode.
        example: a batch of at least two examples: a tensor, a tuple, or a dict by name.

    Raises:
        Exception: whatever `torch.export.export` raises on what it has no program for.

    """
    batch = {0: torch.export.Dim.DYNAMIC}
    args = (
        () if isinstance(example, dict) else example if isinstance(example, tuple) else (example,)
    )
    kwargs = dict(example) if isinstance(example, dict) else {}
    shapes = tuple(batch for _ in args) if args else dict.fromkeys(kwargs, batch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes)
        except Exception:  # noqa: BLE001 - a size of the batch that is fixed is refused in many ways
            return torch.export.export(module, args, kwargs)


def _flat(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    inner = output.values() if isinstance(output, Mapping) else output
    inner = inner if isinstance(inner, Iterable) else ()
    return [tensor for one in inner for tensor in _flat(one)]


def _traced(module: nn.Module, example: Any) -> fx.GraphModule:
    """Trace a network; everything that its forward is not given is as by default."""
    parameters = inspect.signature(module.forward).parameters
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    names = [name for name, parameter in parameters.items() if parameter.kind not in kinds]
    count = len(example) if isinstance(example, tuple) else 1
    given = set(example) if isinstance(example, dict) else set(names[:count])
    concrete = {name: parameters[name].default for name in names if name not in given}
    root = sharing_copy(module)  # layers of a trace are those of its root
    graph = fx.Tracer().trace(root, concrete)
    held, saved = held_state(module), module.state_dict(keep_vars=True)
    if saved.keys() - held.keys():
        raise ValueError("parameters with two names")
    # What the forward does not use would not be part of the trace.
    known = held_state(fx.GraphModule(root, graph))
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    with graph.inserting_after(last):
        for name in held.keys() - known.keys():
            graph.create_node("get_attr", name)
    made = fx.GraphModule(root, graph, type(module).__name__)
    kept = _Kept(
        type(module).__name__,
        tuple(name for name, _ in made.named_buffers() if name not in saved),
    )
    kept(made)
    made._register_deepcopy_hook(kept)
    return made.train(module.training)


@dataclass(frozen=True)
class _Kept:
    """Says again of a trace what a copy of it forgets.

    Attributes:
        name: of the user's class; every trace has a class of its own, which bears it.
        unsaved: buffers that are not saved.

    """

    name: str
    unsaved: tuple[str, ...]

    def __call__(self, module: nn.Module) -> None:
        type(module).__name__ = self.name
        for name in self.unsaved:
            owner, _, last = name.rpartition(".")
            module.get_submodule(owner)._non_persistent_buffers_set.add(last)


def _mend(traced: fx.GraphModule, example: Any) -> None:
    """Write sizes of parameters for numbers that are widths, in place."""
    _unfold(traced)
    mode = Watching(traced)
    interpreter = fx.Interpreter(traced, garbage_collect_values=False)
    with torch.no_grad(), mode:
        output = interpreter.run(*_ordered(traced.graph, example))
    groups = mode.finished(output)
    mending = _Mending(traced, mode, interpreter.env, groups)
    for node in list(traced.graph.nodes):
        mending.mend(node)
    traced.graph.lint()
    traced.recompile()


def _unfold(traced: fx.GraphModule) -> None:
    """Write `nn.Unflatten` as the function that it calls: its sizes are numbers too."""
    for node in traced.graph.nodes:
        if node.op == "call_module":
            layer = traced.get_submodule(str(node.target))
            if isinstance(layer, nn.Unflatten):
                node.op, node.target = "call_method", "unflatten"
                node.args = (node.args[0], layer.dim, tuple(layer.unflattened_size))


def _ordered(graph: fx.Graph, example: Any) -> list[Any]:
    places = [node for node in graph.nodes if node.op == "placeholder"]
    if isinstance(example, dict):
        return [
            example[str(node.target)] if str(node.target) in example else node.args[0]
            for node in places
        ]
    given = list(example) if isinstance(example, tuple) else [example]
    return given + [node.args[0] for node in places[len(given) :]]


class _Mending:
    """Replaces numbers in the arguments of nodes by sizes of parameters."""

    def __init__(
        self,
        traced: fx.GraphModule,
        mode: Watching,
        values: Mapping[fx.Node, Any],
        groups: Sequence[Group],
    ) -> None:
        self.graph, self.mode, self.values = traced.graph, mode, values
        self.group_of = mode.gathered.numbers()
        state = held_state(traced)
        self.holders = [_holder(group, state) for group in groups]
        self.made: dict[tuple[int, int, int], Any] = {}

    def mend(self, node: fx.Node) -> None:
        """Mend one node, where it changes the shape of a tensor that holds channels."""
        name = getattr(node.target, "__name__", str(node.target)).strip("_")
        with self.graph.inserting_before(node):
            if node.op in ("call_method", "call_function") and name in _SHAPED:
                self._shape(node, name)
            elif node.op in ("call_method", "call_function") and name in _PIECES:
                self._pieces(node)
            elif node.target is operator.getitem and isinstance(node.args[0], fx.Node):
                self._slices(node)

    def _shape(self, node: fx.Node, name: str) -> None:
        held = self.mode.held(self.values[node])
        if held is None:
            return
        start, offset = 1, 0
        if name == "unflatten":  # of an axis; the sizes come after it
            source: Any = node.args[0]
            start, offset = 2, int(str(node.args[1])) % self.values[source].ndim
        nested = len(node.args) > start and isinstance(node.args[start], tuple | list)
        sizes: Any = node.args[start] if nested else node.args[start:]
        fresh = [
            self._size(along_one(held, place + offset), size) if isinstance(size, int) else size
            for place, size in enumerate(sizes)
        ]
        head = node.args[:start]
        node.args = (*head, tuple(fresh)) if nested else (*head, *fresh)

    def _pieces(self, node: fx.Node) -> None:
        pieces = [self.mode.held(piece) for piece in self.values[node]]
        axis = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
        if not isinstance(axis, int) or any(piece is None for piece in pieces):
            return
        sizes = [
            self._size(along_one(piece, axis), piece.labels.shape[axis])
            for piece in pieces
            if piece is not None
        ]
        if any(isinstance(size, fx.Node) for size in sizes):
            node.op, node.target = "call_function", torch.split
            node.args, node.kwargs = (node.args[0], sizes, axis), {}

    def _slices(self, node: fx.Node) -> None:
        held = self.mode.held(self.values[node.args[0]])  # type: ignore[index]
        index = node.args[1]
        places = index if isinstance(index, tuple) else (index,)
        if held is None or any(isinstance(place, Tensor | list) for place in places):
            return
        fresh: list[Any] = []
        dots = next((i for i, place in enumerate(places) if place is Ellipsis), len(places))
        for place, one in enumerate(places):
            axis = place if place < dots else place - len(places)
            fresh.append(self._slice(held, axis, one) if isinstance(one, slice) else one)
            if one is None or isinstance(one, int):  # axes come or go: they are counted no more
                fresh += places[place + 1 :]
                break
        node.args = (node.args[0], tuple(fresh) if isinstance(index, tuple) else fresh[0])

    def _slice(self, held: Held, axis: int, one: slice) -> slice:
        entries = along_one(held, axis)
        ends: list[Any] = []
        for end in (one.start, one.stop):
            if isinstance(end, int) and one.step in (None, 1):
                end = slice(None, end).indices(len(entries))[1]
                ends.append(self._size(entries[:end], end))
            else:
                ends.append(end)
        return slice(ends[0], ends[1], one.step)

    def _size(self, entries: Tensor, size: int) -> Any:
        """Return an expression for a number of elements that hold channels, or the number."""
        if size < 1 or len(entries) != size or bool((entries == entries[0]).all()):
            return size
        groups = self.group_of[entries]
        counts = {int(g): int((groups == g).sum()) for g in torch.unique(groups) if g != NONE}
        if any(self.holders[g] is None for g in counts):
            return size
        total: Any = int((groups == NONE).sum())
        for group, count in counts.items():
            holder = self.holders[group]
            assert holder is not None
            name, axis, long = holder
            shape = self.graph.call_function(
                getattr, (self.graph.create_node("get_attr", name), "shape")
            )
            made: Any = self.graph.call_function(operator.getitem, (shape, axis))
            if count != long:
                made = self.graph.call_function(operator.mul, (made, count))
                made = self.graph.call_function(operator.floordiv, (made, long))
            total = made if total == 0 else self.graph.call_function(operator.add, (total, made))
        return total


def along_one(held: Held, axis: int) -> Tensor:
    """Return the channels along an axis, at the first place of all others."""
    moved = held.labels.movedim(axis, -1).reshape(-1, held.labels.shape[axis])
    return held.channels[moved[0].long()]


def _holder(group: Group, state: Mapping[str, Tensor]) -> tuple[str, int, int] | None:
    """Return a parameter, an axis and its size, along which lie channels of one group alone."""
    found = [(layer.weight, layer.out_axis, layer.outputs) for layer in group.producers]
    found += [(vector.name, vector.axis, vector.units) for vector in group.vectors]
    found += [
        (layer.weight, layer.in_axis, layer.source.columns)
        for layer in group.readers
        if layer.source is not None
    ]
    for name, axis, units in found:
        if units is not None and bool((units >= 0).all()) and name in state:
            return name, axis, state[name].shape[axis]
    return None
