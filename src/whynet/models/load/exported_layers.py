"""An exported program written again as layers and functions of PyTorch, so that it can be read.

`torch.export` leaves calls of ATen on bare weights. Here a linear map or convolution becomes the
layer it was, under its own name, and other operations the functions of torch they stand for; what
has no such form stays as it is. The result is used only where it returns exactly what the program
does on the inputs that the file holds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

_SAME: Final[dict[str, Callable[..., Any]]] = {
    "abs": torch.abs,
    "adaptive_avg_pool1d": functional.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": functional.adaptive_avg_pool2d,
    "add": torch.add,
    "avg_pool1d": functional.avg_pool1d,
    "avg_pool2d": functional.avg_pool2d,
    "bmm": torch.bmm,
    "cat": torch.cat,
    "chunk": torch.chunk,
    "clamp": torch.clamp,
    "cos": torch.cos,
    "div": torch.div,
    "dropout": functional.dropout,
    "elu": functional.elu,
    "erf": torch.erf,
    "exp": torch.exp,
    "flatten": torch.flatten,
    "gelu": functional.gelu,
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "hardtanh": functional.hardtanh,
    "leaky_relu": functional.leaky_relu,
    "log_softmax": functional.log_softmax,
    "matmul": torch.matmul,
    "max_pool1d": functional.max_pool1d,
    "max_pool2d": functional.max_pool2d,
    "mean": torch.mean,
    "mish": functional.mish,
    "mul": torch.mul,
    "neg": torch.neg,
    "permute": torch.permute,
    "pow": torch.pow,
    "relu": torch.relu,
    "relu6": functional.relu6,
    "reshape": torch.reshape,
    "rsqrt": torch.rsqrt,
    "select": torch.select,
    "selu": functional.selu,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "sin": torch.sin,
    "softmax": torch.softmax,
    "softplus": functional.softplus,
    "split": torch.split,
    "sqrt": torch.sqrt,
    "squeeze": torch.squeeze,
    "sub": torch.sub,
    "sum": torch.sum,
    "tanh": torch.tanh,
    "transpose": torch.transpose,
    "unsqueeze": torch.unsqueeze,
}
"""Name of an operation of ATen to the function of torch that takes the same arguments."""

_METHODS: Final = {"sym_size": "size", "view": "view"}

_CONVOLUTIONS: Final = {"conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d}


def with_layers(program: torch.export.ExportedProgram) -> nn.Module | None:
    """Return the program as a trace with layers, or None where that is not it, exactly.

    Args:
        program: with the inputs it was exported with, and one tensor as its result.

    Returns:
        A `torch.fx.GraphModule` with the program's parameters under their own names.

    Cost: two passes over the inputs the file holds.

    """
    try:
        module = program.module()
        if not isinstance(module, fx.GraphModule) or not program.example_inputs:
            return None
        args, kwargs = program.example_inputs
        made = _Writing(module).written()
        with torch.no_grad():
            one, two = module(*args, **kwargs), made(*args, **kwargs)
    except Exception:  # noqa: BLE001 - a foreign graph may break in many ways; it is used as it is
        return None
    same = isinstance(one, Tensor) and isinstance(two, Tensor) and torch.equal(one, two)
    return made if same else None


class _Writing:
    """Writes the graph of a program again, node by node."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.source = module
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.made: dict[fx.Node, Any] = {}
        self.uses: dict[str, int] = {}
        for node in module.graph.nodes:
            if node.op == "get_attr":
                self.uses[node.target] = self.uses.get(node.target, 0) + len(node.users)

    def written(self) -> fx.GraphModule:
        """Return the whole network; raises where a part has no plain form."""
        for name, tensor in _state(self.source):
            _register(self.root, name, tensor)
        for node in self.source.graph.nodes:
            self._node(node)
        self.graph.lint()
        made = fx.GraphModule(self.root, self.graph, "ExportedNetwork")
        # A trace takes along what its graph names; what is not used keeps its name all the same.
        known = {name for name, _ in _state(made)}
        for name, tensor in _state(self.source):
            if name not in known:
                _register(made, name, tensor)
        made._register_deepcopy_hook(_named)
        return made.eval()

    def _node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.made[node] = self.graph.placeholder(str(node.target))
        elif node.op == "get_attr":
            return  # where they are used, since a layer holds its own
        elif node.op == "call_module":
            if str(node.target) != "_guards_fn":  # which only looks at the shapes of inputs
                raise ValueError(f"a module {node.target}")
        elif node.op == "output":
            values, spec = node.args[0], self.source._out_spec
            leaf = isinstance(spec, pytree.TreeSpec) and spec.is_leaf()
            if not isinstance(values, tuple) or len(values) != 1 or not leaf:
                raise ValueError("more than one tensor is returned")
            self.graph.output(self._of(values[0]))
        else:
            self.made[node] = self._call(node)

    def _of(self, value: Any) -> Any:
        """Return an argument with the nodes that stand for those of the program."""
        return fx.map_arg(value, self._one)

    def _one(self, node: fx.Node) -> fx.Node:
        if node.op == "get_attr":
            return self.graph.get_attr(str(node.target))
        made = self.made[node]
        assert isinstance(made, fx.Node)
        return made

    def _call(self, node: fx.Node) -> fx.Node:
        name = getattr(node.target, "_opname", "")
        if name in ("linear", *_CONVOLUTIONS):
            layer = self._layer(name, node)
            if layer is not None:
                return layer
        args: tuple[Any, ...] = self._of(node.args)
        kwargs = self._of(node.kwargs)
        call = self.graph.call_function
        if name in _METHODS:
            return self.graph.call_method(_METHODS[name], args)
        if name == "slice":
            defaults: tuple[Any, ...] = (0, None, None, 1)
            axis, start, stop, step = (*args[1:], *defaults[len(args) - 1 :])
            index = (*(slice(None) for _ in range(axis)), slice(start, stop, step))
            return call(operator.getitem, (args[0], index))
        if name == "linear":
            return call(functional.linear, args, kwargs)
        if name == "layer_norm":
            return call(functional.layer_norm, args[:5], kwargs)
        if name == "batch_norm":
            values, weight, bias, mean, variance, *rest = args
            return call(functional.batch_norm, (values, mean, variance, weight, bias, *rest[:3]))
        if name == "embedding":
            weight, ids, *rest = args
            padding = rest[0] if rest and rest[0] >= 0 else None
            return call(functional.embedding, (ids, weight, padding))
        if name == "scaled_dot_product_attention":
            return call(functional.scaled_dot_product_attention, args, kwargs)
        target: Any = node.target
        return call(_SAME.get(name, target), args, kwargs)

    def _layer(self, name: str, node: fx.Node) -> fx.Node | None:
        """Return the call of a layer, where weight and bias are its own and nobody else's."""
        weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None
        path = _owner(weight, "weight")
        if path is None or (bias is not None and _owner(bias, "bias") != path):
            return None
        if any(self.uses.get(f"{path}.{part}", 0) > 1 for part in ("weight", "bias")):
            return None
        owner = self.root.get_submodule(path)
        if {key for key, _ in owner.named_parameters()} - {"weight", "bias"}:
            return None
        if next(iter(owner.children()), None) is not None:
            return None
        held = owner.weight
        assert isinstance(held, Tensor)
        layer: nn.Module
        if name == "linear":
            layer = nn.Linear(held.shape[1], held.shape[0], bias is not None, device="meta")
        else:
            defaults: tuple[Any, ...] = (1, 0, 1, 1)
            given: tuple[Any, ...] = node.args[3:]
            stride, padding, dilation, groups = (*given, *defaults[len(given) :])
            make: Callable[..., nn.Module] = _CONVOLUTIONS[name]
            layer = make(
                held.shape[1] * _whole(groups), held.shape[0], tuple(held.shape[2:]), stride,
                padding, dilation, groups, bias is not None, device="meta",
            )  # fmt: skip
        for part, parameter in owner.named_parameters():
            setattr(layer, part, parameter)
        _put(self.root, path, layer)
        return self.graph.call_module(path, (self._of(node.args[0]),))


def _named(module: nn.Module) -> None:
    """Give a copy its name again; every trace has a class of its own."""
    type(module).__name__ = "ExportedNetwork"


def _state(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("a number of groups that is no number")
    return value


def _owner(value: Any, last: str) -> str | None:
    """Return the path of a module whose weight or bias an argument is."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    path, _, name = str(value.target).rpartition(".")
    return path if path and name == last else None


def _register(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Give a tensor its dotted name."""
    *parts, last = name.split(".")
    owner = root
    for part in parts:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(last, tensor)
    else:
        owner.register_buffer(last, tensor)


def _put(root: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, last = path.rpartition(".")
    root.get_submodule(parent).add_module(last, layer)
