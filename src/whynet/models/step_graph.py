"""A network as a sequence of steps in float64: what every reading of a traced network returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whynet.models.piecewise_linear_operations import Curve, Operation, Thresholds, Value


@dataclass(frozen=True)
class Step:
    """One operation of the graph.

    Attributes:
        name: module path and operation, for a reader.
        inputs: indices of the values it takes; 0 is the input of the network.
        output: index of the value it makes.
        operation: how it is applied and where it bends.
        last_use: indices of the values that no later step takes.

    """

    name: str
    inputs: tuple[int, ...]
    output: int
    operation: Operation
    last_use: tuple[int, ...]


@dataclass(frozen=True)
class StepGraph:
    """A network in float64, step by step.

    Attributes:
        steps: the operations in order.
        output: index of the value that the network returns.
        input_shape: shape of one input.
        output_shape: shape of one output.
        widest: most numbers that one point needs at any step, for bounding memory.
        units: piecewise-linear units: the ways in which an activation pattern can change.

    """

    steps: tuple[Step, ...]
    output: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    widest: int
    units: int

    @torch.no_grad()
    def evaluate(self, points: Tensor) -> Tensor:
        """Return the outputs, float64 [N, *output_shape], at `points`, [N, *input_shape]."""
        result = points.double()
        for index, value in self.values(result):
            if index == self.output:
                result = value
        return result

    def values(self, points: Tensor) -> Iterator[tuple[int, Value]]:
        """Yield index and value of every node at `points`, dropping what is not needed again."""
        alive: dict[int, Value] = {0: points}
        yield 0, points
        for step in self.steps:
            made = step.operation.apply([alive[index] for index in step.inputs])
            alive[step.output] = made
            yield step.output, made
            for index in step.last_use:
                alive.pop(index, None)


def is_affine(step: Step) -> bool:
    """Whether a step neither bends nor curves."""
    return step.operation.bends is None and step.operation.curved is None


def is_elementwise(step: Step) -> bool:
    """Whether a step is made of units that take one number each."""
    return isinstance(step.operation.bends, Thresholds) or isinstance(step.operation.curved, Curve)


def curved_operations(graph: StepGraph) -> tuple[str, ...]:
    """Return the names of what curves: of functions, and `product`; none if piecewise linear."""
    held = [step.operation.curved for step in graph.steps if step.operation.curved is not None]
    return tuple(sorted({c.name if isinstance(c, Curve) else "product" for c in held}))


def carried_back(graph: StepGraph) -> set[int]:
    """Return the values whose bounds take a pass back for each of their entries and points.

    Values that are affine in the input are not among them: one pass serves all points.
    """
    steps = {step.output: step for step in whole_steps(graph)}
    affine = {0}
    for output, made in steps.items():
        if is_affine(made) and affine.issuperset(made.inputs):
            affine.add(output)
    found: set[int] = set()
    wanted = [i for step in steps.values() if not is_affine(step) for i in step.inputs]
    while wanted:
        index = wanted.pop()
        step = steps.get(index)
        if step is not None and (is_elementwise(step) or not step.operation.carried):
            # What enters units is wanted already; what an interval is made from is not.
            wanted += [] if is_elementwise(step) else step.inputs
        else:
            found.add(index)
    return found - affine


def whole_steps(graph: StepGraph) -> list[Step]:
    """Return steps that take and make one tensor each: what takes a tuple makes it too."""
    point = torch.zeros(1, *graph.input_shape, dtype=torch.float64)
    with torch.no_grad():
        split = {index for index, value in graph.values(point) if not isinstance(value, Tensor)}
    made: dict[int, Step] = {}
    for step in graph.steps:
        whole = _with_tuples(step, made, split)
        made[step.output] = whole
    return [step for step in made.values() if step.output not in split]


def _with_tuples(step: Step, made: dict[int, Step], split: set[int]) -> Step:
    if not split & set(step.inputs):
        return step
    inputs: list[int] = []
    places = []
    for index in step.inputs:
        taken = made[index].inputs if index in split else (index,)
        places.append((made[index] if index in split else None, len(inputs), len(taken)))
        inputs += taken

    def apply(values: Sequence[Value]) -> Value:
        given = [
            values[begin] if maker is None else maker.operation.apply(values[begin : begin + count])
            for maker, begin, count in places
        ]
        return step.operation.apply(given)

    operation = replace(step.operation, apply=apply, interval=None)
    return replace(step, inputs=tuple(inputs), operation=operation)
