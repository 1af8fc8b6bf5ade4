"""Where a forward pass uses its trainable parameters, seen call by call.

A `torch` function that reads a parameter in one of the ways known here (dense layers, convolutions,
tables of embeddings, scales and shifts) leaves a record of what entered and of what left; any other
use of a parameter is noted, so that its gradient can be taken by plain automatic differentiation.
Functions are watched instead of modules: a weight is seen wherever it is used, also by
`functional.linear`, twice, tied, transposed or times a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter

from whynet.derivatives.attention_uses import PROJECTIONS, attention, attention_arguments
from whynet.derivatives.recurrent_uses import CELLS, STEPS, recurrent

Kind = Literal["dense", "convolution", "table", "scale", "shift"]

Key = tuple[Kind, tuple[str | None, ...], int]
"""What a use must be at every call: kind, names of weight and bias, dimensions of its output."""


@dataclass(frozen=True)
class Reading:
    """A parameter as it is read: times a number, perhaps transposed.

    Attributes:
        name: of the parameter.
        factor: what it is multiplied by.
        transposed: whether its two axes are exchanged.
        tensor: what is read.

    """

    name: str
    factor: float
    transposed: bool
    tensor: Tensor


@dataclass(frozen=True)
class Use:
    """One use of trainable parameters.

    Attributes:
        kind: `dense` maps `[..., features]` by a matrix; `table` looks rows up; `scale` and `shift`
            multiply or add, broadcast.
        weight: matrix, kernel, table, scale or shift; None where it is not trained.
        bias: what is added per unit; None where there is none or it is not trained.
        entering: what is multiplied, or the numbers that are looked up; None for a shift.
        leaving: the output, in the graph.
        settings: stride, padding, dilation and groups of a convolution; of a table the row that
            takes no part in gradients, where there is one.
        view: shape of scale and shift against the output; of others empty.

    """

    kind: Kind
    weight: Reading | None
    bias: Reading | None
    entering: Tensor | None
    leaving: Tensor
    settings: tuple[tuple[int, ...], ...] = ()
    view: tuple[int, ...] = ()

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The trained parameters that are read."""
        return tuple(r for r in (self.weight, self.bias) if r is not None)

    @property
    def key(self) -> Key:
        """What must be the same at every call of the network."""
        names = tuple(None if r is None else r.name for r in (self.weight, self.bias))
        return self.kind, names, self.leaving.ndim


class Watch(TorchFunctionMode):
    """Records the uses of parameters while it is entered.

    Args:
        parameters: the tensors that the network is called with, by name; they should not require
            gradients, so that the graph starts at the outputs that are recorded.
        rows: of the batch. What is looked up once for all rows, such as positions, is spread over
            them, so that each has a place of its own in the graph.

    Attributes:
        uses: in the order of the calls.
        others: names of parameters that are used in a way that is not known here.

    """

    def __init__(self, parameters: Mapping[str, Tensor], rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.uses: list[Use] = []
        self.others: set[str] = set()
        self._readings = {id(t): Reading(n, 1.0, False, t) for n, t in parameters.items()}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function and record the parameters that it reads."""
        kwargs = kwargs or {}
        read = [r for r in map(self.reading, tree_iter((args, kwargs))) if r is not None]
        if not read:
            return func(*args, **kwargs)
        if func in _KNOWN:
            bound = _arguments(func, args, kwargs)
            use = None if bound is None else _KNOWN[func](self, func, bound)
            if use is not None:
                return self._kept(use)
        apart = self._apart(func, args, kwargs)
        if apart is not None:
            return apart
        found = func(*args, **kwargs)
        if func in _FACTORS or func in _TRANSPOSED:
            alias = _alias(self, func, args, kwargs, found)
            if alias is not None:
                self._readings[id(found)] = alias
                return found
        if any(isinstance(t, Tensor) and t.is_floating_point() for t in tree_iter(found)):
            self.others |= {one.name for one in read}
        return found

    def reading(self, value: object) -> Reading | None:
        """Return what is read where a value is a parameter or a multiple of one."""
        return self._readings.get(id(value)) if isinstance(value, Tensor) else None

    def _apart(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call a function that applies many matrices one by one; None of all others."""
        if (func in STEPS or func in CELLS) and not kwargs:
            if any(self.reading(value) is not None for value in tree_iter(args[:2])):
                return None
            return recurrent(func, args, self._linear)
        if func is not functional.multi_head_attention_forward:
            return None
        given = attention_arguments(args, kwargs)
        others = [value for name, value in given.items() if name not in PROJECTIONS]
        if any(self.reading(value) is not None for value in others):
            return None
        return attention(given, self._linear)

    def _linear(self, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        use = _dense(self, functional.linear, {"input": rows, "weight": weight, "bias": bias})
        assert use is not None
        return self._kept(use) if use.readings else use.leaving

    def _kept(self, use: Use) -> Tensor:
        if use.kind == "table" and use.leaving.ndim > 1 and len(use.leaving) == 1 < self.rows:
            assert use.entering is not None
            use = replace(
                use,
                entering=use.entering.expand(self.rows, *use.entering.shape[1:]),
                leaving=use.leaving.expand(self.rows, *use.leaving.shape[1:]).clone(),
            )
        if not use.leaving.requires_grad:
            use.leaving.requires_grad_()
        self.uses.append(use)
        return use.leaving.clone()  # what follows may work in place


_Bound = dict[str, Any]
_Handler = Callable[[Watch, Any, _Bound], Use | None]


def _arguments(func: Any, args: Any, kwargs: Mapping[str, Any]) -> _Bound | None:
    """Name positional arguments; None where there are more than are known."""
    names = _NAMES[func]
    if len(args) > len(names):
        return None
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def _same(value: Any) -> Any:
    """Detach what enters: its graph is of no use, and it may be changed later."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def _dense(watch: Watch, func: Any, given: _Bound) -> Use | None:
    x, w, b = given.get("input"), given.get("weight"), given.get("bias")
    if func in (torch.addmm, Tensor.addmm) and given.keys() - {"input", "weight", "bias"}:
        return None
    weight, bias = watch.reading(w), watch.reading(b)
    if watch.reading(x) is not None or not isinstance(x, Tensor) or x.ndim < 2:
        return None
    if not isinstance(w, Tensor) or w.ndim != 2 or (bias is not None and bias.tensor.ndim != 1):
        return None
    call: tuple[Any, ...] = (b, x, w) if func in (torch.addmm, Tensor.addmm) else (x, w, b)
    if func not in _LINEAR:
        if func not in (torch.addmm, Tensor.addmm):
            call = (x, w)
        if weight is not None:
            weight = replace(weight, transposed=not weight.transposed)
    return Use("dense", weight, bias, _same(x), func(*call))


def _convolution(watch: Watch, func: Any, given: _Bound) -> Use | None:
    x, w, b = given["input"], given["weight"], given.get("bias")
    weight, bias = watch.reading(w), watch.reading(b)
    spatial = w.ndim - 2
    if x.ndim != w.ndim or watch.reading(x) is not None:
        return None
    if weight is not None and (weight.transposed or weight.factor != 1.0):
        return None
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        if padding != "valid":
            return None
        padding = 0
    settings = tuple(
        _many(value, spatial)
        for value in (given.get("stride", 1), padding, given.get("dilation", 1))
    )
    settings = (*settings, (int(given.get("groups", 1)),))
    return Use("convolution", weight, bias, _same(x), func(**given), settings)


def _many(value: Any, count: int) -> tuple[int, ...]:
    many = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return many * count if len(many) == 1 else many


def _table(watch: Watch, func: Any, given: _Bound) -> Use | None:
    weight = watch.reading(given["weight"])
    barred = given.get("max_norm") is not None or given.get("scale_grad_by_freq", False)
    if weight is None or weight.transposed or barred:
        return None
    pad = given.get("padding_idx")  # its row takes no part in gradients
    settings = () if pad is None else ((int(pad) % len(weight.tensor),),)
    return Use("table", weight, None, _same(given["input"]), func(**given), settings)


def _normalized(watch: Watch, func: Any, given: _Bound) -> Use | None:
    """Scale and shift after a normalization, whose statistics hang on no parameter."""
    x, w, b = given["input"], given.get("weight"), given.get("bias")
    weight, bias = watch.reading(w), watch.reading(b)
    if given.get("training", False) or watch.reading(x) is not None:
        return None
    plain = func(**{**given, "weight": None, "bias": None}) if "bias" in _NAMES[func] else None
    if plain is None:
        plain = func(**{**given, "weight": None})
    channels = func in (functional.batch_norm, functional.group_norm)
    held: Tensor = w if isinstance(w, Tensor) else given["bias"]
    shape = held.shape
    view = (1, shape[0], *(1,) * (x.ndim - 2)) if channels else (1,) * (x.ndim - len(shape)) + shape
    scaled = plain if w is None else plain * w.reshape(view)
    leaving = scaled if b is None else scaled + b.reshape(view)
    return Use("scale", weight, bias, _same(plain), leaving, view=tuple(view))


def _elementwise(watch: Watch, func: Any, given: _Bound) -> Use | None:
    """Scale or shift by a parameter that is broadcast against the rest."""
    one, two = given["input"], given["other"]
    if given.keys() - {"input", "other"} or not isinstance(one, Tensor):
        return None
    weight, other = watch.reading(two), one
    if weight is None:
        weight, other = watch.reading(one), two
    adds = func in _ADDS
    if not isinstance(other, Tensor) or watch.reading(other) is not None or weight is None:
        return None
    if weight.transposed or weight.factor != 1.0:
        return None
    leaving = func(one, two)
    shape = weight.tensor.shape
    if leaving.shape != other.shape or len(shape) > leaving.ndim:
        return None
    view = (1,) * (leaving.ndim - len(shape)) + tuple(shape)
    entering = None if adds else _same(other)
    return Use("shift" if adds else "scale", weight, None, entering, leaving, view=view)


def _spread(watch: Watch, func: Any, given: _Bound) -> Use | None:
    """A parameter of one row that is repeated for every row, such as a token of the class."""
    weight = watch.reading(given["input"])
    if weight is None or weight.transposed or weight.factor != 1.0 or len(given) < 2:
        return None
    leaving = given["input"].expand(*(given[name] for name in _SIZES if name in given))
    shape = tuple(weight.tensor.shape)
    if leaving.ndim != len(shape) or shape[0] != 1 or leaving.shape[1:] != shape[1:]:
        return None
    return Use("shift", weight, None, None, leaving.clone(), view=shape)


def _alias(
    watch: Watch, func: Any, args: Any, kwargs: Mapping[str, Any], found: Tensor
) -> Reading | None:
    """Follow a parameter that is transposed or multiplied by a number."""
    if kwargs or not args:
        return None
    held = watch.reading(args[0])
    if func in _TRANSPOSED:
        if held is None or len(args) > 1 or found.ndim != 2:
            return None
        return replace(held, transposed=not held.transposed, tensor=found)
    if held is None and func not in _DIVIDES:
        held, args = watch.reading(args[1]), args[::-1]
    if held is None or len(args) != 2 or not isinstance(args[1], (int, float)):
        return None
    factor = 1 / args[1] if func in _DIVIDES else float(args[1])
    return replace(held, factor=held.factor * factor, tensor=found)


_SIZES = ("first", "second", "third", "fourth", "fifth")
_LINEAR = (functional.linear,)
_MATRIX = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm)
_ADDS = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.add_)
_TIMES = (torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)
_DIVIDES = (torch.div, Tensor.div, Tensor.__truediv__)
_FACTORS = (*_TIMES, *_DIVIDES)
_TRANSPOSED = (torch.t, Tensor.t, *(getattr(Tensor, name).__get__ for name in ("T", "mT")))
_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_NORMALIZATIONS: dict[Any, tuple[str, ...]] = {
    functional.layer_norm: ("input", "normalized_shape", "weight", "bias", "eps"),
    functional.rms_norm: ("input", "normalized_shape", "weight", "eps"),
    functional.group_norm: ("input", "num_groups", "weight", "bias", "eps"),
    functional.batch_norm: (
        "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
    ),
}  # fmt: skip
_LOOKUP = (
    "input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse",
)  # fmt: skip

_NAMES: dict[Any, tuple[str, ...]] = {
    functional.linear: ("input", "weight", "bias"),
    torch.addmm: ("bias", "input", "weight"),
    Tensor.addmm: ("bias", "input", "weight"),
    **dict.fromkeys(_MATRIX, ("input", "weight")),
    **dict.fromkeys(
        _CONVOLUTIONS, ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    ),
    functional.embedding: _LOOKUP,
    **_NORMALIZATIONS,
    **dict.fromkeys((*_ADDS, *_TIMES), ("input", "other")),
    Tensor.expand: ("input", *_SIZES),
}

_KNOWN: dict[Any, _Handler] = {
    functional.linear: _dense,
    torch.addmm: _dense,
    Tensor.addmm: _dense,
    **dict.fromkeys(_MATRIX, _dense),
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    functional.embedding: _table,
    **dict.fromkeys(_NORMALIZATIONS, _normalized),
    **dict.fromkeys((*_ADDS, *_TIMES), _elementwise),
    Tensor.expand: _spread,
}
