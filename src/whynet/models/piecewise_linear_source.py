"""From what a user hands over to a piecewise-linear graph: a module or a subject, checked."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph, piecewise_linear_graph
from whynet.models.preservation import preserved
from whynet.models.subject import Subject


def graph_from(
    model: nn.Module | Subject, example_input: Tensor, argument: str = "points"
) -> PiecewiseLinearGraph | NotApplicable:
    """Return the piecewise-linear graph of a module, read in evaluation mode, or of a subject.

    Args:
        model: a network, which is copied and left as it is, or a subject, which has its graph.
        example_input: one input, [*input_shape]; only its shape and scale matter.
        argument: how the caller calls what it is taken from.

    Returns:
        The graph in float64, or the sentence that says what is not piecewise linear.

    Raises:
        InputError: `model` is neither, its weights are not finite, or inputs of this shape do not
            fit it.

    Cost: as `piecewise_linear_graph`.

    """
    if isinstance(model, Subject):
        graph = model.graph
        if isinstance(graph, PiecewiseLinearGraph) and graph.input_shape != example_input.shape:
            raise InputError(
                argument, f"points of shape {list(example_input.shape)}",
                f"inputs of the network, of shape {list(graph.input_shape)}",
            )  # fmt: skip
        return graph
    if not isinstance(model, nn.Module):
        raise InputError("model", f"a {type(model).__name__}", "an nn.Module or a whynet.Subject")
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
            raise InputError("model", f"values in {name!r} that are not finite", "finite weights")
    with preserved():
        twin = copy.deepcopy(model).cpu().eval()
        first = next(twin.parameters(), torch.zeros((), dtype=torch.float64))
        if not first.is_floating_point():
            first = torch.zeros((), dtype=torch.float64)
        try:
            with torch.no_grad():
                twin(example_input[None].to(first.dtype))
        except Exception as error:
            words = str(error).strip().splitlines()[:1]
            raise InputError(
                argument,
                f"points of shape {list(example_input.shape)}, on which the network raises "
                f"{type(error).__name__}: {words[0] if words else 'no message'}".rstrip("."),
                "points of the shape of one input",
            ) from error
        return piecewise_linear_graph(twin, example_input.double())
