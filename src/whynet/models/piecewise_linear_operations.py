"""The operations of a piecewise-linear network: how each is applied and where it bends.

One table, keyed by the name of the operation, serves modules, functions and tensor methods. What
is not in the table is refused: an operation is never guessed to be piecewise linear.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Value = Any
"""What a node holds: a tensor with the points along its first axis, or a tuple of such."""

Apply = Callable[[Sequence[Value]], Value]


@dataclass(frozen=True)
class Slot:
    """Stands in the arguments of an operation where a value that depends on the input goes."""

    position: int


class BatchSize:
    """Stands in the arguments of an operation where the number of points goes."""


BATCH_SIZE = BatchSize()


@dataclass(frozen=True)
class Thresholds:
    """Units that bend where their input crosses a level.

    Attributes:
        levels: each a float, or a float64 tensor that broadcasts against one point's values.

    """

    levels: tuple[float | Tensor, ...]


@dataclass(frozen=True)
class Competitors:
    """Units that are the largest of several values, and bend where the largest changes.

    Attributes:
        gather: inputs to float64 [points, units, competitors], affine in the inputs.
        count: how many competitors a unit has.
        sign: what the output is of the largest: 1, or -1 for a minimum.

    """

    gather: Callable[[Sequence[Value]], Tensor]
    count: int
    sign: int = 1


@dataclass(frozen=True)
class Curve:
    """A smooth function of one number; bends, where they are given, bound its derivatives.

    Attributes:
        name: for a reader.
        value: the function, elementwise, float64.
        slope: its derivative.
        most_bend: ends of intervals to an upper bound of the second derivative's size inside,
            infinite where the function is not defined.
        most_twist: the same of the third derivative; infinite where there is none.
        levels: where the slope jumps.
        error: how far what torch computes may be from `value`, beyond round-off.

    """

    name: str
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    most_bend: Callable[[Tensor, Tensor], Tensor]
    most_twist: Callable[[Tensor, Tensor], Tensor]
    levels: tuple[float, ...] = ()
    error: float = 0.0


@dataclass(frozen=True)
class Product:
    """A sum of products of one entry of the first input with one of the second."""


@dataclass(frozen=True)
class Operation:
    """One operation with its constants bound; piecewise linear where `curved` is None.

    Attributes:
        apply: values of the inputs at any points to the value of the output there.
        spread: squared round-off of the inputs to that of the output: the same operation with
            squared weights (errors taken as independent: Higham and Mary 2019,
            doi:10.1137/18M1226312). Kinks pass it on unchanged: they are 1-Lipschitz.
        bends: where the operation leaves its affine piece; None for an affine operation.
        curved: how it curves, in graphs that bounds are proven on; None in piecewise-linear ones.
        interval: ends of the one input to ends of the output, where that is known.
        carried: whether bounds of the output are worth carrying back; else they are its
            `interval` alone.

    """

    apply: Apply
    spread: Apply
    bends: Thresholds | Competitors | None = None
    curved: Curve | Product | None = None
    interval: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    carried: bool = True


@dataclass(frozen=True)
class Part:
    """One of the operations that a composite one is made of.

    Attributes:
        inputs: places of what it takes: those of the composite first, then the parts before it;
            None for all inputs of the composite.
        operation: it.

    """

    inputs: tuple[int, ...] | None
    operation: Operation


@dataclass(frozen=True)
class Composite:
    """An operation made of several; the last gives its value."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Call:
    """An operation as it stands in a network.

    Attributes:
        args: positional arguments, with a `Slot` for each value that depends on the input.
        kwargs: keyword arguments, the same way.
        probes: a small batch of values for each slot.
        function: what is called.
        module: the module, where it is one.

    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    probes: tuple[Value, ...] = field(repr=False)
    function: Callable[..., Any]
    module: nn.Module | None = None

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument by position or name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def setting(self, name: str, place: int, default: Any, attribute: str = "") -> Any:
        """Return a setting: an attribute of the module, or an argument of the function."""
        if self.module is not None:
            return getattr(self.module, attribute or name)
        return self.argument(place, name, default)

    def run(self, values: Sequence[Value], change: Callable[[Any], Any] | None = None) -> Value:
        """Call the function on values; `change` is applied to constant numbers and tensors."""
        return self.function(
            *fill(self.args, values, change),
            **{key: fill(value, values, change) for key, value in self.kwargs.items()},
        )


def fill(argument: Any, values: Sequence[Value], change: Callable[[Any], Any] | None = None) -> Any:
    """Put values into the slots of an argument, and the number of points for `BATCH_SIZE`."""
    if isinstance(argument, Slot):
        return values[argument.position]
    if isinstance(argument, BatchSize):
        return _first_tensor(values).shape[0]
    if isinstance(argument, tuple | list):
        return type(argument)([fill(item, values, change) for item in argument])
    if isinstance(argument, slice):
        ends = (argument.start, argument.stop, argument.step)
        return slice(*(fill(end, values) for end in ends))
    if isinstance(argument, dict):
        return {key: fill(item, values, change) for key, item in argument.items()}
    if change is not None and isinstance(argument, float | int | Tensor):
        return change(argument)
    return argument


def _first_tensor(values: Iterable[Value]) -> Tensor:
    for value in values:
        return value if isinstance(value, Tensor) else _first_tensor(value)
    raise ValueError("no value to take the number of points from")


Read = Operation | Composite | str
"""The operation of a call, or why there is none: what it does."""

Handler = Callable[[Call], Read]

_EPSILON_2 = 2.0**-104
_PRODUCT = "multiplies two values that both depend on the input"


def same(call: Call) -> Operation:
    """Moves, averages or repeats values: weights between 0 and 1, the same on squared errors."""
    return Operation(call.run, call.run)


def identity(call: Call) -> Operation:
    """Returns its first input: casts between floating types, dropout at rest."""
    return Operation(lambda values: values[0], lambda squares: squares[0])


def dropout(call: Call) -> Operation | str:
    """Read dropout: the identity unless it is active."""
    if call.module is not None:
        active, rate = call.module.training, call.module.p
    else:
        rate, active = call.argument(1, "p", 0.5), call.argument(2, "training", True)
    return "draws at random, because dropout is active" if active and rate else identity(call)


def pad(call: Call) -> Operation:
    """Read `F.pad`; a constant border has no round-off."""
    mode = call.argument(2, "mode", "constant")
    if mode != "constant":
        return same(call)
    widths = call.argument(1, "pad")
    return Operation(call.run, lambda squares: F.pad(squares[0], widths))


def pad_module(call: Call) -> Operation:
    """Read padding by a constant."""
    module: Any = call.module
    return Operation(call.run, lambda squares: F.pad(squares[0], module.padding))


def interpolate(call: Call) -> Operation | str:
    """Read upsampling whose weights lie between 0 and 1."""
    mode = call.module.mode if call.module is not None else call.argument(3, "mode", "nearest")
    if mode == "bicubic":
        return "interpolates by cubic polynomials with negative weights, which whynet does not read"
    return same(call)


def add(call: Call) -> Operation:
    """Read sums and differences of values and constants."""
    alpha = call.kwargs.get("alpha", 1)

    def spread(squares: Sequence[Value]) -> Value:
        first, second = (
            fill(argument, squares, lambda constant: _EPSILON_2 * constant**2)
            for argument in call.args[:2]
        )
        return first + alpha**2 * second

    return Operation(call.run, spread)


def multiply(call: Call) -> Operation | str:
    """Read products, elementwise or of matrices, with constants."""
    if len(call.probes) > 1:
        return _PRODUCT
    return Operation(call.run, lambda squares: call.run(squares, lambda factor: factor**2))


def divide(call: Call) -> Operation | str:
    """Read division by a constant."""
    if not isinstance(call.args[0], Slot) or len(call.probes) > 1:
        return "divides by a value that depends on the input"
    if call.kwargs.get("rounding_mode") is not None:
        return "rounds, which is a jump"
    return multiply(call)


def weighted(function: Callable[..., Tensor]) -> Handler:
    """Make the handler of an operation `function(input, weight, bias, *settings)`."""

    def handler(call: Call) -> Operation | str:
        if call.module is None:
            weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
            if len(call.probes) > 1 or not isinstance(call.args[0], Slot):
                return _PRODUCT
            names = ("input", "weight", "bias")
            rest = {key: value for key, value in call.kwargs.items() if key not in names}
            settings: tuple[Any, ...] = call.args[3:]

            def spread(squares: Sequence[Value]) -> Tensor:
                second = None if bias is None else _EPSILON_2 * bias**2
                return function(squares[0], weight**2, second, *settings, **rest)

            return Operation(call.run, spread)
        return Operation(call.run, _on_squared_parameters(call.module))

    return handler


def _on_squared_parameters(module: Any) -> Apply:
    squares = {"weight": module.weight.detach() ** 2, "bias": None}
    if module.bias is not None:
        squares["bias"] = _EPSILON_2 * module.bias.detach() ** 2
    # A twin of its own: what puts other weights into the module would show in other threads.
    twin = copy.copy(module)
    twin._parameters = {
        name: None if value is None else nn.Parameter(value, requires_grad=False)
        for name, value in squares.items()
    }
    return lambda values: twin(values[0])


def batch_norm_module(call: Call) -> Operation | str:
    """Read BatchNorm in evaluation mode: one factor and one shift a channel."""
    module: Any = call.module
    if module.training:
        return "normalizes by statistics of the batch, because it is in training mode"
    if module.running_mean is None:
        return "normalizes by statistics of the batch, because it keeps no running ones"
    return _batch_norm_operation(
        call, module.running_mean, module.running_var, module.weight, module.bias, module.eps
    )


def batch_norm_function(call: Call) -> Operation | str:
    """Read `F.batch_norm` with given statistics."""
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    if call.argument(5, "training", False) or mean is None:
        return "normalizes by statistics of the batch"
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    return _batch_norm_operation(call, mean, variance, weight, bias, call.argument(7, "eps", 1e-5))


def _batch_norm_operation(
    call: Call, mean: Tensor, variance: Tensor, weight: Any, bias: Any, epsilon: float
) -> Operation:
    shape = (-1, *[1] * (call.probes[0].dim() - 2))
    factor = (1 if weight is None else weight.detach()) / torch.sqrt(variance + epsilon)
    shift = (mean * factor).abs() + (0 if bias is None else bias.detach().abs())
    square, floor = (factor**2).reshape(shape), _EPSILON_2 * (shift**2).reshape(shape)
    return Operation(call.run, lambda squares: squares[0] * square + floor)
