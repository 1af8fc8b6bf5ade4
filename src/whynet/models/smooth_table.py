"""Which operations bounds are proven for, by name: the piecewise-linear ones and smooth ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models import smooth_curves as curves
from whynet.models import smooth_operations as smooth
from whynet.models.piecewise_linear import read_steps
from whynet.models.piecewise_linear_operations import Call, Curve, Handler
from whynet.models.piecewise_linear_table import FUNCTIONS, MODULES, REASONS, Table
from whynet.models.step_graph import StepGraph

_CURVES: Final[dict[str, Callable[[Call], Curve]]] = {
    "gelu": smooth.gelu,
    "silu": lambda _: curves.SILU,
    "elu": smooth.elu,
    "selu": smooth.selu,
    "celu": smooth.celu,
    "softplus": smooth.softplus,
    "sigmoid": lambda _: curves.SIGMOID,
    "tanh": lambda _: curves.TANH,
    "softsign": lambda _: curves.SOFTSIGN,
    "erf": lambda _: curves.ERF,
    "sin": lambda _: curves.SINE,
    "cos": lambda _: curves.COSINE,
    "square": lambda _: curves.SQUARE,
    "exp": lambda _: curves.EXPONENTIAL,
    "log": lambda _: curves.LOGARITHM,
    "sqrt": lambda _: curves.ROOT,
    "rsqrt": lambda _: curves.INVERSE_ROOT,
    "reciprocal": lambda _: curves.RECIPROCAL,
}

_MONOTONE = """flatten unflatten reshape view permute transpose swapaxes swapdims movedim squeeze
    unsqueeze contiguous clone expand narrow select mean sum"""

_FUNCTIONS: Final[dict[str, Handler]] = {
    **FUNCTIONS,
    **{name: smooth.monotone(FUNCTIONS[name]) for name in _MONOTONE.split()},
    "add": smooth.monotone(FUNCTIONS["add"], smooth.adds),
    **{name: smooth.curve(choose) for name, choose in _CURVES.items()},
    **dict.fromkeys(("mul", "multiply", "matmul", "bmm"), smooth.multiply),
    **dict.fromkeys(("truediv", "div", "divide"), smooth.divide),
    "pow": smooth.raised,
    "glu": smooth.glu,
    "mish": smooth.mish,
    "logsigmoid": smooth.log_sigmoid,
    "layer_norm": smooth.shape_normalized(True),
    "rms_norm": smooth.shape_normalized(False),
    "group_norm": smooth.group_norm,
    "softmax": smooth.softmax(False),
    "log_softmax": smooth.softmax(True),
    "scaled_dot_product_attention": smooth.attention,
}

_NAMES: Final[dict[str, str]] = {
    "GELU": "gelu",
    "SiLU": "silu",
    "ELU": "elu",
    "SELU": "selu",
    "CELU": "celu",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softsign": "softsign",
    "GLU": "glu",
    "Mish": "mish",
    "LogSigmoid": "logsigmoid",
    "LayerNorm": "layer_norm",
    "RMSNorm": "rms_norm",
    "GroupNorm": "group_norm",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}

_REASONS: Final[dict[str, str]] = {
    **{
        name: "which has no bound here" if "curved" in reason or "divides" in reason else reason
        for name, reason in REASONS.items()
    },
    "multiheadattention": "which is read only where it is written out, with linear layers and "
    "scaled_dot_product_attention",
}

SMOOTH: Final = Table(
    _FUNCTIONS,
    {**MODULES, **{getattr(nn, kind): _FUNCTIONS[name] for kind, name in _NAMES.items()}},
    _REASONS,
    "which is not in whynet's table of operations that bounds are proven for",
)


def bounded_graph(module: nn.Module, example_input: Tensor) -> StepGraph | NotApplicable:
    """Read a network as steps that bounds can be carried through: affine, bent, curved, products.

    Args, assumptions and cost as `whynet.models.piecewise_linear.piecewise_linear_graph`.

    Returns:
        The graph, or the sentence that says which operation has no bound.

    Raises:
        InputError: the example is no finite floating-point tensor.

    """
    if not example_input.is_floating_point() or not bool(example_input.isfinite().all()):
        raise InputError("example_input", f"a tensor of {example_input.dtype}", "finite floats")
    found = read_steps(module, example_input, SMOOTH)
    if isinstance(found, str):
        return NotApplicable(f"No bound is offered for this network: {found}.")
    return found
